"""reconcile: look -> judge -> (carry on | clean up). What was left half done by the dead."""

from __future__ import annotations

import logging
from datetime import datetime

from prefect import flow

from flows.retrain import retrain
from flows.rollout import advance, rollback
from monitoring.leftovers import Do, Finding, found
from tasks import alias, backlog, claims, conditions, events, leftovers, monitor, standing
from tasks import reconcile as upkeep
from tasks.config import Config
from tasks.entry import Model
from tasks.reconcile import Done
from tasks.records import now_utc, utc

log = logging.getLogger(__name__)

_ROUNDS = 3  # what is set right may show something else, which was hidden behind it


@flow(name="reconcile", flow_run_name="reconcile-{config.name}")
async def reconcile(
    config: Model, now: datetime | None = None, elsewhere: bool = False
) -> list[Done]:
    """Carry on or clean up what broken-off processes have left; what came of each.

    Nothing that a living process works at is touched, and everything may be done twice: run it at
    start-up, every few minutes, on two machines at once. `elsewhere` has retrains asked for by an
    event and run by whoever hears it, not here.
    """
    now = utc(now or now_utc())
    if (ended := await backlog.covered(now)) is not None:
        return ended
    done: list[Done] = []
    with upkeep.alone(config) as mine:
        if mine:
            await people(config, now)
        bounds = leftovers.limits(config, elsewhere=elsewhere)
        for _ in range(_ROUNDS if mine else 0):
            facts = await leftovers.facts(config, now, bounds)
            known = [one.finding for one in done]
            fresh = [f for f in found(facts, now, bounds) if f not in known]
            if not fresh:
                break
            done += [await settled(config, finding, now, elsewhere) for finding in fresh]
    if done:
        upkeep.report(config, done)
    return done


async def people(config: Config, now: datetime) -> None:
    """Record what hands did to the alias, go on from what people said, tell them what holds."""
    try:
        alias.audit(config, now)
        if standing.under_way(config):
            await advance(config, now)
    except Exception:  # what the dead have left has its turn all the same
        log.exception("%s: what people did could not be followed", config.name)
    conditions.look(config, now)


async def settled(config: Config, finding: Finding, now: datetime, elsewhere: bool) -> Done:
    """One finding, set right; a fault of one keeps no other from its turn."""
    try:
        return Done(finding, await acted(config, finding, now, elsewhere))
    except claims.Busy as busy:
        return Done(finding, f"left to another process: {busy}")
    except Exception as fault:
        return Done(finding, f"{type(fault).__name__}: {fault}"[:2_000], ok=False)


async def acted(config: Config, finding: Finding, now: datetime, elsewhere: bool) -> str:
    match finding.do:
        case Do.RESUME | Do.RETRAIN if elsewhere:
            if not events.again(config, finding.subject, finding.attempt, finding.why):
                raise ConnectionError("nobody could be asked for the retrain: see Prefect's server")
            return "asked for"
        case Do.RESUME | Do.RETRAIN:
            return (await retrain(config, finding.subject, now, why=finding.why)).reason
        case Do.ROLL_BACK:
            return f"version {await undone(config, finding, now)} is the champion again"
        case Do.STEP:
            step = await advance(config, now)
            return "nothing is left to do" if step is None else step.move.value
    return await upkeep.set_right(config, finding, now)


async def undone(config: Config, finding: Finding, now: datetime) -> str:
    """A roll-back to its end, under the id that it was decided or begun with."""
    decision_id = finding.detail["decision_id"]
    decision = monitor.recorded(config, decision_id)
    why = "; ".join(decision.reasons) if decision else finding.why
    back = await rollback(config, why, now=now, decision=decision, decision_id=decision_id)
    return back.version
