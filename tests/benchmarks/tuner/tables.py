"""Tables of results: mean regret, rank, and paired tests against one tuner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.tuner.problems import MARKS
from tests.benchmarks.tuner.results import Row

REFERENCE = "controller"
Cell = tuple[str, int]  # problem, seed
Curves = dict[str, dict[int, dict[Cell, Row]]]  # tuner, trial, cell


def label(row: Row) -> str:
    return row.tuner if row.mode == "cold" else f"{row.tuner} {row.mode}"


def curves(rows: Iterable[Row], problems: Iterable[str] | None = None) -> Curves:
    """Rows by tuner, trial and cell: of each tuner on a problem only its latest release, of a run
    the last."""
    known = list(rows)
    latest = {(row.mode, row.tuner, row.problem): row.version for row in known}
    wanted = None if problems is None else set(problems)
    out: Curves = defaultdict(lambda: defaultdict(dict))
    for row in known:
        newest = row.version == latest[row.mode, row.tuner, row.problem]
        if newest and (not wanted or row.problem in wanted):
            out[label(row)][row.trial][row.problem, row.seed] = row
    return out


def regret(row: Row, by: str) -> float:
    """by 'best': of the best noisy loss; by 'champion': of what the tuner itself would choose."""
    return row.regret if by == "best" or np.isnan(row.champion) else row.champion


def table(
    rows: Iterable[Row],
    problems: Sequence[str],
    *,
    marks: Sequence[int] = MARKS,
    reference: str = REFERENCE,
    by: str = "best",
) -> list[dict[str, Any]]:
    """One row per mark and tuner, the smallest regret first.

    regret: mean over problems of the mean over seeds; half: half a 95 % interval over seeds, given
    the problems; rank: mean over problems of the rank of the mean regret, for tuners that ran on
    all of them; gain, p: the reference's mean minus this tuner's on the (problem, seed) that both
    have, negative where the reference is better, and the two-sided Wilcoxon signed-rank test;
    pairs: how many those are; cpu_ms: of one trial.
    """
    every = curves(rows, problems)
    out: list[dict[str, Any]] = []
    for mark in marks:
        here = {name: cells[mark] for name, cells in every.items() if cells.get(mark)}
        ranks = _ranks(here, problems, by)
        lines = [
            {
                "trials": mark,
                "tuner": name,
                "problems": len({problem for problem, _ in cells}),
                "runs": len(cells),
                **_mean(cells, by),
                "rank": ranks.get(name),
                **_paired(here.get(reference), cells, by, name == reference),
                "cpu_ms": float(np.mean([row.cpu_ms / mark for row in cells.values()])),
            }
            for name, cells in here.items()
        ]
        out += sorted(lines, key=lambda line: (-line["problems"], line["regret"]))
    return out


def by_problem(cells: dict[Cell, Row], by: str) -> dict[str, list[float]]:
    out: dict[str, list[float]] = defaultdict(list)
    for (problem, _), row in sorted(cells.items()):
        out[problem].append(regret(row, by))
    return out


def _mean(cells: dict[Cell, Row], by: str) -> dict[str, float | None]:
    values = list(by_problem(cells, by).values())
    half = None
    if all(len(v) > 1 for v in values):
        half = 1.96 * float(np.sqrt(sum(np.var(v, ddof=1) / len(v) for v in values))) / len(values)
    return {"regret": float(np.mean([np.mean(v) for v in values])), "half": half}


def _ranks(here: dict[str, dict[Cell, Row]], problems: Sequence[str], by: str) -> dict[str, float]:
    from scipy.stats import rankdata

    means = {name: by_problem(cells, by) for name, cells in here.items()}
    full = [name for name, found in means.items() if set(found) >= set(problems)]
    if len(full) < 2:
        return {}
    scores = [[np.mean(means[name][problem]) for name in full] for problem in problems]
    return dict(zip(full, rankdata(scores, axis=1).mean(axis=0).tolist(), strict=True))


def _paired(
    reference: dict[Cell, Row] | None, cells: dict[Cell, Row], by: str, own: bool
) -> dict[str, float | int | None]:
    from scipy.stats import wilcoxon

    common = sorted(set(reference or {}) & set(cells))
    if own or not common:
        return {"gain": None, "p": None, "pairs": None}
    assert reference is not None
    gap = np.array([regret(reference[c], by) - regret(cells[c], by) for c in common])
    p = float(wilcoxon(gap, zero_method="zsplit").pvalue) if np.any(gap) else 1.0
    return {"gain": float(gap.mean()), "p": p, "pairs": len(common)}
