"""What one warm process does: check one model, as a flow run of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from deployments.rounds.pool import Job

if TYPE_CHECKING:
    from tasks.config import Config

QUIET = timedelta(days=1)  # a model of which nothing is heard is checked so often all the same


@dataclass(frozen=True, slots=True)
class _Life:
    """One event loop for all checks of a process, and where Prefect's clients are kept."""

    runner: asyncio.Runner
    context: contextvars.Context

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work, context=self.context)


_life: list[_Life] = []


@contextmanager
def connected() -> Iterator[None]:
    """Prefect's clients, opened once for the process: each costs 60 ms of CPU for its certificates,
    and every task would open its own."""
    from prefect.context import AsyncClientContext, SyncClientContext

    with asyncio.Runner() as runner:
        life = _Life(runner, contextvars.copy_context())
        clients = life.run(_opened(AsyncClientContext, SyncClientContext))
        _life.append(life)
        try:
            yield
        finally:
            _life.clear()
            life.run(_closed(*clients))
            send_what_is_queued()


async def _opened(asynchronous: Any, synchronous: Any) -> tuple[Any, Any]:
    return await asynchronous().__aenter__(), synchronous().__enter__()


async def _closed(asynchronous: Any, synchronous: Any) -> None:
    synchronous.__exit__(None, None, None)
    await asynchronous.__aexit__(None, None, None)


def send_what_is_queued() -> None:
    """Prefect sends logs and events in the background: all of them, before the process ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def check(job: Job, tell: Callable[[Any], None]) -> dict[str, Any]:
    """Check the model of `job["config"]`, unless nothing has come since its last check.

    `tell` gets the id of the flow run once that is running, so that whoever waits can say what
    became of it if this process ends. Keys of the result: did (checked or skipped), action, window.
    """
    from tasks.config import load

    config = load(job["config"], **job.get("overrides", {}))
    now = datetime.now(UTC)
    why, broken_off = looked(config, now)
    if job.get("skip", True) and not why:
        return {"did": "skipped", "model": config.name}
    decision = _life[0].run(_watched(config, now, job, tell, broken_off))
    return {
        "did": "checked",
        "model": config.name,
        "action": decision.action.value,
        "window": decision.window_id,
    }


def looked(config: Config, now: datetime) -> tuple[str, bool]:
    """Why the model should be checked now, '' when a check would say what the last one said; and
    whether a retrain may have broken off, or may never have been heard of."""
    from monitoring.news import news
    from tasks import claims, places

    with places.telemetry(config) as store:
        last = news(store.database)
    interrupted = claims.interrupted(config, now) is not None
    why = last.since(now, QUIET) or ("a retrain was interrupted" if interrupted else "")
    return why, interrupted or last.action == "retrain"


async def _watched(
    config: Config, now: datetime, job: Job, tell: Callable[[Any], None], broken_off: bool
) -> Any:
    from prefect import tags

    from flows.reconcile import reconcile
    from flows.watch import watch
    from tasks import steps

    def running(_flow: Any, run: Any, _state: Any) -> None:
        tell(str(run.id))

    one = watch.with_options(on_running=[running])
    with tags(f"model:{config.name}"), steps.sparing():
        if broken_off and job["act"]:  # what a deployment does every few minutes for few models
            await reconcile(config, now=now, elsewhere=True)
        return await one(config, now=now, act=job["act"], elsewhere=True)
