"""Estimated against realised performance, beside nannyml's estimates and 'nothing changes'.

    everfit bench estimate
    everfit bench estimate --set trials=4
    everfit bench estimate --set 'streams=["noaa_weather", "mine.csv"]' --set target=label
    everfit bench estimate --set 'tables=["cc18/kc1", "cc18/satimage"]'

Streams are cut in order of time, tables are dealt at random without and with a covariate shift; see
estimate/trials.py. Figures are mean absolute errors over the windows, in hundredths (log loss: of a
nat), and, in percent, how often the interval at 95 % held the realised accuracy. nannyml's bounds
are its own, three deviations of the sampling error; it has no log loss. All see the same rows and
the same model; only everfit looks at the columns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.embedding import Embedding
from monitoring.expectation import expected
from monitoring.unlabelled import estimate_performance
from tests.benchmarks.estimate.trials import CUTS, Cut, Trial, stream, table
from tests.benchmarks.peers import environment

METRICS = ("accuracy", "log_loss", "roc_auc")
Figures = dict[str, tuple[float, float, float]]  # metric -> value, low, high


def run(
    json_path: str | Path | None = None,
    *,
    streams: Sequence[str] = ("flights", "elec2"),
    tables: Sequence[str] = (),
    trials: int = 1,
    repeats: int = 20,
    train: int | None = None,
    reference: int | None = None,
    window: int | None = None,
    target: str = "target",
    peers: str | None = None,
    resamples: int = 400,
    threads: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per data set and method. `peers` is the folder of the peers' environments."""
    import os

    from threadpoolctl import threadpool_limits

    if peers is not None:
        os.environ[environment.VARIABLE] = peers
    rows: list[dict[str, Any]] = []
    with threadpool_limits(threads):
        if not tables:
            for name in streams:
                given = CUTS.get(name, Cut(5_000, 2_000, 1_000))
                cut = Cut(
                    train or given.train, reference or given.reference, window or given.window
                )
                rows += compare(stream(name, cut, trials=trials, target=target), resamples, seed)
        for name in tables:
            rows += compare(table(name, repeats=repeats, seed=seed), resamples, seed)
    if json_path is not None:
        Path(json_path).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def compare(trials: Iterable[Trial], resamples: int, seed: int) -> list[dict[str, Any]]:
    """Every method on every window of the trials, summed up by the trials' names."""
    by_name: dict[str, list[Trial]] = {}
    for trial in trials:
        by_name.setdefault(trial.name, []).append(trial)
    rows = []
    for name, group in by_name.items():
        real = [_realised(window) for trial in group for window in trial.windows]
        for method, (found, seconds) in _methods(group, resamples, seed).items():
            rows.append(_row(name, method, found, real, seconds))
    return rows


def _methods(
    group: list[Trial], resamples: int, seed: int
) -> dict[str, tuple[list[Figures] | None, float | str]]:
    found: dict[str, tuple[list[Figures] | None, float | str]] = {}
    for name, estimate in (
        ("everfit", lambda t, w: _everfit(t, w, resamples, seed, weighting=True)),
        ("everfit, no weights", lambda t, w: _everfit(t, w, resamples, seed, weighting=False)),
        ("nothing changes", _unchanged),
    ):
        found[name] = _timed(group, estimate)
        if name.startswith("everfit, "):
            found["nannyml CBPE"] = _nannyml(group)
    return found


def _timed(
    group: list[Trial], estimate: Callable[[Trial, int], Figures]
) -> tuple[list[Figures], float]:
    started = time.perf_counter()
    found = [estimate(trial, w) for trial in group for w in range(len(trial.windows))]
    return found, (time.perf_counter() - started) / max(len(found), 1)


def _everfit(trial: Trial, number: int, resamples: int, seed: int, *, weighting: bool) -> Figures:
    old, new = trial.reference, trial.windows[number]
    points = None
    if weighting:
        embedding = Embedding.fit(old.frame, trial.columns)
        before, after = embedding.transform(old.frame), embedding.transform(new.frame)
        points = (before.astype(np.float64), after.astype(np.float64))
    found = estimate_performance(
        old.proba, old.codes, new.proba, points=points, seed=seed, resamples=resamples
    )
    nothing = float("nan")
    return {
        m: (i.value, i.low if i.low is not None else nothing, i.high or nothing)
        for m, i in found.metrics.items()
    }


def _unchanged(trial: Trial, number: int) -> Figures:
    nothing = float("nan")
    return {m: (v, nothing, nothing) for m, v in _realised(trial.reference).items()}


def _nannyml(group: list[Trial]) -> tuple[list[Figures] | None, float | str]:
    arrays = {}
    for number, trial in enumerate(group):
        arrays[f"proba_{number}"] = trial.reference.proba
        arrays[f"codes_{number}"] = trial.reference.codes
        arrays[f"windows_{number}"] = np.stack([w.proba for w in trial.windows])
    job = {"task": "estimates", "trials": len(group)}
    answer = environment.ask("nannyml", "nannyml_cbpe", job, arrays)
    if answer is None:
        return None, environment.missing("nannyml")
    found = [{m: tuple(v) for m, v in w.items()} for trial in answer for w in trial["windows"]]
    return found, float(np.mean([trial["seconds"] for trial in answer]))


def _realised(rows: Any) -> dict[str, float]:
    """The figures that the labels give; NaN for an area of one class only."""
    found = expected(np.eye(rows.proba.shape[1])[rows.codes], rows.proba)
    return {m: found[m] for m in METRICS}


def _row(
    name: str,
    method: str,
    found: list[Figures] | None,
    real: list[dict[str, float]],
    seconds: float | str,
) -> dict[str, Any]:
    row: dict[str, Any] = {"data": name, "windows": len(real), "method": method}
    for metric in METRICS:
        gaps = [abs(f[metric][0] - r[metric]) for f, r in _both(found, real) if metric in f]
        gaps = [gap for gap in gaps if np.isfinite(gap)]
        row[metric] = 100 * float(np.mean(gaps)) if gaps else None
    bounds = [
        (f["accuracy"][1] <= r["accuracy"] <= f["accuracy"][2], f["accuracy"][2] - f["accuracy"][1])
        for f, r in _both(found, real)
        if np.isfinite(f["accuracy"][1])
    ]
    row["held %"] = 100 * float(np.mean([held for held, _ in bounds])) if bounds else None
    row["width"] = 100 * float(np.mean([width for _, width in bounds])) if bounds else None
    row["s a window"] = seconds
    return row


def _both(
    found: list[Figures] | None, real: list[dict[str, float]]
) -> list[tuple[Figures, dict[str, float]]]:
    return list(zip(found or [], real, strict=found is not None))
