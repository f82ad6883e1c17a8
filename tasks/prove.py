"""Fit the final model and put it before the gate."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.records import Candidate, Verdict
from tasks import artifacts, lineage, places
from tasks.records import Snapshot, Tuned
from tasks.rows import TIME
from tasks.tune import TRIALS

if TYPE_CHECKING:
    from models.records import Release
    from tasks.config import Config


@task(cache_policy=NO_CACHE)
def fit(config: Config, snapshot: Snapshot, tuned: Tuned) -> Candidate:
    """Fit the best configuration on all training rows; a bundle on disk comes back."""
    from models.training import fit_bundle

    frame = pd.read_parquet(snapshot.training)
    if config.train.maximum_rows is not None:
        frame = frame.tail(config.train.maximum_rows)
    candidate = fit_bundle(
        frame.drop(columns=[TIME]),
        places.schema(config),
        tuned.params,
        folder=snapshot.folder / "bundle",
        seed=config.train.seed,
        trainer=config.train.trainer,
        times=frame[TIME] if config.data.time else None,
    )
    frame.drop(columns=[TIME]).sample(
        min(config.monitor.reference_rows, len(frame)), random_state=config.train.seed
    ).to_parquet(snapshot.folder / lineage.REFERENCE)
    metrics = {**candidate.metrics, "search_loss": tuned.loss, "search_seconds": tuned.seconds}
    return replace(candidate, metrics=metrics)


@task(cache_policy=NO_CACHE)
def prove(config: Config, snapshot: Snapshot, candidate: Candidate) -> tuple[Verdict, str | None]:
    """Champion against challenger on the held-back rows, and the champion it was held against."""
    from models.bundle import Predictor
    from models.data import to_labels
    from models.gate import judge

    registry = places.registry(config)
    champion = registry.champion()
    holdout = pd.read_parquet(snapshot.holdout)
    classes = tuple(config.data.classes)
    columns = {name: holdout[name].to_numpy() for name in config.data.columns}
    base_rate = np.bincount(
        to_labels(pd.read_parquet(snapshot.training)[config.data.target], classes),
        minlength=len(classes),
    ) / max(snapshot.rows, 1)
    verdict = judge(
        _answers(registry.download(champion.version, config.folder / "serving"), columns)
        if champion
        else None,
        Predictor.load(candidate.bundle).predict_proba(columns),
        to_labels(holdout[config.data.target], classes),
        config.gate,
        metric=config.train.objective,
        seed=config.train.seed,
        baseline=base_rate,
    )
    artifacts.verdict_markdown(
        config.name,
        verdict,
        {
            "champion": f"champion v{champion.version}" if champion else "base rate",
            "challenger": "challenger",
        },
    )
    return verdict, champion.version if champion else None


def _answers(bundle: object, columns: dict[str, np.ndarray]) -> np.ndarray:
    from models.bundle import Predictor

    return Predictor.load(bundle).predict_proba(columns)  # type: ignore[arg-type]


@task(cache_policy=NO_CACHE)
def register(
    config: Config,
    window_id: str,
    snapshot: Snapshot,
    candidate: Candidate,
    verdict: Verdict,
    now: datetime,
) -> Release:
    """Every candidate goes to MLflow, a refused one too; only one that passed is a challenger."""
    folder = snapshot.folder
    files = {
        name: folder / name
        for name in (TRIALS, lineage.CONTROLLER, lineage.REFERENCE)
        if (folder / name).exists()
    }
    files[lineage.LINEAGE] = lineage.write(
        folder / lineage.LINEAGE, window_id, now, candidate, verdict
    )
    decision = _decision(config, window_id)
    if decision is not None:
        path = folder / "decision.json"
        path.write_text(json.dumps(decision, indent=2), encoding="utf-8")
        files["decision.json"] = path
    report = places.report_path(config, window_id)
    if report.exists():
        files["drift_report.html"] = report
    return places.registry(config).register(
        folder / "bundle",
        candidate,
        verdict,
        window_id=window_id,
        files=files,
        now=now,
    )


def _decision(config: Config, window_id: str) -> dict[str, object] | None:
    with places.telemetry(config) as store:
        return store.decision(window_id)


def summary(candidate: Candidate) -> dict[str, object]:
    return asdict(candidate)
