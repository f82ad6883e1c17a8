"""Start the server: one model, one port, one or several workers."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from deployments import environment
from tasks.config import Config, load

if TYPE_CHECKING:
    from deployments.serving.rsgi import Rsgi

# One thread a worker: parallelism is over workers, and small batches get slower with more.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_KEEP_ALIVE = 75  # seconds: longer than proxies keep idle connections, which is 60 s
_DRAIN = 15  # seconds that a worker has for what it is answering and for its telemetry
_CONNECTIONS = 4096  # of a worker; further ones wait in the backlog


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
        _server(config, log_level).serve(target_loader=_worker, wrap_loader=False)
    finally:
        if counters:
            os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
            shutil.rmtree(counters, ignore_errors=True)


def _server(config: Config, log_level: str) -> Granian:
    return Granian(
        "everfit",
        address=config.serving.host,
        port=config.serving.port,
        interface=Interfaces.RSGI,
        workers=config.serving.workers,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_KEEP_ALIVE * 1000),
        websockets=False,
        backlog=1024,
        backpressure=_CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=_DRAIN,
        log_level=LogLevels(log_level),
        log_dictconfig=_TO_STDERR,
    )


_TO_STDERR = {  # granian's own goes to standard output
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        }
    },
    "loggers": {"_granian": {"handlers": ["console"], "propagate": False}},
}


def _worker() -> Rsgi:
    """What granian loads in each worker."""
    from deployments.serving.app import from_environment

    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return from_environment()


def _end_with_parent() -> None:
    """A worker whose supervisor was killed would hold the port for ever: it ends in good order."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        logging.getLogger(__name__).error("the supervisor is gone: this worker ends")
        os.kill(os.getpid(), signal.SIGTERM)
