"""Start the server: one model, one port, one or several workers."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from deployments import environment
from deployments.serving import beside
from deployments.serving.supervisor import FOLDER, Supervisor
from tasks.config import Config, load

if TYPE_CHECKING:
    from deployments.serving.rsgi import Rsgi

# One thread a worker: parallelism is over workers, and small batches get slower with more.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_KEEP_ALIVE = 75  # seconds: longer than proxies keep idle connections, which is 60 s
_DRAIN = 15  # seconds that a worker has for what it is answering and for its telemetry
_COLLECT = (10_000, 50, 50)  # objects more, young and middle collections, between collections
_SWITCH = 0.0005  # seconds that requests wait at most while telemetry is written
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
    beside.require(config)
    environment.prepare()
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    os.environ["EVERFIT_CONFIG"] = str(Path(config_path).expanduser().resolve())
    os.environ["EVERFIT_OVERRIDES"] = json.dumps(overrides)
    supervise(config, _worker, log_level)


def supervise(
    config: Config, worker: Callable[[], Rsgi], log_level: str = "warning", *, sample: float = 5.0
) -> None:
    """Run the config's workers, each with what `worker` gives it, until SIGTERM or Ctrl-C.

    `sample` is the time in seconds between two looks at their memory.
    """
    folder = tempfile.mkdtemp(prefix="everfit-workers-")  # what workers tell; of this run only
    places = {FOLDER: folder}
    if config.serving.workers > 1:  # where workers add up their metrics
        places["PROMETHEUS_MULTIPROC_DIR"] = os.path.join(folder, "metrics")
        os.mkdir(places["PROMETHEUS_MULTIPROC_DIR"])
    os.environ.update(places)
    try:
        _server(config, Path(folder), log_level, sample).serve(
            target_loader=worker, wrap_loader=False
        )
    finally:
        for name in places:
            os.environ.pop(name, None)
        shutil.rmtree(folder, ignore_errors=True)


def _server(config: Config, folder: Path, log_level: str, sample: float) -> Supervisor:
    memory = config.serving.memory_mb
    return Supervisor(
        "everfit",
        folder=folder,
        hang_seconds=config.serving.hang_seconds,
        workers_max_rss=None if memory is None else int(memory),
        rss_sample_interval=sample,
        address=config.serving.host,
        port=config.serving.port,
        interface=Interfaces.RSGI,
        workers=config.serving.workers,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_KEEP_ALIVE * 1000),
        websockets=False,
        backlog=1024,
        backpressure=_CONNECTIONS,
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
    # A forked worker has its parent's handler, which would swallow a signal until granian has set
    # its own: whoever is told to end while it starts has answered nothing, and may end at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from deployments.serving.app import from_environment

    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    application = from_environment()
    # What is loaded by now stays, and requests leave few cycles: looking through all of it again
    # and again would take a tenth of the time, and stop everything for 70 ms now and then. Models
    # are loaded later, so that those that were replaced are found.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    sys.setswitchinterval(_SWITCH)
    return application


def _end_with_parent() -> None:
    """A worker whose supervisor was killed would hold the port for ever: it ends in good order."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        logging.getLogger(__name__).error("the supervisor is gone: this worker ends")
        os.kill(os.getpid(), signal.SIGTERM)
