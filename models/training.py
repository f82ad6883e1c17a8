"""Fitting: one trial of a search, and the bundle of what it chose."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from models import bundle, families
from models.data import digest, to_labels
from models.encoding import Encoded, Encoder
from models.errors import DataFault, SpaceFault
from models.families import Fitted, TrainingData
from models.families.base import FitTimeout, Watch
from models.footprint import footprint
from models.metrics import measure, objective
from models.records import Candidate, Params, Trial
from models.schema import Schema, closest
from models.search.standing import parts
from models.transfer import adapt
from models.watchdog import within
from models.watched import Hopeless, Watched

if TYPE_CHECKING:
    import pandas as pd

    from models.onnx.export import Form
    from models.search.fidelity import Judge

logger = logging.getLogger(__name__)

EXAMPLE_ROWS = 3  # with one row, a wrong batch dimension would go unnoticed


@dataclass(frozen=True, slots=True)
class Split:
    """Rows encoded once for many trials: what they fit on and what they are scored on."""

    train: TrainingData
    valid: Encoded
    y_valid: NDArray[np.int64]


def prepare(train: pd.DataFrame, valid: pd.DataFrame, schema: Schema) -> Split:
    """Encode a split; the encoder sees the training rows only. Rows without a label are left out.

    Raises DataFault for columns or labels that break the schema.
    """
    encoder, data = _encoded(_labelled(train, schema), schema)
    valid = _labelled(valid, schema)
    return Split(data, encoder.transform(valid), to_labels(valid[schema.target], schema.classes))


def evaluate_trial(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    schema: Schema,
    params: Params,
    *,
    number: int,
    seed: int,
    objective: str,
    trainer: str | None = None,
    seconds: float | None = None,
    split: Split | None = None,
    footprint_seconds: float = 0.02,
    served: bool = False,
    judge: Judge | None = None,
) -> Trial:
    """Fit on `train`, score on `valid`. A fit that fails or outlasts `seconds` is a failed trial.

    With a `judge` the trial keeps its learning curve, where the family tells one, and is stopped as
    soon as it cannot win any more (see `models.search.fidelity`).

    `params` are of the joined space. `split` spares encoding the same frames again. The metrics are
    those of `valid`, and what fitting and predicting took (see `models.footprint`), with `served`
    in the form that a bundle would serve, which takes a little longer to make. A fit that the
    family cannot stop is interrupted from outside. Raises only DataFault, for an objective that
    does not exist.
    """
    score = _objective(objective)
    began = time.perf_counter()
    watched: list[Watched] = []

    def scored() -> tuple[dict[str, float], float, tuple[float, ...]]:
        known = split or prepare(train, valid, schema)
        if judge is not None:
            watched.append(Watched(known.valid, known.y_valid, score, judge, began))
        watch = watched[0] if watched else None
        cpu = time.thread_time()
        shown = replace(known.train, target=known.valid)  # without its labels
        fitted = _fit(shown, params, seed=seed, trainer=trainer, seconds=seconds, watch=watch)
        cpu = time.thread_time() - cpu
        form = _form(fitted, params, known.train) if served else None
        proba, taken = footprint(fitted, known.valid, seconds=footprint_seconds, form=form)
        how = {"fit_rows": float(len(known.train)), "served_form": float(form is not None)}
        metrics = {**measure(known.y_valid, proba), **taken, "fit_cpu_s": cpu, **how}
        told = parts(score, known.y_valid, proba)
        return metrics, score(known.y_valid, proba), told

    def ended(status: Literal["complete", "stopped", "failed"], **fields: Any) -> Trial:
        curve = watched[0].told if watched else {}
        given: dict[str, Any] = {"number": number, "params": dict(params), "seed": seed, **curve}
        return Trial(**{**given, "status": status, "seconds": spent, **fields})

    try:
        metrics, loss, told = within(seconds, scored)
        spent = time.perf_counter() - began
        if seconds is not None and spent > seconds:
            raise FitTimeout(
                f"a trial may take {seconds:g} s and took {spent:.1f} s: give more seconds or "
                "fewer rows"
            )
    except Hopeless as end:
        spent = time.perf_counter() - began
        return ended("stopped", loss=end.forecast.loss, error=str(end.forecast))
    except Exception as fault:  # whatever a library raises is this trial's loss, not the search's
        logger.warning("trial %d failed: %s: %s", number, type(fault).__name__, fault)
        spent = time.perf_counter() - began
        return ended("failed", loss=None, error=f"{type(fault).__name__}: {fault}")
    return ended("complete", loss=loss, metrics=metrics, fidelity=1.0, parts=told)


_objective = objective  # evaluate_trial has a parameter of that name


def fit_bundle(
    frame: pd.DataFrame,
    schema: Schema,
    params: Params,
    *,
    folder: Path | str,
    seed: int,
    trainer: str | None = None,
    times: pd.Series | None = None,
    metrics: Mapping[str, float] | None = None,
    target: pd.DataFrame | None = None,
    unstored: Collection[str] = (),
) -> Candidate:
    """Fit on all labelled rows and write the bundle into `folder`, whole or not at all.

    `times` are the rows' times (aware), for the lineage; `metrics` are kept with the candidate;
    `target` are rows that need no labels, of the domain that is served, for parameters that adapt.
    Columns in `unstored` are missing in the example that the bundle holds.
    Raises DataFault or SpaceFault for input that cannot be fitted.
    """
    began = time.perf_counter()
    known = frame[schema.target].notna().to_numpy() if schema.target in frame else slice(None)
    rows = _labelled(frame, schema)
    first, last = _span(times, known)
    encoder, data = _encoded(rows, schema)
    served = None if target is None else encoder.transform(target)
    fitted = _fit(replace(data, target=served), params, seed=seed, trainer=trainer, seconds=None)
    family, _ = families.split(params)
    wanted = [column.name for column in schema.columns] + [schema.target]
    data_digest = digest(rows[wanted])
    info = {
        "schema": schema.to_json(),
        "family": family,
        "params": dict(params),
        "trainer": trainer,
        "seed": seed,
        "rows": len(rows),
        "trained_from": first.isoformat() if first else None,
        "trained_through": last.isoformat() if last else None,
        "data_digest": data_digest,
        "base_rates": (np.bincount(data.y, minlength=data.k) / len(data)).tolist(),
        "metrics": dict(metrics or {}),
        "example": {**example(rows, schema), **_gaps(schema, unstored, len(rows))},
        "unstored": sorted(unstored),
    }
    total, _ = bundle.write(Path(folder), fitted, encoder, info, data.encoded)
    return Candidate(
        bundle=str(folder),
        digest=total,
        family=family,
        params=dict(params),
        rows=len(rows),
        trained_from=first,
        trained_through=last,
        data_digest=data_digest,
        seconds=time.perf_counter() - began,
        metrics=dict(metrics or {}),
    )


@dataclass(frozen=True, slots=True)
class Model:
    """An encoder and what was fitted on its rows, in memory."""

    encoder: Encoder
    fitted: Fitted
    data: TrainingData

    def predict_proba(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Probabilities (n, k) in the order of the schema's classes."""
        return self.fitted.predict_proba(self.encoder.transform(frame))


