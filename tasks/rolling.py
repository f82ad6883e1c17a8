"""A roll-out under way: where it stands, what its guards say, and the moves from stage to stage.

The stage is a tag of the version in the registry, the evidence is in the telemetry store: whoever
comes next, after a kill or on another machine, finds both and takes the next step.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from monitoring import rollout
from monitoring.guards import Arm, Seen, read, usual_p95
from monitoring.rollout import Move, Reading, Step
from tasks import approval, events, places
from tasks.server import served
from tasks.standing import Standing

if TYPE_CHECKING:
    from models.records import Release
    from models.registry_stages import Mode
    from monitoring.records import RequestCount
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config

_ASKED = frozenset({"invocations", "infer", "canary", "shadow"})  # routes of the counts
_BEFORE = 2_000  # of the champion's newest rows before a stage: what its latency usually is


@dataclass(frozen=True, slots=True)
class Evidence:
    readings: tuple[Reading, ...]
    requests: int  # answered or compared by the challenger in this stage


def alone(config: Config) -> AbstractContextManager[bool]:
    """Whether no other process on this machine takes a step of this model now.

    Two that step at once would not do harm, since every move is compared; but one would fail.
    """
    return places.alone(config, "rollout")


@task(cache_policy=NO_CACHE)
def enter(
    config: Config, release: Release, number: int, opponent: str | None, why: str, now: datetime
) -> Release:
    """Begin the plan's stage `number`; `now` it has already, if this is asked again."""
    from models.registry_stages import Staged, staged

    stage, before = config.rollout.stages[number], staged(release)
    at = now.isoformat()
    fresh = Staged(
        stage.mode,
        number,
        stage.share,
        since=at,
        started=before.started if before else at,
        opponent=opponent or "",
        decision_id=release.window_id,
        why=why,
        control_p95=_usual(config, opponent, now),
    )
    return places.registry(config).stage(release.version, fresh, expected=before)


@task(cache_policy=NO_CACHE)
def bake(config: Config, version: str, opponent: str | None, why: str, now: datetime) -> None:
    """Note that a new champion bakes: servers keep the one before it warm."""
    from models.registry_stages import Staged, staged

    if config.rollout.bake <= timedelta(0) or opponent is None:
        return
    registry = places.registry(config)
    release = registry.version(version)
    before, at = staged(release), release.tags.get("promoted_at", now.isoformat())
    if before is not None and before.mode not in ("shadow", "canary"):
        return  # it bakes or has baked: the process died after it had noted so
    fresh = Staged(
        "bake",
        before.step + 1 if before else 0,
        0.0,
        since=at,
        started=before.started if before else at,
        opponent=opponent,
        decision_id=release.window_id,
        why=why,
        control_p95=_usual(config, opponent, now),
    )
    registry.stage(version, fresh, expected=before)


@task(cache_policy=NO_CACHE)
def end(config: Config, version: str, step: Step, now: datetime) -> None:
    """Note how the roll-out ended: done, or rolled back."""
    from models.registry_stages import staged

    registry = places.registry(config)
    before = staged(registry.version(version))
    if before is None:
        return
    mode: Mode = "done" if step.move is Move.DONE else "rolled back"
    after = replace(before, mode=mode, share=0.0, since=now.isoformat(), why=step.why)
    registry.stage(version, after, expected=before)


def ending(version: str) -> str:
    """What the policy knows the bad end of a version's roll-out by: it is told once."""
    return f"roll-out of version {version}"


def told_as(config: Config, version: str) -> str:
    """The key by which the policy is told that `version` was taken back, whoever took it."""
    tags = places.registry(config).version(version).tags
    return tags.get("rolled_back_decision_id") or ending(version)


@task(cache_policy=NO_CACHE)
def withdraw(config: Config, version: str, why: str, now: datetime) -> None:
    """Take a shadow or canary out: servers drop it at their next look at the registry."""
    places.registry(config).reject(version, why, now)
    told = {"version": version, "why": why[:2_000], "at": now.isoformat()}
    events.emit(config, "everfit.rolled_back", told, key=f"withdrawn {version}")


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=1)
def evidence(config: Config, at: Standing, now: datetime) -> Evidence:
    """What the guards say of the stage until `now`."""
    position = at.position
    if at.overtaken:
        return Evidence((_fault("overtaken", at.overtaken),), 0)
    state = served(config)
    if state.running and state.failed == position.version:
        return Evidence((_fault("load", f"no server can load it: {state.reason}"),), 0)
    with places.telemetry(config) as store:
        seen = _seen(config, store, at, now)
    compared = len(seen.stage.codes)
    requests = compared if position.mode == "shadow" else seen.challenger.requests
    readings = read(config.rollout, seen)
    if config.approval == "required" and position.mode != "bake":
        asked = approval.reading(config, at.release, position.opponent, now)
        readings = (*readings, asked)
    return Evidence(readings, requests)


@task(cache_policy=NO_CACHE)
def decide(config: Config, at: Standing, found: Evidence, now: datetime) -> Step:
    """The next step, kept with all that it follows from, and shown on Prefect's page."""
    from monitoring import rollout_log
    from tasks import rollout_page

    plan, position = config.rollout, at.position
    step = rollout.decide(plan, position, found.readings, found.requests, now)
    body = rollout.record(plan, position, found.readings, found.requests, now, step)
    with places.telemetry(config) as store:
        rollout_log.add(store.database, config.name, position.version, now, step.move.value, body)
    rollout_page.show(config.name, position, found.readings, step, now)
    return step


def _seen(config: Config, store: TelemetryStore, at: Standing, now: datetime) -> Seen:
    from monitoring import shadows

    position, classes = at.position, config.data.classes
    challenger, champion = position.version, position.opponent or ""
    baking = position.mode == "bake"
    # While it bakes, nobody answers beside it: it is held against its opponent's last hour or so.
    since = position.since - config.rollout.bake if baking else position.since
    until = position.since if baking else now

    def pairs(start: datetime) -> Any:
        return shadows.pairs(store.database, champion, challenger, start, classes, until=now)

    return Seen(
        champion=_arm(store, champion, since, until),
        challenger=_arm(store, challenger, position.since, now),
        usual_p95=at.stage.control_p95,
        stage=pairs(position.since),
        whole=pairs(position.started),
        loss="error" if config.train.objective == "error" else "log_loss",
        alone=baking,
    )


def _arm(store: TelemetryStore, version: str, since: datetime, until: datetime) -> Arm:
    from monitoring import shadows

    minute = since.replace(second=0, microsecond=0)
    after = until + timedelta(minutes=1)  # the minute of `until` counts
    counts = [
        c for c in store.counts_between(minute, after) if c.version == version and c.route in _ASKED
    ]
    latencies = shadows.latencies(store.database, version, since, until)
    return Arm(max(_sum(counts), len(latencies)), sum(c.server_errors for c in counts), latencies)


def _sum(counts: list[RequestCount]) -> int:
    return sum(c.requests for c in counts)


def _usual(config: Config, version: str | None, now: datetime) -> float | None:
    from monitoring import shadows

    if version is None:
        return None
    with places.telemetry(config) as store:
        return usual_p95(shadows.latencies(store.database, version, None, now, limit=_BEFORE))


def _fault(name: str, why: str) -> Reading:
    return Reading(name, True, False, reason=why)
