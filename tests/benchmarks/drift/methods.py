"""Two-sample tests under one signature: everfit's, textbook ones, and those of the peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.drift import samples
from tests.benchmarks.peers import environment

Pair = tuple[np.ndarray, np.ndarray]
Test = Callable[[np.ndarray, np.ndarray, bool, int, int], float]


def shift(x: np.ndarray, y: np.ndarray, category: bool, permutations: int, seed: int) -> float:
    from monitoring.shift import shift_test

    x, y = (samples.frame(rows, category) for rows in (x, y)) if _mixed(x, y, category) else (x, y)
    return shift_test(x, y, permutations=permutations, seed=seed, explain=False).p_value


def mmd(x: np.ndarray, y: np.ndarray, category: bool, permutations: int, seed: int) -> float:
    from monitoring.mmd import mmd_test

    if _mixed(x, y, category):
        x, y = _embedded(x, y, category)
    return mmd_test(x, y, permutations=permutations, seed=seed).p_value


def domain(x: np.ndarray, y: np.ndarray, category: bool, permutations: int, seed: int) -> float:
    from monitoring.domain import domain_test

    frames = [samples.frame(rows, category) for rows in (x, y)]
    columns = _kinds(frames[0], category)
    found = domain_test(*frames, columns, permutations=permutations, seed=seed, repeats=0)
    return found.p_value


def hotelling(x: np.ndarray, y: np.ndarray, category: bool, permutations: int, seed: int) -> float:
    """Hotelling's T², the best there is against a change of means alone (F, exact for normal)."""
    from scipy.stats import f

    x, y = samples.plain(x, y, category)
    x, y = x[:, :-1] if category else x, y[:, :-1] if category else y  # one-hot sums to 1
    m, n, d = len(x), len(y), x.shape[1]
    pooled = ((m - 1) * np.cov(x.T) + (n - 1) * np.cov(y.T)) / (m + n - 2)
    gap = x.mean(0) - y.mean(0)
    squared = m * n / (m + n) * gap @ np.linalg.solve(pooled, gap)
    return float(f.sf(squared * (m + n - d - 1) / ((m + n - 2) * d), d, m + n - d - 1))


def columns_ks(x: np.ndarray, y: np.ndarray, category: bool, permutations: int, seed: int) -> float:
    """Kolmogorov-Smirnov on every column, smallest p times the number of columns."""
    from scipy.stats import ks_2samp

    x, y = samples.plain(x, y, category)
    least = min(ks_2samp(a, b, method="asymp").pvalue for a, b in zip(x.T, y.T, strict=True))
    return min(1.0, float(least) * x.shape[1])


OWN: dict[str, Test] = {"everfit shift_test": shift, "everfit mmd_test": mmd}
OWN["everfit domain_test"] = domain
TEXTBOOK: dict[str, Test] = {"Hotelling T²": hotelling, "KS, Bonferroni": columns_ks}
PEERS = {  # name -> environment, script, permutations are its own
    "alibi MMD": ("alibi", "two_sample"),
    "alibi MMD, its 100 permutations": ("alibi", "two_sample"),
    "alibi classifier": ("alibi", "two_sample"),
    "frouros MMD": ("alibi", "two_sample"),
    "Evidently defaults": ("streams", "reports"),
}


def p_values(
    name: str, pairs: Sequence[Pair], category: bool, permutations: int, seed: int
) -> np.ndarray | None:
    """One p-value per pair of samples; None when a peer is not installed.

    Evidently decides without a p-value for all columns: 0 when it says drift, else 1.
    """
    if name in PEERS:
        kind, script = PEERS[name]
        plain = [samples.plain(x, y, category) for x, y in pairs]
        answer = environment.ask(
            kind,
            script,
            {"task": "p_values", "test": name, "permutations": permutations, "seed": seed},
            {"x": np.stack([x for x, _ in plain]), "y": np.stack([y for _, y in plain])},
        )
        return None if answer is None else np.asarray(answer, dtype=float)
    test = {**OWN, **TEXTBOOK}[name]
    return np.array(
        [test(x, y, category, permutations, seed + i) for i, (x, y) in enumerate(pairs)]
    )


def _mixed(x: np.ndarray, y: np.ndarray, category: bool) -> bool:
    return category or bool(np.isnan(x).any() or np.isnan(y).any())


def _kinds(frame: Any, category: bool) -> dict[str, str]:
    kinds = dict.fromkeys(frame.columns, "number")
    if category:
        kinds[frame.columns[-1]] = "category"
    return kinds


def _embedded(x: np.ndarray, y: np.ndarray, category: bool) -> Pair:
    """Coordinates of both, from the pooled rows, so that the level stays exact."""
    from monitoring.embedding import Embedding

    frame = samples.frame(np.concatenate([x, y]), category)
    rows = Embedding.fit(frame, _kinds(frame, category)).transform(frame)
    return rows[: len(x)], rows[len(x) :]
