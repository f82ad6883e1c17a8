"""rollout: challenger -> (shadow -> canary, stage by stage) -> promote -> bake -> done | roll back.

Nothing here waits for a stage to pass: each call of `advance` takes one step from where the
registry says that the roll-out stands. `watch` calls it at each check, `everfit rollout` when it
is asked to.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from prefect import flow

from models.errors import Overtaken
from models.records import Release, Verdict
from models.registry_approvals import Approval
from monitoring.records import Decision
from monitoring.rollout import Move, Step, begin
from tasks import alias, approval, claims, release, rolling, standing
from tasks.config import Config
from tasks.entry import Model
from tasks.lineage import Lineage
from tasks.records import now_utc, utc
from tasks.standing import Standing


@flow(name="rollout", flow_run_name="rollout-v{challenger.version}", validate_parameters=False)
async def rollout(
    config: Config, challenger: Release, made: Lineage, why: str, now: datetime
) -> Verdict:
    """Begin the plan's first stage with `challenger`, or without one make it the champion.

    If another version has become champion since the gate compared, nothing changes: the challenger
    was not proven against that one. Without a running server the next start serves it. Where the
    config asks for a person's approval, no stage that answers callers begins before it.
    """
    if ended := release.ended(challenger):  # a run that died after the roll-back is resumed
        return replace(made.verdict, passed=False, reason=ended)
    if moved := release.overtaken(config, challenger.version, made.opponent):
        release.turned_away(config, challenger.version, moved, now)
        return replace(made.verdict, passed=False, reason=moved)
    step = begin(config.rollout)
    if config.approval == "required" and not release.is_champion(config, challenger.version):
        asked = approval.ask(config, challenger, made.opponent, now)
        if asked.waits and not (made.opponent and begins_unseen(config)):
            return replace(made.verdict, reason=f"{made.verdict.reason}; {asked}")
    if step.move is Move.NEXT and made.opponent is not None:
        if not release.is_champion(config, challenger.version):
            rolling.enter(config, challenger, 0, made.opponent, why, now)
        return replace(made.verdict, reason=f"{made.verdict.reason}; {step.why}")
    fault = promoted(config, challenger, made.opponent, why, now)
    return replace(made.verdict, passed=False, reason=fault) if fault else made.verdict


@flow(name="advance", flow_run_name="advance-{config.name}")
async def advance(config: Model, now: datetime | None = None) -> Step | None:
    """One step of the roll-out that is under way; None where there is none, or another process
    steps just now."""
    now = utc(now or now_utc())
    with rolling.alone(config) as mine:
        if not mine:
            return None
        if undo := release.unfinished(config):
            await rollback(config, undo.why, undo.who, now=now, decision_id=undo.decision_id)
        alias.audit(config, now)
        asked = approval.heard(config, now)
        if asked is not None and not (asked.passed or asked.waits):
            return turned_down(config, asked, now)
        at = standing.standing(config)
        if asked is not None and asked.passed and (at is None or at.stage.mode == "bake"):
            return begun(config, asked, now)
        if at is not None:
            return stepped(config, at, now)
        return None if asked is None else Step(Move.WAIT, (str(asked),))


@flow(name="answer", flow_run_name="answer-v{version}", validate_parameters=False)
async def answer(
    config: Config,
    version: str,
    said: Literal["approved", "rejected"],
    by: str,
    why: str,
    now: datetime | None = None,
    force: bool = False,
) -> Approval:
    """Take a person's word on a version that waits for one; `advance` then goes on from there.

    What it came to is the answer: an approval may have come too late, or been overtaken.
    """
    now = utc(now or now_utc())
    given = approval.settle(config, version, said, by, why, "command", now, force=force)
    if not given.passed:
        turned_down(config, given, now)
    return given


def begins_unseen(config: Config) -> bool:
    """Whether the plan's first stage answers nobody, so that it may run before an approval."""
    return bool(config.rollout.stages) and config.rollout.stages[0].mode == "shadow"


def begun(config: Config, given: Approval, now: datetime) -> Step:
    """The first stage of a challenger that a person has approved before it had any."""
    challenger = release.version(config, given.version)
    step = begin(config.rollout)
    opponent, why = given.opponent or None, str(given)
    if moved := release.overtaken(config, given.version, opponent):
        release.turned_away(config, given.version, moved, now)
        return Step(Move.ROLL_BACK, (moved,))
    champion = release.is_champion(config, given.version)  # a process died before it said so
    if step.move is Move.NEXT and opponent is not None and not champion:
        rolling.enter(config, challenger, 0, opponent, why, now)
        return Step(step.move, (why, *step.reasons), step.stage)
    fault = promoted(config, challenger, opponent, why, now)
    return Step(Move.ROLL_BACK, (fault,)) if fault else Step(Move.PROMOTE, (why, *step.reasons))


