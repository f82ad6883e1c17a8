"""What a struck process does: one flow of the product, in a process of its own.

The processes are forked from a server that has imported everything, so that each starts in a
moment; what they do is what the commands do.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from deployments.drill.points import Point, arm, killed, wrap

_PRELOADED = (
    "flows.reconcile",
    "flows.watch",
    "models.registry",
    "models.training",
    "models.families",
    "models.gate",
    "models.bundle",
    "models.families.logistic",
    "models.onnx.export",
    "models.pyfunc",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "evidently",
    "monitoring.measure",
    "monitoring.picture",
    "monitoring.reports.columns",
    "monitoring.reports.signal",
    "monitoring.reports.workspace",
    "onnxruntime",
    "skops.io",
    "tasks.evidence",
    "tasks.pictures",
    "tasks.tuning_pictures",
)
STARTED, NOTED = "started", "noted"


@dataclass(frozen=True, slots=True)
class Job:
    """One process: which flow, as of when, and where it is struck."""

    config: Path
    flow: str  # watch, reconcile or rollback
    now: datetime
    log: Path  # what it prints
    trials: Path  # a line for each start of a trial, and for each end that was noted
    point: Point | None = None
    action: str = "kill"  # or fill: the disk of the runs; or wait: until it is told to go on
    env: Mapping[str, str] = field(default_factory=dict)
    host: str = ""  # that it takes itself to run on, with no lock in common with this one


def server() -> ForkServerContext:
    """The context from which jobs are started; the environment is that of the first start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deployments.drill.preload"])
    return context


def start(context: ForkServerContext, job: Job) -> ForkServerProcess:
    process = context.Process(target=run, args=(job,), daemon=False)
    process.start()
    return process


def run(job: Job) -> None:
    """In the forked process."""
    out = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(job.env)
    _count_trials(job.trials)
    if job.host:
        _elsewhere(job.host)
    if job.point is not None:
        arm(job.point, _ACTIONS[job.action](job))
    try:
        asyncio.run(_FLOWS[job.flow](job))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a thread that waits for a server that is gone must not keep it
    os._exit(0)


def _elsewhere(host: str) -> None:
    """As on another machine: the processes of this one cannot be looked at, its file locks neither.

    The registry's lock stays: two machines share it as a lock of the database.
    """
    import socket

    from tasks import reconcile

    socket.gethostname = lambda: host
    reconcile.alone = lambda _config: nullcontext(True)  # type: ignore[assignment]


def _kill(_job: Job) -> Callable[[], None]:
    return killed


def _fill(job: Job) -> Callable[[], None]:
    """Leave no room on the disk of the runs; `unfill` gives it back."""

    def full() -> None:
        with (job.config.parent / "ballast").open("wb", buffering=0) as ballast:
            for size in (1 << 16, 1 << 10, 1):
                try:
                    while True:
                        ballast.write(b"\0" * size)
                except OSError:
                    continue

    return full


def _wait(job: Job) -> Callable[[], None]:
    """Say that the point is reached, and wait until whoever looks has done something."""

    def waiting() -> None:
        reached(job).touch()
        while not go_on(job).exists():
            time.sleep(0.02)

    return waiting


def reached(job: Job) -> Path:
    return job.config.parent / "reached"


def go_on(job: Job) -> Path:
    return job.config.parent / "go-on"


_ACTIONS = {"kill": _kill, "fill": _fill, "wait": _wait}


def _count_trials(place: Path) -> None:
    def note(what: str, number: Any) -> None:
        with place.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, number]) + "\n")

    def noted(call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        result = call()
        note(NOTED, arguments[1].number)
        return result

    def asked(call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        note(STARTED, arguments[1])
        return call()

    wrap("tasks.journal:Journal.ended", noted)
    wrap("tasks.journal:Journal.asked", asked)


async def _watch(job: Job) -> None:
    from flows.watch import watch
    from tasks.config import load

    await watch(load(job.config), now=job.now)


async def _train(job: Job) -> None:
    from flows.retrain import retrain
    from tasks.config import load

    await retrain(load(job.config), "first", job.now)


async def _reconcile(job: Job) -> None:
    from flows.reconcile import reconcile
    from tasks.config import load
    from tasks.reconcile import plain

    done = await reconcile(load(job.config), job.now)
    print(json.dumps(plain(done), default=str))  # noqa: T201 - into its log
    if not all(one.ok for one in done):
        raise SystemExit(1)


async def _rollback(job: Job) -> None:
    from flows.rollout import rollback
    from tasks.config import load

    await rollback(load(job.config), "a drill", "the drill", job.now, decision_id="drill")


_FLOWS = {"watch": _watch, "train": _train, "reconcile": _reconcile, "rollback": _rollback}
