"""The domain classifier: how well can a classifier tell current rows from reference rows?

Its held-out error bounds how far two distributions can differ for any classifier of its class: the
proxy A-distance 2 (1 - 2 err) estimates the H-divergence (Ben-David et al., 'Analysis of
representations for domain adaptation', 2007; 'A theory of learning from different domains', 2010).
As a test it is that of Lopez-Paz and Oquab ('Revisiting classifier two-sample tests', 2017), at an
exact level.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.crossfit import Expansion, Floats, Refits
from monitoring.domain_points import place
from monitoring.errors import WindowFault
from monitoring.records import Kind, Signal

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

_CALIBRATION = 199  # permutations that put the classifiers on one scale; not used for the p-value
_ENOUGH = 10  # permuted statistics above the observed one that settle it (Besag and Clifford)
_SPARE = 3  # permutations made, in units of 1 / level, before the test rejects
_RANKED = 64  # columns whose importance is measured


@dataclass(frozen=True, slots=True)
class DomainResult:
    """What the cross-fitted classifier found; all figures are of held-out rows."""

    accuracy: float  # balanced: the mean of both sides' shares that were told right
    auc: float  # area under the ROC curve; 0.5 tells nothing
    a_distance: float  # 2 (1 - 2 err), from 0 to 2, with the balanced error
    p_value: float
    importances: Mapping[str, float]  # loss of AUC when the column is permuted, largest first
    rows: tuple[int, int]  # reference, current
    permutations: int  # made for the p-value
    folds: int


def domain_test(
    reference: Any,
    current: Any,
    columns: Mapping[str, str] | None = None,
    *,
    permutations: int = 999,
    folds: int = 10,
    seed: int = 0,
    level: float | None = None,
    repeats: int = 5,
) -> DomainResult:
    """Tell `current` (n rows) from `reference` (m rows) and test whether that is better than luck.

    Frames with `columns` (name -> 'number' or 'category'), or two arrays (m, d) and (n, d) of
    numbers. Numbers count by their pooled ranks (as normal scores), so units and wild values do not
    matter; a missing value is an indicator; a category has one indicator per level.

    The p-value is exact: rows are placed without a look at their side, split at random into
    `folds` with both sides in each, and under no drift the labels within a fold are exchangeable.
    Labels are permuted within every fold, and the classifiers of all folds are fitted anew to every
    permutation, which costs a matrix product (see `monitoring.crossfit`). No held-out half is given
    up and no folds are combined after the fact. The statistic is the largest of four classifiers',
    each in units of 199 further permutations of its own, which keeps the level exact and the
    classifiers comparable.

    `level`: permutations stop once 10 of them reached the observed statistic (Besag and Clifford
    1991), and go on to 3 / level where they did not, so p <= level can be reached at any level and
    a check without drift costs one small batch. Without `level`, exactly `permutations` are made.

    Importances are means over `repeats` permutations of a column (0: none are measured), of the 64
    columns with the largest weights; the others have 0.
    Raises WindowFault for rows that cannot be read and for fewer than 4 rows on a side.
    """
    if permutations < 1 or folds < 2 or (level is not None and not 0 < level < 1):
        raise WindowFault(
            "permutations must be at least 1, folds at least 2 and level between 0 and 1, got "
            f"{permutations}, {folds} and {level}: correct them"
        )
    rng = np.random.default_rng(seed)
    coordinates, owners, names, m = place(reference, current, columns)
    n = len(coordinates) - m
    for side, count in (("reference", m), ("current", n)):
        if count < 4:
            raise WindowFault(
                f"a classifier needs at least 4 rows on each side, got {count} {side} rows: wait "
                "for more, or widen the window"
            )
    folds = min(folds, m // 2, n // 2)
    side = np.r_[np.zeros(m), np.ones(n)]
    fold = np.concatenate([rng.permutation(m), rng.permutation(n)]) % folds
    expansion = Expansion.fit(coordinates, rng)
    refits = Refits.prepare(expansion(coordinates), coordinates.shape[1], expansion.base, fold)
    held = [side[fold == k] - side[fold == k].mean() for k in range(folds)]
    observed, calibration = refits.statistics([y[None] for y in held]), _CALIBRATION
    known = _permuted_statistics(refits, held, calibration, rng)
    middle, high = np.quantile(known, [0.5, 0.95], axis=1)
    spread = np.where(high - middle > 1e-12 * np.abs(known).max(axis=1), high - middle, np.inf)

    def largest(values: Floats) -> Floats:
        # rounded, so that equal labellings tie whatever the order of summation
        return np.asarray(np.round((values - middle[:, None]) / spread[:, None], 9).max(axis=0))

    p_value, made = _p_value(
        largest(observed)[0],
        lambda count: largest(_permuted_statistics(refits, held, count, rng)),
        permutations,
        level,
    )
    weights = refits.stacked([y[None] for y in held], spread)
    scores = np.einsum("np,np->n", refits.features, weights[fold])
    accuracy = _balanced_accuracy(refits.features, weights, scores, side, fold)
    auc = _auc(scores, side, fold)
    importances = _importances(
        coordinates, owners, names, expansion, weights, scores, side, fold, auc, repeats, rng
    )
    return DomainResult(
        accuracy, auc, max(0.0, 2 * (2 * accuracy - 1)), p_value, importances, (m, n), made,
        folds,
    )  # fmt: skip


def domain_signal(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    p_value: float = 0.001,
    permutations: int = 999,
    folds: int = 10,
    rows: int = 1_000,
    seed: int = 0,
    minimum_rows: int = 200,
) -> Signal:
    """Drift, as far as a domain classifier sees it; `value` is its held-out AUC.

    `columns` are 'number', 'category' or 'text', the last as points (`monitoring.text.points`).
    Breached when the permutation p-value is at or below `p_value`. At most `rows` rows of each side
    enter, drawn without replacement by `seed`. Too few rows, or rows that cannot be read, give a
    signal that says so instead of 'no drift'.
    """
    name, threshold = "domain_classifier", f"p <= {p_value:.3g}"

    def silent(reason: str) -> Signal:
        return Signal(name, Kind.DRIFT, None, threshold=threshold, rows=len(current), reason=reason)

    floor = max(minimum_rows, 4)
    for side, frame in (("current", current), ("reference", reference)):
        if len(frame) < floor:
            return silent(f"{len(frame):,} {side} rows; at least {floor:,} are needed")
    rng = np.random.default_rng(seed)
    old, new = _sample(reference, rows, rng), _sample(current, rows, rng)
    if "text" in columns.values() and all(c in f for c in columns for f in (old, new)):
        from monitoring.text.points import placed

        old, new, columns = placed(old, new, columns)
    try:
        found = domain_test(
            old, new, columns,
            permutations=permutations, folds=folds, seed=seed, level=p_value,
        )  # fmt: skip
    except WindowFault as fault:
        _log.warning("the domain classifier could not read the rows: %s", fault)
        return silent(str(fault))
    moved = [
        {"column": column, "importance": round(loss, 6)}
        for column, loss in list(found.importances.items())[:10]
        if loss > 0
    ]
    return Signal(
        name,
        Kind.DRIFT,
        found.p_value <= p_value,
        value=found.auc,
        p_value=found.p_value,
        threshold=threshold,
        rows=found.rows[1],
        detail={
            "accuracy": found.accuracy,
            "a_distance": found.a_distance,
            "reference_rows": found.rows[0],
            "permutations": found.permutations,
            "folds": found.folds,
            "importances": moved,
            "seed": seed,
        },
    )


def _sample(frame: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    if len(frame) <= rows:
        return frame
    return frame.iloc[np.sort(rng.choice(len(frame), size=rows, replace=False))]


def _permuted_statistics(
    refits: Refits, held: list[Floats], count: int, rng: np.random.Generator
) -> Floats:
    """Statistics (views, count) of labels permuted within each fold."""
    found, step = [], refits.batch()
    for start in range(0, count, step):
        size = min(step, count - start)
        labels = [rng.permuted(np.tile(y, (size, 1)), axis=1) for y in held]
        found.append(refits.statistics(labels))
    return np.concatenate(found, axis=1)


def _p_value(
    observed: float, draw: Any, permutations: int, level: float | None
) -> tuple[float, int]:
    """p and the permutations spent; `draw(count)` gives that many permuted statistics."""
    if level is None:
        return float(1 + (draw(permutations) >= observed).sum()) / (1 + permutations), permutations
    most = max(permutations, math.ceil(_SPARE / level - 1e-9) - 1)
    above, made, step = 0, 0, 100
    while made < most:
        step = min(step, most - made)
        reached = draw(step) >= observed
        running = above + np.cumsum(reached)
        if running[-1] >= _ENOUGH:
            last = int(np.argmax(running >= _ENOUGH))
            return _ENOUGH / (made + last + 1), made + last + 1
        above, made = int(running[-1]), made + step
        step = min(2 * step, 20_000)
    return (1 + above) / (1 + made), made


def _auc(scores: Floats, side: Floats, fold: NDArray[np.int64]) -> float:
    """Over pairs of one fold only: scores of different classifiers are not compared."""
    from scipy.stats import rankdata

    won = pairs = 0.0
    for k in range(int(fold.max()) + 1):
        here, positive = scores[fold == k], side[fold == k] == 1
        n, m = positive.sum(), (~positive).sum()
        won += rankdata(np.round(here, 12))[positive].sum() - n * (n + 1) / 2
        pairs += n * m
    return float(won / pairs)


def _balanced_accuracy(
    features: Floats, weights: Floats, scores: Floats, side: Floats, fold: NDArray[np.int64]
) -> float:
    """With the threshold half-way between the training rows' mean scores."""
    right = np.zeros(len(scores))
    for k, own in enumerate(weights):
        rest = fold != k
        trained, label = features[rest] @ own, side[rest] == 1
        threshold = (trained[label].mean() + trained[~label].mean()) / 2
        margin = np.where(side[~rest] == 1, 1, -1) * np.round(scores[~rest] - threshold, 12)
        right[~rest] = np.where(margin == 0, 0.5, margin > 0)
    return float((right[side == 1].mean() + right[side == 0].mean()) / 2)