def turned_down(config: Config, given: Approval, now: datetime) -> Step:
    """A challenger that nobody will approve any more goes, its shadow too: a refusal."""
    step = Step(Move.ROLL_BACK, (str(given),))
    approval.complete(config, given, now)
    rolling.end(config, given.version, step, now)
    release.remember(config, rolling.ending(given.version), now)
    return step


def stepped(config: Config, at: Standing, now: datetime) -> Step:
    """Measure the stage, decide, and act."""
    version, opponent = at.release.version, at.stage.opponent
    if at.unfinished:  # promoted by a process that died before it had noted all of it
        release.promote(config, version, opponent, at.release.window_id, at.stage.why, now)
        rolling.bake(config, version, opponent, at.stage.why, now)
    step = rolling.decide(config, at, rolling.evidence(config, at, now), now)
    if step.move is Move.NEXT and step.stage is not None:
        rolling.enter(config, at.release, step.stage, opponent, step.why, now)
    elif step.move is Move.PROMOTE:
        if fault := promoted(config, at.release, opponent, step.why, now):
            step = Step(Move.ROLL_BACK, (fault,))
            release.remember(config, rolling.told_as(config, version), now)
            rolling.end(config, version, step, now)
    elif step.move is Move.ROLL_BACK:
        taken_back(config, at, step, now)
    elif step.move is Move.DONE:
        rolling.end(config, version, step, now)
    return step


@flow(name="abandon", flow_run_name="abandon-{config.name}", validate_parameters=False)
async def abandon(config: Config, why: str, now: datetime | None = None) -> str | None:
    """End the roll-out that is under way, whatever its guards say; the version that it was of."""
    now = utc(now or now_utc())
    at = standing.standing(config)
    if at is None:
        return None
    taken_back(config, at, Step(Move.ROLL_BACK, (why,)), now)
    return at.release.version


def promoted(
    config: Config, challenger: Release, opponent: str | None, why: str, now: datetime
) -> str:
    """Make it the champion and see that the running server answers with it, or why it is not."""
    version = challenger.version
    try:
        release.promote(config, version, opponent, challenger.window_id, why, now)
    except Overtaken as fault:  # by another process, since it was looked at
        reason = f"it lost the race: {fault}"
        release.turned_away(config, version, reason, now)
        return reason
    state = release.await_server(config, version)
    if state.running and state.version != version:
        reason = f"the server did not take version {version}: {state.reason or 'late'}"
        if opponent is not None:
            release.roll_back(config, challenger.window_id, reason, claims.here(), now)
        return reason
    rolling.bake(config, version, opponent, why, now)
    return ""


def taken_back(config: Config, at: Standing, step: Step, now: datetime) -> None:
    """A shadow or canary is withdrawn; a champion that bakes gives way to the one before it."""
    version = at.release.version
    if at.stage.mode == "bake":
        decision = f"{at.release.window_id}-baking"
        previous = release.roll_back(config, decision, step.why, claims.here(), now, version)
        release.remember(config, rolling.told_as(config, version), now)
        release.confirm(release.await_server(config, previous.version), previous)
    else:
        rolling.withdraw(config, version, step.why, now)
        release.remember(config, rolling.told_as(config, version), now)
    rolling.end(config, version, step, now)


@flow(name="rollback", flow_run_name="rollback-{config.name}", validate_parameters=False)
async def rollback(
    config: Config,
    why: str,
    who: str | None = None,
    now: datetime | None = None,
    decision: Decision | None = None,
    decision_id: str | None = None,
) -> Release:
    """Return to the previous champion, and wait until the running server answers with it.

    With a `decision`, only the version that it is about is taken back, and only once.
    """
    now = utc(now or now_utc())
    decision_id = decision_id or (
        decision.window_id if decision else f"rollback-{now:%Y%m%dT%H%M%SZ}"
    )
    expected = decision.signals.window.version if decision else None
    previous = release.roll_back(config, decision_id, why, who or claims.here(), now, expected)
    release.remember(config, decision_id, now)
    state = release.await_server(config, previous.version)
    release.confirm(state, previous)
    return previous
