"""Errors on trials that were held out, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from models.performance import Performance, Seen
from models.performance.seen import is_ratio
from models.performance.shapes import PROCESS, RIDGE
from tests.benchmarks.predictor.measured import Measured

TARGETS = ("latency_ms", "latency_p95_ms", "predict_cpu_ms", "throughput_rows_s", "size_mb",
           "fit_cpu_s", "log_loss")  # fmt: skip
KINDS = {"ridge": (RIDGE,), "process": (PROCESS,), "chosen": (RIDGE, PROCESS)}
FEWEST = 8  # held-out trials that an error is told of


def table(trials: Sequence[Seen], learn: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """One line for each figure and number of trials that were learnt."""
    rows = []
    for target in [name for name in TARGETS if any(name in one.figures for one in trials)]:
        for count in [n for n in learn if n <= len(trials) - FEWEST]:
            errors: dict[str, list[float]] = {name: [] for name in ("family", *KINDS)}
            r2, held, own = [], [], []
            for seed in range(seeds):
                order = np.random.default_rng(seed).permutation(len(trials))
                known = [trials[i] for i in order[:count]]
                unseen = [trials[i] for i in order[count:]]
                for name, kinds in KINDS.items():
                    model = Performance(known, [target], kinds=kinds)
                    told = model.report_on(unseen, target)
                    if told is None:
                        continue
                    errors[name].append(told.error)
                    if name == "chosen":
                        r2.append(told.r2 or 0.0)
                        held.append(told.held)
                        own.append(model.reports()[0].error)
                errors["family"].append(_by_family(known, unseen, target))
            rows.append(
                {
                    "figure": target,
                    "learnt": count,
                    **{name: told_of(values, target) for name, values in errors.items()},
                    "R2": told_of(r2, ""),
                    "in 90 %": f"{np.mean(held):.0%}",
                    "said of itself": told_of(own, target),
                }
            )
    return rows


def beyond(trials: Sequence[Seen], seeds: int) -> list[dict[str, Any]]:
    """The largest samples, foretold from trials on the smaller ones."""
    largest = max(trial.rows for trial in trials)
    rows = []
    for target in TARGETS:
        errors, held = [], []
        for seed in range(seeds):
            smaller = [trial for trial in trials if trial.rows < largest]
            order = np.random.default_rng(seed).permutation(len(smaller))
            known = [smaller[i] for i in order[: int(0.8 * len(smaller))]]
            model = Performance(known, [target])
            told = model.report_on([t for t in trials if t.rows == largest], target)
            if told is not None:
                errors.append(told.error)
                held.append(told.held)
        if errors:
            smaller_rows = sorted({trial.rows for trial in trials} - {largest})
            rows.append(
                {
                    "figure": target,
                    "learnt on rows": ", ".join(f"{n:,}" for n in smaller_rows),
                    "foretold on rows": f"{largest:,}",
                    "median error": told_of(errors, target),
                    "in 90 %": f"{np.mean(held):.0%}",
                }
            )
    return rows


def floor(found: Measured) -> list[dict[str, Any]]:
    """How far two measurements of the same configuration lie apart."""
    rows = []
    for target in TARGETS:
        pairs = [
            (a.figures[target], b.figures[target])
            for a, b in zip(found.trials, found.again, strict=False)
            if target in a.figures and target in b.figures
        ]
        if pairs:
            off = [abs(a - b) / (b if is_ratio(target) else 1.0) for a, b in pairs]
            apart = float(np.median(off))
            said = f"{apart:.1%}" if is_ratio(target) else f"{apart:.2g}"
            rows.append({"figure": target, "measured twice": len(pairs), "apart by": said})
    return rows


def _by_family(known: Sequence[Seen], unseen: Sequence[Seen], target: str) -> float:
    """The median error of answering the family's median."""
    values: dict[str, list[float]] = {}
    for trial in known:
        if target in trial.figures:
            values.setdefault(trial.family, []).append(trial.figures[target])
    off = []
    for trial in unseen:
        if trial.family in values and target in trial.figures:
            real, told = trial.figures[target], float(np.median(values[trial.family]))
            off.append(abs(told - real) / (abs(real) if is_ratio(target) else 1.0))
    return float(np.median(off))


def told_of(values: Sequence[float], target: str) -> str:
    """The mean, and half of its 95 % interval over the seeds."""
    if not values:
        return ""
    mean, half = float(np.mean(values)), 0.0
    if len(values) > 1:
        half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    if target and is_ratio(target):
        return f"{mean:.1%} ({half:.1%})"
    return f"{mean:.3g} ({half:.2g})"
