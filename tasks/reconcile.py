"""What is done about a finding of `monitoring.leftovers` where no flow does it, and the report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from monitoring.leftovers import Do, Finding
from tasks import artifacts, places, release, rolling, snapshot
from tasks.records import Outcome

if TYPE_CHECKING:
    from tasks.config import Config

log = logging.getLogger(__name__)

_GONE = "another process was faster"


@dataclass(frozen=True, slots=True)
class Done:
    """A finding, and what came of it; `ok` False: a fault, and the next look finds it again."""

    finding: Finding
    result: str
    ok: bool = True


def alone(config: Config) -> AbstractContextManager[bool]:
    """Whether no other process on this machine sets this model right now. Two would do no harm."""
    return places.alone(config, "reconcile")


@task(cache_policy=NO_CACHE)
async def set_right(config: Config, finding: Finding, now: datetime) -> str:
    """Do what needs no flow; what came of it, in words."""
    if finding.do is Do.CRASH:
        return await _crashed(finding.subject, finding.why)
    return _WAYS[finding.do](config, finding, now)


def _complete(config: Config, finding: Finding, now: datetime) -> str:
    made = places.registry(config).resume(finding.subject, now)
    return f"version {made.version} is complete" if made else _GONE


def _close(config: Config, finding: Finding, now: datetime) -> str:
    return "closed" if places.registry(config).close_run(finding.subject, now) else _GONE


def _heal(config: Config, _finding: Finding, _now: datetime) -> str:
    champion = places.registry(config).complete_move()
    return f"the record says {champion.version if champion else 'nobody'}"


def _drop(config: Config, finding: Finding, _now: datetime) -> str:
    return "taken away" if places.registry(config).drop_challenger(finding.subject) else _GONE


async def _crashed(run_id: str, why: str) -> str:
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    async with get_client() as client:
        run = await client.read_flow_run(UUID(run_id))
        if run.state is None or not run.state.is_running():
            return _GONE
        await client.set_flow_run_state(run.id, Crashed(message=why), force=True)
    return "crashed; what it held is free"


def _ended(config: Config, finding: Finding, now: datetime) -> str:
    from monitoring.rollout import Move, Step

    version = finding.subject
    if finding.detail.get("bad"):
        release.remember.fn(config, rolling.told_as(config, version), now)
    rolling.end.fn(config, version, Step(Move.ROLL_BACK, (finding.why,)), now)
    return "ended as rolled back"


def _told(config: Config, finding: Finding, now: datetime) -> str:
    release.remember.fn(config, rolling.told_as(config, finding.subject), now)
    return "told, as of a refusal"


def _given_up(config: Config, finding: Finding, now: datetime) -> str:
    """The window is done: a refusal, so that the policy backs off before it asks again."""
    from tasks import claims

    window = finding.subject
    registry = places.registry(config)
    taken = claims.claim.fn(config, window, now)
    if taken.result is not None:
        return "it was finished meanwhile"
    made, champion = registry.by_window(window), registry.champion()
    serves = made is not None and champion is not None and made.version == champion.version
    why = f"given up after {finding.attempt} attempts: {finding.why}"[:2_000]
    if made is not None and not serves:
        registry.reject(made.version, why, now)
    number = made.version if made else None
    outcome = Outcome(window, number, serves, why, 0, 0.0, now.isoformat())
    claims.finish.fn(config, outcome, now)
    return why


def _discarded(config: Config, finding: Finding, _now: datetime) -> str:
    place, retrains = Path(finding.subject), config.folder / "retrains"
    if place.parent == retrains:
        snapshot.discard(config, place.name)
        return "its tables are deleted"
    shutil.rmtree(place, ignore_errors=True)
    return "deleted"


_WAYS: Mapping[Do, Callable[[Config, Finding, datetime], str]] = {
    Do.COMPLETE: _complete,
    Do.CLOSE: _close,
    Do.HEAL: _heal,
    Do.DROP: _drop,
    Do.END: _ended,
    Do.TELL: _told,
    Do.GIVE_UP: _given_up,
    Do.DISCARD: _discarded,
}


@task(cache_policy=NO_CACHE)
def report(config: Config, done: Sequence[Done]) -> None:
    """On Prefect's page and in the log: what was found, and what was done about it."""
    for one in done:
        level = logging.WARNING if one.ok else logging.ERROR
        found = one.finding
        log.log(level, "%s: %s (%s): %s: %s", config.name, found.subject, found.why, found.do,
                one.result)  # fmt: skip
    create_table_artifact(
        key=artifacts.key(config.name, "reconcile"),
        table=[
            {
                "found": one.finding.subject,
                "why": one.finding.why,
                "to do": one.finding.do.value,
                "came of it": one.result,
            }
            for one in done
        ],
        description=f"{len(done)} things were left half done",
    )


def plain(done: Sequence[Done]) -> list[dict[str, object]]:
    """For programs."""
    return [{**asdict(one.finding), "result": one.result, "ok": one.ok} for one in done]
