"""A version on its way into a slot: verified, loaded, checked, and warmed with recent requests."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar

from deployments.serving.rows import Checked
from deployments.serving.slots import Model, Slot
from models.records import Release

log = logging.getLogger(__name__)

Load = Callable[[Path, str], Model]
T = TypeVar("T")


class TakesTooLong(Exception):
    """A version that hangs while it is loaded, checked or warmed."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call()`. Raises what it raises, and TakesTooLong when it does not end in time:
    its thread is then left behind, since none can be ended from outside."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as fault:
            done.set_exception(fault)

    threading.Thread(target=run, name="loading", daemon=True).start()
    ended, _ = wait([done], seconds)
    if not ended:
        raise TakesTooLong(
            f"a version is loaded and checked within serving.load_seconds, {seconds:g} s: find out "
            "where it hangs, or raise the limit"
        )
    return done.result()


def load(bundle: Path, digest: str) -> Model:
    """The bundle's model. Raises BundleFault for one that is not as it was registered."""
    from models.bundle import Predictor

    model: Model = Predictor.load(bundle, digest=digest)
    if torch := sys.modules.get("torch"):  # one thread a worker: parallelism is over workers
        torch.set_num_threads(1)
    return model


def ready(release: Release, bundle: Path, loader: Load, recent: Iterable[Checked]) -> Slot:
    """A slot that can take traffic, or whatever fault the version has.

    It has answered its own example as at registration (within `models.bundle.TOLERANCE` of each
    probability), and what callers have asked lately: the first requests then find everything that a
    model makes at its first use, and one that cannot answer them fails here, not there.
    """
    started = time.perf_counter()
    model = loader(bundle, release.digest)
    model.self_check()
    slot = Slot(release, model)
    asked = sum(_warmed(slot, rows) for rows in recent)
    log.info(
        "version %s loaded and asked %d recent requests in %.2f s",
        release.version,
        asked,
        time.perf_counter() - started,
    )
    return slot


def _warmed(slot: Slot, rows: Checked) -> bool:
    if not reads(slot, rows):  # asked of a model with other columns
        return False
    slot.answer(rows)
    return True


def reads(slot: Slot, rows: Checked) -> bool:
    """Whether rows that were checked for another slot are as this one wants them."""
    return (*rows.names, *rows.categories, *rows.texts) == slot.order