def fit(
    frame: pd.DataFrame,
    schema: Schema,
    params: Params,
    *,
    seed: int,
    trainer: str | None = None,
    target: pd.DataFrame | None = None,
) -> Model:
    """Fit on all labelled rows and keep it in memory; arguments as of `fit_bundle`."""
    encoder, data = _encoded(_labelled(frame, schema), schema)
    served = None if target is None else encoder.transform(target)
    shown = replace(data, target=served)
    return Model(encoder, _fit(shown, params, seed=seed, trainer=trainer, seconds=None), data)


def example(frame: pd.DataFrame, schema: Schema, rows: int = EXAMPLE_ROWS) -> dict[str, list[Any]]:
    """The last rows as columns of plain values, None where missing."""
    tail = frame.tail(rows)
    return {
        column.name: [
            None if gone else (value.item() if hasattr(value, "item") else value)
            for value, gone in zip(tail[column.name], tail[column.name].isna(), strict=True)
        ]
        for column in schema.columns
    }


def _gaps(schema: Schema, unstored: Collection[str], rows: int) -> dict[str, list[Any]]:
    """What an example has of columns that are never stored."""
    held = min(rows, EXAMPLE_ROWS)
    return {c.name: [None] * held for c in schema.columns if c.name in unstored}


def _labelled(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    if schema.target not in frame:
        raise DataFault(
            f"the table has no target column {schema.target!r}: "
            f"{closest(schema.target, map(str, frame.columns))}"
        )
    known = frame[schema.target].notna()
    rows = frame if bool(known.all()) else frame[known]
    if not len(rows):
        raise DataFault(
            f"learning needs labelled rows, got none of {len(frame):,} with a {schema.target!r}: "
            "wait for labels, or correct the target"
        )
    return rows


def _encoded(rows: pd.DataFrame, schema: Schema) -> tuple[Encoder, TrainingData]:
    encoder = Encoder.fit(rows, schema)
    y = to_labels(rows[schema.target], schema.classes)
    data = TrainingData(encoder.transform(rows), y, len(schema.classes), encoder.cardinality)
    return encoder, data


def _fit(
    data: TrainingData,
    params: Params,
    *,
    seed: int,
    trainer: str | None,
    seconds: float | None,
    watch: Watch | None = None,
) -> Fitted:
    name, own = families.split(params)
    family = families.get(name, trainer)
    data, own = adapt.prepared(family, data, own, seed=seed)
    names = [parameter.name for parameter in family.space.parameters]
    names += [key for key in (adapt.CHOICE, adapt.STRENGTH) if adapt.wanted(own)]
    if strange := [key for key in own if key not in names]:
        raise SpaceFault(f"{name} has the parameters {names}, got {strange}: correct them")
    kinds = data.kinds
    if not kinds & family.reads:
        raise SpaceFault(
            f"{name} reads columns of {' and '.join(sorted(family.reads))}, got "
            f"{' and '.join(sorted(kinds))} alone: choose a family that reads them"
        )
    chosen = {**(family.default or {}), **own}
    return adapt.fit(family, data, chosen, seed=seed, seconds=seconds, watch=watch)


def _form(fitted: Fitted, params: Params, data: TrainingData) -> Form | None:
    from models.onnx.export import form

    return form(fitted, families.split(params)[0], data)


def _span(times: pd.Series | None, known: Any) -> tuple[datetime | None, datetime | None]:
    if times is None:
        return None, None
    chosen = times[known].dropna()
    if not len(chosen):
        return None, None
    return chosen.min().to_pydatetime(), chosen.max().to_pydatetime()