def _importances(
    coordinates: Floats,
    owners: NDArray[np.int64],
    names: tuple[str, ...],
    expansion: Expansion,
    weights: Floats,
    scores: Floats,
    side: Floats,
    fold: NDArray[np.int64],
    auc: float,
    repeats: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """AUC lost when a column's held-out values are permuted within their fold (Breiman 2001)."""
    q = coordinates.shape[1]
    order = list(range(len(names)))
    if len(names) > _RANKED:  # by how strongly the column's own coordinates are weighed
        size = np.abs(weights[:, :q]).mean(axis=0)
        if expansion.axes is not None:
            curved = np.abs(weights[:, q:]).mean()
            size = size + curved * np.abs(expansion.axes).mean(axis=1)
        strength = np.bincount(owners, size, minlength=len(names))
        order = sorted(order, key=lambda i: (-strength[i], i))[:_RANKED]
    loss = dict.fromkeys(names, 0.0)
    rows = [np.flatnonzero(fold == k) for k in range(len(weights))]
    own, before = weights[fold], expansion.curved(coordinates)
    moved = coordinates.copy()
    for owner in order:
        mine = np.flatnonzero(owners == owner)
        for _ in range(repeats if len(mine) else 0):
            source = np.arange(len(side))
            for held_out in rows:
                source[held_out] = rng.permutation(held_out)
            change = coordinates[np.ix_(source, mine)] - coordinates[:, mine]
            moved[:, mine] += change
            changed = scores + (change * own[:, mine]).sum(axis=1)
            changed += ((expansion.curved(moved) - before) * own[:, q:]).sum(axis=1)
            loss[names[owner]] += (auc - _auc(changed, side, fold)) / repeats
            moved[:, mine] = coordinates[:, mine]
    ranked = sorted(loss.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked)
