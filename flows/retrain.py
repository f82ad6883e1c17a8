"""retrain: snapshot -> tune -> fit -> gate -> (refit) -> register -> (rollout). Once per window."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows.rollout import rollout
from tasks import claims, prove, snapshot, tune
from tasks.config import Config
from tasks.records import Outcome, utc
from tasks.rows import now_utc


@flow(name="retrain", flow_run_name="retrain-{window_id}", validate_parameters=False)
async def retrain(
    config: Config, window_id: str, now: datetime | None = None, why: str = ""
) -> Outcome:
    """Train a challenger on all labels known at `now`; it serves if the gate lets it through.

    `window_id` is the key: a window that was retrained returns its outcome, one whose process died
    is carried on from its finished trials, and one that runs elsewhere raises `claims.Busy`.
    """
    now = utc(now or now_utc())
    taken = claims.claim(config, window_id, now)
    if taken.result is not None:
        return claims.outcome_of(taken.result)
    with claims.released_on_fault(config, window_id, now):
        rows = snapshot.snapshot(config, window_id, now)
        tuned = await tune.tune(config, rows)
        candidate = prove.fit(config, rows, tuned)
        verdict, champion = prove.prove(config, rows, candidate)
        if verdict.passed and config.gate.refit:
            candidate = prove.refit(config, rows, tuned, candidate)
        release = prove.register(config, window_id, rows, candidate, verdict, now)
        if verdict.passed:
            verdict = await rollout(config, release, champion, why or verdict.reason, verdict, now)
        outcome = claims.outcome(window_id, release, tuned, candidate, verdict, now)
        return claims.finish(config, outcome, now)
