"""retrain: snapshot -> tune -> fit -> gate -> (refit) -> register -> (rollout). Once per window."""

from __future__ import annotations

from datetime import datetime

from prefect import flow
from prefect.states import Completed

from flows.rollout import rollout
from tasks import claims, lineage, once, safety, standing
from tasks.entry import Model
from tasks.records import Outcome, now_utc, utc


@flow(name="retrain", flow_run_name="retrain-{window_id}")
async def retrain(
    config: Model,
    window_id: str = safety.WEEKLY,
    now: datetime | None = None,
    why: str = "",
    attempt: int = 0,  # noqa: ARG001 - tasks.once reads it from the run
) -> Outcome:
    """Train a challenger on all labels known at `now`; it serves if the gate lets it through.

    `window_id` is the key: a window that was retrained returns its outcome, one whose process died
    is carried on from what it had finished, and one that runs elsewhere raises `claims.Busy`. The
    weekly schedule names none, and retrains only what was lost. `attempt` counts the runs that the
    window has been given before: of two with one number, the second ends at once.
    """
    now = utc(now or now_utc())
    if (ended := await once.another_has_it()) is not None:
        return ended
    window_id, why = safety.window(config, window_id, now, why)
    if window_id is None:
        return Completed(message=why)
    taken = claims.claim(config, window_id, now)
    if taken.result is not None:
        return claims.outcome_of(taken.result)
    from tasks import prove, snapshot, tune  # heavy: here the run is running, and has its window

    with claims.held(config, window_id, now) as at:
        release = prove.registered(config, window_id, now)
        if release is None:
            at("snapshot")
            rows = snapshot.snapshot(config, window_id, now)
            if (ended := snapshot.too_few(config, window_id, rows, now)) is not None:
                return claims.finish(config, ended, now)
            at("trials")
            tuned = await tune.tune(config, rows)
            at("fit")
            candidate = prove.fit(config, rows, tuned)
            at("gate")
            verdict, champion = prove.prove(config, rows, candidate)
            if verdict.passed and config.gate.refit:
                candidate = prove.refit(config, rows, tuned, candidate)
            proof = (verdict, champion)
            at("register")
            release = prove.register(config, window_id, rows, tuned, candidate, proof, now)
        at("roll out")
        made = lineage.read(config, release)
        verdict = made.verdict
        if verdict.passed:
            verdict = await rollout(config, release, made, why or verdict.reason, now)
        at("finish")
        stage = standing.on_the_way(config) if verdict.passed else ""
        done = claims.outcome(made, release.version, verdict, now, stage)
        return claims.finish(config, done, now)
