"""watch: (roll out on) -> measure -> decide -> (retrain | roll back). One check of one model."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows.retrain import retrain
from flows.rollout import advance, rollback
from monitoring.records import Action, Decision
from tasks import alias, backlog, claims, conditions, events, monitor, retention, standing
from tasks.entry import Model
from tasks.records import now_utc, utc


@flow(name="watch", flow_run_name="watch-{config.name}")
async def watch(
    config: Model, now: datetime | None = None, act: bool = True, elsewhere: bool = False
) -> Decision:
    """Check the newest window at `now`; with `act`, a retrain or a roll-back that it asks for.

    `elsewhere` has the retrain asked for by an event and run by whoever hears it, not here.

    The window is decided once: asked again, the same decision comes back and the retrain, if it
    had been interrupted, goes on. A retrain that died with its process is ended first; one that
    runs elsewhere is left to it. A roll-out under way takes a step before all that, and until it is
    over no other challenger is made.
    """
    now = utc(now or now_utc())
    if (ended := await backlog.covered(now)) is not None:
        return ended
    alias.audit(config, now)
    if act and standing.under_way(config):
        await advance(config, now)
    if act and (unfinished := claims.interrupted(config, now)):
        if elsewhere:
            events.again(config, unfinished.window_id, unfinished.attempts, "it was interrupted")
        else:
            await retrain(config, unfinished.window_id, now, why="it was interrupted")
    window = monitor.current_window(config, now)
    decision = monitor.decided(config, window)
    if decision is None:
        signals = monitor.measure(config, window, now)
        decision = monitor.decide(config, signals, now)
    retention.retain(config, now)
    conditions.look(config, now)
    due = decision.retrain and act and claims.free(config, now) and not standing.on_the_way(config)
    events.decided(config, decision, asks=due and elsewhere)
    why = "; ".join(decision.reasons)
    if decision.action is Action.ROLLBACK and act:
        await rollback(config, why, now=now, decision=decision)
    elif due and not elsewhere:
        await retrain(config, decision.window_id, now, why=why)
    return decision
