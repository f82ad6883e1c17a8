"""Start the server: one model, one port, one or several workers."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments import environment
from deployments.serving import beside, recorder
from deployments.serving.balance import Share
from deployments.serving.supervisor import FOLDER, Supervisor, end_with_parent, listen
from tasks.config import Config, ConfigFault, load

if TYPE_CHECKING:
    from deployments.serving.worker import Worker

# One thread a worker: parallelism is over workers, and small batches get slower with more.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

DRAIN = 15.0  # seconds that a worker has for what it is answering and for its telemetry


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
    beside.require(config)
    environment.prepare()
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    os.environ["EVERFIT_CONFIG"] = str(Path(config_path).expanduser().resolve())
    os.environ["EVERFIT_OVERRIDES"] = json.dumps(overrides)
    supervise(config, _worker, log_level)


def supervise(
    config: Config, worker: Callable[[], Worker], log_level: str = "warning", *, sample: float = 5.0
) -> None:
    """Run the config's workers, each with what `worker` gives it, until SIGTERM or Ctrl-C.

    `sample` is the time in seconds between two looks at their memory. Raises ConfigFault when the
    address cannot be listened on.
    """
    logging.getLogger("deployments.serving").setLevel(log_level.upper())
    try:
        listening = listen(config.serving.host, config.serving.port)
    except OSError as fault:
        raise ConfigFault(
            f"serving.host and serving.port are an address that is free, got {config.serving.host}:"
            f"{config.serving.port} ({fault.strerror or fault}): end what listens there, or name "
            "another port"
        ) from None
    folder = tempfile.mkdtemp(prefix="everfit-workers-")  # what workers tell; of this run only
    places = {FOLDER: folder}
    workers = config.serving.workers
    share = Path(folder, "share") if workers > 1 else None
    if share is not None:
        Share.prepare(share, workers)
        # where workers add up their metrics
        places["PROMETHEUS_MULTIPROC_DIR"] = os.path.join(folder, "metrics")
        os.mkdir(places["PROMETHEUS_MULTIPROC_DIR"])
    os.environ.update(places)
    place = recorder.address(folder)
    try:
        Supervisor(
            listening,
            functools.partial(_work, worker, share, workers),
            workers=workers,
            folder=Path(folder),
            hang_seconds=config.serving.hang_seconds,
            drain=DRAIN,
            memory_mb=config.serving.memory_mb,
            sample=sample,
            share=share,
            helpers={"recorder": functools.partial(recorder.run, config, place)} if place else {},
        ).serve()
    finally:
        for name in places:
            os.environ.pop(name, None)
        shutil.rmtree(folder, ignore_errors=True)


def _work(
    worker: Callable[[], Worker],
    share: Path | None,
    workers: int,
    number: int,
    listening: socket.socket,
) -> None:
    """What a worker's process does."""
    end_with_parent()
    worker().run(listening, Share(share, number, workers))


def _worker() -> Worker:
    """The application, as `serve` has left it in the environment."""
    from deployments.serving.app import from_environment

    return from_environment()
