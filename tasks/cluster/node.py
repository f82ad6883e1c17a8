"""What runs at the other end: one trial, read from the shared folder and written back to it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.cluster.store import ClusterFault, Mark, Store, write

_ALIKE = ("numpy", "scikit-learn", "torch", "pandas")  # of one version, for equal trials


@task(cache_policy=NO_CACHE, task_run_name="trial-{number}", persist_result=False)
def trial(retrain: str, token: str, number: int, attempt: int, importable: str = "") -> int:
    """Try what stands in `retrain` under `number`; the record is written there, the number told.

    importable: the folder of the user's own trainer. Raises ClusterFault where this node lacks
    something that all trials need; a trial's own fault is in its record.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the first OpenMP library is loaded
    host = socket.gethostname()
    store = Store(Path(retrain))
    job = store.job(token, host)
    if store.result(number) is not None:
        return number  # tried before, by a node that was thought lost
    if importable and importable not in sys.path:
        sys.path.append(importable)
    with store.beating(number, Mark(attempt, host, os.getpid(), 0, _worker())):
        from models.threads import one_thread
        from tasks import fitting

        ask = store.ask(number)
        judge = store.judge(ask)
        with one_thread():
            fitting.prepare(job, alone=True)
            outcome = fitting.fit(job, ask.params, number, ask.seconds, judge)
        store.put_result(outcome)
    return number


def probe(
    retrain: str, token: str, flow: str, api: str, importable: str, trainer: str | None
) -> list[str]:
    """What this node lacks to run trials, each with its remedy; nothing: it is ready for them.

    For the driver to see, it writes a file of its own into the shared folder.
    """
    host, found = socket.gethostname(), []
    store = Store(Path(retrain))
    try:
        store.job(token, host)
    except ClusterFault as fault:
        return [str(fault)]
    try:
        write(store.folder / f"seen-{host}-{os.getpid()}.json", {"host": host})
    except OSError as fault:
        found.append(f"every node writes its trials to {store.folder}, and {host} cannot: {fault}")
    if api and (lack := _unreached(api)):
        found.append(
            f"every node tells Prefect of its trials, and {host} does not reach {api} ({lack}): "
            "name a server that all nodes reach with PREFECT_API_URL"
        )
    if trainer:
        if importable and importable not in sys.path:
            sys.path.append(importable)
        module = trainer.partition(":")[0]
        try:
            importlib.import_module(module)
        except Exception as fault:  # the user's module may raise anything
            found.append(
                f"every node imports the trainer, and {host} cannot import {module} from "
                f"{importable or 'its packages'} ({fault!r}): bring it there"
            )
    if not found:
        ready(retrain, token, flow)
    return found


def ready(retrain: str, token: str, flow: str) -> None:
    """Import and encode what trials need, so that the first ones need not wait for it.

    flow: the module of the flow in whose name Prefect runs them.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tasks import fitting

    with suppress(ImportError):
        importlib.import_module(flow)
    fitting.prepare(Store(Path(retrain)).job(token, socket.gethostname()), alone=True)


@task(cache_policy=NO_CACHE, task_run_name="process-{place}-is-ready", persist_result=False)
def ready_task(retrain: str, token: str, flow: str, place: int) -> int:
    """`ready`, where only tasks can be sent."""
    ready(retrain, token, flow)
    return place


def versions() -> dict[str, str]:
    """Of what must agree between nodes for equal seeds to give equal trials."""
    known = {name: importlib.metadata.version(name) for name in _ALIKE}
    return {"python": platform.python_version(), **known}


def _unreached(api: str) -> str:
    import httpx

    try:
        httpx.get(f"{api.rstrip('/')}/health", timeout=10.0).raise_for_status()
    except Exception as fault:  # of the network, or of what else answers there
        return str(fault) or type(fault).__name__
    return ""


def _worker() -> str:
    """The address by which Dask knows the worker that runs this; '' elsewhere."""
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return ""
    try:
        return str(distributed.get_worker().address)
    except ValueError:
        return ""
