"""Fit the final model and put it before the gate."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.errors import BundleFault
from models.records import Candidate, Verdict
from monitoring.records import to_dict
from tasks import artifacts, events, foretelling, lineage, places
from tasks.records import Snapshot, Tuned
from tasks.rows import TIME
from tasks.tune import ASKS, PICTURE, TRIALS

if TYPE_CHECKING:
    from models.records import Release
    from tasks.config import Config

log = logging.getLogger(__name__)

PROOF_ROWS = 5_000  # kept of the gate's rows
_TIMES = ("trained_from", "trained_through")


@task(cache_policy=NO_CACHE)
def fit(config: Config, snapshot: Snapshot, tuned: Tuned) -> Candidate:
    """Fit the best configuration on all training rows; a bundle on disk comes back.

    One that a run that died had fitted of the same rows and parameters is taken as it is.
    """
    candidate = _fitted(config, snapshot, tuned, pd.read_parquet(snapshot.training), "bundle")
    search = {
        "search_loss": tuned.loss,
        "search_seconds": tuned.seconds,
        "search_trials": float(tuned.trials),
        "search_from_memory": float(tuned.warm),
    }
    return replace(candidate, metrics={**candidate.metrics, **search})


@task(cache_policy=NO_CACHE)
def refit(config: Config, snapshot: Snapshot, tuned: Tuned, proven: Candidate) -> Candidate:
    """The proven configuration once more, on the gate's rows too: they are the newest there are.

    The gate never sees this model, so it has to agree with the proven one: on the gate's rows,
    which it has learnt, its loss may not be the larger. If it is, the proven model serves.
    """
    from models.bundle import Predictor
    from models.data import to_labels
    from models.metrics import measure

    holdout = pd.read_parquet(snapshot.holdout)
    rows = pd.concat([pd.read_parquet(snapshot.training), holdout], ignore_index=True)
    candidate = _fitted(config, snapshot, tuned, rows, "bundle-refit")
    codes = to_labels(holdout[config.data.target], tuple(config.data.classes))
    columns = _columns(config, holdout)
    loss = {
        model.bundle: measure(codes, Predictor.load(model.bundle).predict_proba(columns))
        for model in (proven, candidate)
    }
    if loss[candidate.bundle]["log_loss"] > loss[proven.bundle]["log_loss"]:
        log.warning("%s: the refit is worse than the proven model on the gate's rows", config.name)
        return proven
    return replace(candidate, metrics=proven.metrics, seconds=proven.seconds + candidate.seconds)


def _fitted(
    config: Config, snapshot: Snapshot, tuned: Tuned, frame: pd.DataFrame, name: str
) -> Candidate:
    """A bundle in the snapshot's folder, and beside it a sample of what it was fitted on."""
    from models.training import fit_bundle

    note = snapshot.folder / f"{name}.json"
    train = config.train
    recipe: dict[str, object] = {
        "params": tuned.params,
        "rows": [snapshot.digest, train.maximum_rows],
        "how": [train.trainer, train.seed, sorted(config.telemetry.never_store)],
    }
    if (known := _known(note, recipe)) is not None:
        return known
    if config.train.maximum_rows is not None:
        frame = frame.tail(config.train.maximum_rows)
    rows = frame.drop(columns=[TIME])
    candidate = fit_bundle(
        rows,
        places.schema(config),
        tuned.params,
        folder=snapshot.folder / name,
        seed=config.train.seed,
        trainer=config.train.trainer,
        times=frame[TIME] if config.data.time else None,
        target=_served(config, snapshot, rows, tuned),
        unstored=config.telemetry.never_store,
    )
    _timed(config, _kept(config, frame)).sample(
        min(config.monitor.reference_rows, len(rows)), random_state=config.train.seed
    ).to_parquet(snapshot.folder / lineage.REFERENCE)
    fresh = note.with_suffix(".part")  # written last, so what it speaks of is whole
    fresh.write_text(json.dumps({**recipe, "candidate": to_dict(candidate)}), encoding="utf-8")
    os.replace(fresh, note)
    return candidate


def _served(
    config: Config, snapshot: Snapshot, rows: pd.DataFrame, tuned: Tuned
) -> pd.DataFrame | None:
    """What a model that adapts is adapted to: served rows without labels, else the newest rows that
    it learns, as many as a trial was scored on."""
    from models import families
    from models.transfer import adapt

    if not adapt.wanted(families.split(tuned.params)[1]):
        return None
    if snapshot.served.exists():
        return pd.read_parquet(snapshot.served)
    return rows.tail(max(int(len(rows) * config.train.validation), 2))


