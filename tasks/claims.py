"""One retrain per window: the holder of its claim does the work, everyone else reads the result."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from tasks import places
from tasks.records import Outcome

if TYPE_CHECKING:
    from models.records import Verdict
    from monitoring.claims import Claim
    from tasks.config import Config
    from tasks.lineage import Lineage


log = logging.getLogger(__name__)


class Busy(Exception):
    """Another live process retrains this model now."""


@task(cache_policy=NO_CACHE)
def claim(config: Config, window_id: str, now: datetime) -> Claim:
    """Take the window, or learn what became of it. Raises Busy while another process holds it."""
    with places.claims(config) as book:
        taken = book.claim(window_id, owner(), now, model=config.name)
    if taken.status == "busy":
        raise Busy(
            f"one retrain of {config.name} at a time; window {taken.window_id} is being retrained "
            f"by {taken.owner}: wait for it, or stop that process"
        )
    return taken


@task(cache_policy=NO_CACHE)
def finish(config: Config, outcome: Outcome, now: datetime) -> Outcome:
    """Record how the retrain ended, and tell the policy, which backs off after refusals.

    The policy first, once by the window's id: whoever dies in between comes again and finishes.
    """
    from monitoring.policy import PolicyState, after_retrain

    key = f"retrain {outcome.window_id}"
    with places.telemetry(config) as store:
        store.change_state(
            config.name,
            lambda found: after_retrain(
                PolicyState.from_dict(found), outcome.passed, now, key
            ).to_dict(),
        )
    with places.claims(config) as book:
        book.finish(outcome.window_id, asdict(outcome), now, owner=owner())
    from tasks.snapshot import discard  # with pandas, which a run needs only now

    discard(config, outcome.window_id)
    return outcome


def owner() -> str:
    """Who claims: this process and its flow run, so that two runs in one process are two."""
    from monitoring.claims import process_owner

    return process_owner(runtime.flow_run.id or "")


@contextmanager
def held(config: Config, window_id: str, now: datetime) -> Iterator[Callable[[str], None]]:
    """Keep a claimed window while the block works, and give it back after a fault: the next try
    goes on from the finished trials.

    Call what comes back with the name of each step as it begins. It raises StoreFault where another
    process has taken the window over, as it may do once this one has been silent for a lease; so a
    machine that was asleep for an hour registers and promotes nothing when it wakes.
    """
    me = owner()

    def at(stage: str) -> None:
        with places.claims(config) as book:
            book.advance(window_id, stage, now, owner=me)

    with _beating(config, window_id, me):
        try:
            yield at
        except BaseException as fault:  # also a cancelled or interrupted run gives its claim back
            _gave_back(config, window_id, fault, now, me)
            raise


def _gave_back(
    config: Config, window_id: str, fault: BaseException, now: datetime, me: str
) -> None:
    try:
        with places.claims(config) as book:
            book.fail(window_id, f"{type(fault).__name__}: {fault}"[:2_000], now, owner=me)
    except Exception as second:  # the disk is full, say: `reconcile` finds that nobody holds it
        log.warning("window %s of %s was not given back: %s", window_id, config.name, second)


@contextmanager
def _beating(config: Config, window_id: str, me: str) -> Iterator[None]:
    """Tell other machines that this process lives, on a thread of its own."""
    from monitoring.claims import BEAT_SECONDS

    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            try:
                with places.claims(config) as book:
                    if not book.beat(window_id, me):
                        return
            except Exception as fault:  # a store that is down for a moment: a few beats may miss
                log.warning("no sign of life for window %s: %s", window_id, fault)

    thread = threading.Thread(target=beat, name="claim-beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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


def interrupted(config: Config, now: datetime) -> Claim | None:
    """The claim of a retrain that died half-way, if there is one."""
    with places.claims(config) as book:
        return book.interrupted(config.name, now=now)


def free(config: Config, now: datetime) -> bool:
    """Whether no retrain of this model runs now; one that does answers a new decision too."""
    with places.claims(config) as book:
        return book.running(config.name, now=now) is None
