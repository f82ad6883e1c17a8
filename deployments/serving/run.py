"""Start the server: one model, one port, one or several workers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from deployments import environment
from tasks.config import load

_APPLICATION = "deployments.serving.app:from_environment"
# One thread a worker: parallelism is over workers, and small batches get slower with more.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def serve(
    config_path: str | Path,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    *,
    runs: str | Path | None = None,
    log_level: str = "warning",
) -> None:
    """Serve the config's model until SIGTERM or Ctrl-C; running requests are finished first.

    `host`, `port`, `workers` and `runs` win over the config. Workers share the port, are started
    anew when they die, and each follows the champion by itself. Raises ConfigFault.
    """
    import uvicorn

    overrides: dict[str, Any] = {
        "serving__host": host,
        "serving__port": port,
        "serving__workers": workers,
        "runs": runs and str(Path(runs).expanduser().resolve()),
    }
    overrides = {key: value for key, value in overrides.items() if value is not None}
    config = load(config_path, **overrides)
    environment.prepare()
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    os.environ["EVERFIT_CONFIG"] = str(Path(config_path).expanduser().resolve())
    os.environ["EVERFIT_OVERRIDES"] = json.dumps(overrides)
    counters: str | None = None
    if config.serving.workers > 1:  # where workers add up their metrics; of this run only
        counters = tempfile.mkdtemp(prefix="everfit-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counters
    try:
        uvicorn.run(
            _APPLICATION,
            factory=True,
            host=config.serving.host,
            port=config.serving.port,
            workers=config.serving.workers,
            log_level=log_level,
            access_log=False,  # /metrics counts requests
            server_header=False,
            ws="none",
            timeout_keep_alive=75,  # longer than proxies keep idle connections, which is 60 s
            timeout_graceful_shutdown=10,
        )
    finally:
        if counters:
            os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
            shutil.rmtree(counters, ignore_errors=True)