def _known(note: Path, recipe: Mapping[str, object]) -> Candidate | None:
    """What an earlier run had fitted by the same recipe, if its bundle is whole still."""
    from models.bundle import verify

    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        if any(found[key] != value for key, value in recipe.items()):
            return None
        raw = found["candidate"]
        times = {key: raw[key] and datetime.fromisoformat(raw[key]) for key in _TIMES}
        candidate = Candidate(**{**raw, **times})
        verify(Path(candidate.bundle), candidate.digest)
    except (OSError, ValueError, KeyError, TypeError, BundleFault):
        return None
    return candidate


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
    columns = _columns(config, holdout)
    base_rate = np.bincount(
        to_labels(pd.read_parquet(snapshot.training)[config.data.target], classes),
        minlength=len(classes),
    ) / max(snapshot.rows, 1)
    challenger = Predictor.load(candidate.bundle).predict_proba(columns)
    _keep_proof(config, snapshot, holdout, challenger)
    incumbent = None
    if champion:
        bundle = registry.download(champion.version, config.folder / "serving")
        incumbent = Predictor.load(bundle).predict_proba(columns)
    verdict = judge(
        incumbent,
        challenger,
        to_labels(holdout[config.data.target], classes),
        config.gate,
        metric=config.train.objective,
        seed=config.train.seed,
        baseline=base_rate,
        slices=_slices(config, holdout),
        groups=_groups(config, holdout),
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


def _kept(config: Config, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows as they may be stored beside a version."""
    return frame.drop(columns=config.telemetry.never_store)


def _timed(config: Config, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with their time under the name that the telemetry store gives it, if they have one:
    detectors ask it which rows came together."""
    if config.data.time is None or "time" in frame.columns:
        return frame.drop(columns=[TIME])
    return frame.rename(columns={TIME: "time"})


def _slices(config: Config, holdout: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns in whose values the gate looks as well: those that are watched, and every
    category where the config limits what one may lose or a person is asked."""
    names = dict.fromkeys(config.monitor.slices)
    if config.gate.slice_tolerance is not None or config.approval == "required":
        kinds = config.data.columns.items()
        names |= dict.fromkeys(name for name, kind in kinds if kind == "category")
    return {name: holdout[name].to_numpy() for name in names}


def _groups(config: Config, holdout: pd.DataFrame) -> np.ndarray | None:
    """Which stretch of the gate's block each row lies in, if it has one."""
    from monitoring.clusters import stretches

    return None if config.gate.block is None else stretches(holdout[TIME], config.gate.block)


def _keep_proof(
    config: Config, snapshot: Snapshot, holdout: pd.DataFrame, proba: np.ndarray
) -> None:
    """Rows that the proven model has not learnt, with its answers: what later rows are held to."""
    target = config.data.target
    frame = _timed(config, _kept(config, holdout[[*config.data.columns, target, TIME]]))
    frame = frame.rename(columns={target: "label"}).assign(proba=[row.tolist() for row in proba])
    if len(frame) > PROOF_ROWS:
        frame = frame.sample(PROOF_ROWS, random_state=config.train.seed).sort_index()
    frame.to_parquet(snapshot.folder / lineage.PROOF)


def _columns(config: Config, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: frame[name].to_numpy() for name in config.data.columns}


@task(cache_policy=NO_CACHE)
def registered(config: Config, window_id: str, now: datetime) -> Release | None:
    """The version this window has led to already, if a run that died had come so far.

    What should have followed at once and did not, its alias among it, is made good.
    """
    return places.registry(config).resume(window_id, now)


@task(cache_policy=NO_CACHE)
def register(
    config: Config,
    window_id: str,
    snapshot: Snapshot,
    tuned: Tuned,
    candidate: Candidate,
    proof: tuple[Verdict, str | None],
    now: datetime,
) -> Release:
    """Every candidate goes to MLflow, a refused one too; only one that passed is a challenger."""
    folder = snapshot.folder
    verdict, opponent = proof
    files = {
        name: folder / name
        for name in (
            TRIALS,
            ASKS,
            PICTURE,
            foretelling.FILE,
            lineage.CONTROLLER,
            lineage.REFERENCE,
            lineage.PROOF,
        )
        if (folder / name).exists()
    }
    files[lineage.LINEAGE] = lineage.write(
        folder / lineage.LINEAGE,
        window_id,
        now,
        tuned=tuned,
        candidate=candidate,
        verdict=verdict,
        opponent=opponent,
        unstored=config.telemetry.never_store,
    )
    decision = _decision(config, window_id)
    if decision is not None:
        path = folder / "decision.json"
        path.write_text(json.dumps(decision, indent=2), encoding="utf-8")
        files["decision.json"] = path
    report, picture = (
        place(config, window_id) for place in (places.report_path, places.picture_path)
    )
    files |= {
        name: drawn
        for name, drawn in (("drift_report.html", report), ("drift_picture.png", picture))
        if drawn.exists()
    }
    release = places.registry(config).register(
        Path(candidate.bundle),
        candidate,
        verdict,
        window_id=window_id,
        files=files,
        metrics=foretelling.metrics(files[foretelling.FILE]) if foretelling.FILE in files else {},
        now=now,
    )
    if not verdict.passed:
        told = {"version": release.version, "champion": opponent, "window_id": window_id}
        why = {"why": verdict.reason[:2_000], "gain": verdict.gain}
        events.emit(config, "everfit.refused", {**told, **why}, key=window_id)
    return release


def _decision(config: Config, window_id: str) -> dict[str, object] | None:
    with places.telemetry(config) as store:
        return store.decision(window_id)
