"""One retrain per window: the holder of its claim does the work, everyone else reads the result."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import places
from tasks.records import Outcome
from tasks.snapshot import discard

if TYPE_CHECKING:
    from models.records import Verdict
    from monitoring.claims import Claim
    from tasks.config import Config
    from tasks.lineage import Lineage


class Busy(Exception):
    """Another live process retrains this model now."""


@task(cache_policy=NO_CACHE)
def claim(config: Config, window_id: str, now: datetime) -> Claim:
    """Take the window, or learn what became of it. Raises Busy while another process holds it."""
    from monitoring.claims import process_owner

    with places.claims(config) as book:
        taken = book.claim(window_id, process_owner(), now, model=config.name)
    if taken.status == "busy":
        raise Busy(
            f"one retrain of {config.name} at a time; window {taken.window_id} is being retrained "
            f"by {taken.owner}: wait for it, or stop that process"
        )
    return taken


@task(cache_policy=NO_CACHE)
def finish(config: Config, outcome: Outcome, now: datetime) -> Outcome:
    """Record how the retrain ended, and tell the policy, which backs off after refusals."""
    from monitoring.claims import process_owner
    from monitoring.policy import PolicyState, after_retrain

    with places.telemetry(config) as store:
        state = PolicyState.from_dict(store.state(config.name) or {})
        after = after_retrain(state, outcome.passed, now)
        store.save_state(config.name, after.to_dict())
    with places.claims(config) as book:
        book.finish(outcome.window_id, asdict(outcome), now, owner=process_owner())
    discard(config, outcome.window_id)
    return outcome


@contextmanager
def released_on_fault(config: Config, window_id: str, now: datetime) -> Iterator[None]:
    """Give the window back after a fault: the next try goes on from the finished trials."""
    from monitoring.claims import process_owner

    try:
        yield
    except BaseException as fault:  # also a cancelled or interrupted run gives its claim back
        with places.claims(config) as book:
            book.fail(
                window_id,
                f"{type(fault).__name__}: {fault}"[:2_000],
                now,
                owner=process_owner(),
            )
        raise


def outcome(
    made: Lineage, version: str, verdict: Verdict, now: datetime, stage: str = ""
) -> Outcome:
    """What is remembered of the window, and answered to whoever asks for it again."""
    return Outcome(
        window_id=made.window_id,
        version=version,
        passed=verdict.passed,
        reason=verdict.reason,
        trials=made.trials,
        seconds=made.seconds,
        finished=now.isoformat(),
        warm=made.warm,
        stage=stage,
    )


def outcome_of(result: Mapping[str, Any]) -> Outcome:
    return Outcome(**result)


def here() -> str:
    """Who acts, for the record: user and host."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def interrupted(config: Config, now: datetime) -> str | None:
    """The window whose retrain died half-way, if there is one."""
    with places.claims(config) as book:
        found = book.interrupted(config.name, now=now)
    return found.window_id if found else None


def free(config: Config, now: datetime) -> bool:
    """Whether no retrain of this model runs now; one that does answers a new decision too."""
    with places.claims(config) as book:
        return book.running(config.name, now=now) is None
