"""retrain: snapshot -> tune -> fit -> gate -> (refit) -> register -> (rollout). Once per window."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows.rollout import rollout
from tasks import claims, lineage, prove, snapshot, standing, tune
from tasks.config import Config
from tasks.records import Outcome, utc
from tasks.rows import now_utc


@flow(name="retrain", flow_run_name="retrain-{window_id}", validate_parameters=False)
async def retrain(
    config: Config, window_id: str, now: datetime | None = None, why: str = ""
) -> Outcome:
    """Train a challenger on all labels known at `now`; it serves if the gate lets it through.

    `window_id` is the key: a window that was retrained returns its outcome, one whose process died
    is carried on from what it had finished, and one that runs elsewhere raises `claims.Busy`.
    """
    now = utc(now or now_utc())
    taken = claims.claim(config, window_id, now)
    if taken.result is not None:
        return claims.outcome_of(taken.result)
    with claims.held(config, window_id, now) as at:
        release = prove.registered(config, window_id, now)
        if release is None:
            at("snapshot")
            rows = snapshot.snapshot(config, window_id, now)
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
