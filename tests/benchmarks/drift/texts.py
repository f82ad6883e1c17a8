"""Texts: what is drawn, who tests it, level and power of the witnesses, and years of daily checks.

Reviews of books (`amazon_3domains`) are the stationary world: pairs of samples are drawn from them
without a text in common, and years with replacement, so that every text is as likely on any day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tests.benchmarks.drift import counts

LEVELS = (0.05, 0.01, 0.001)
Texts = list[str]
Test = Callable[[Texts, Texts, int, int], float]
Say = Callable[[str], None]


@lru_cache(maxsize=8)
def corpus(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All texts of a corpus and the codes of their labels."""
    from tests.benchmarks.text.corpora import load

    found = load(name)
    rows = np.arange(len(found.frame))
    return np.array(found.texts(rows), dtype=object), found.codes(rows)


@dataclass(frozen=True)
class Case:
    """One change of a share of the current texts."""

    name: str
    change: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]

    def draw(self, rng: np.random.Generator, m: int, n: int) -> tuple[Texts, Texts]:
        texts, codes = corpus("books")
        order = rng.permutation(len(texts))
        old, rest = order[:m], order[m:]
        return list(texts[old]), list(self.change(rng, texts[rest], codes[rest])[:n])


def _others(name: str, share: float) -> Any:
    def change(rng: np.random.Generator, texts: np.ndarray, codes: np.ndarray) -> np.ndarray:
        drawn = rng.choice(corpus(name)[0], len(texts))
        return np.where(rng.random(len(texts)) < share, drawn, texts)

    return change


def _edited(share: float, edit: Callable[[str], str]) -> Any:
    def change(rng: np.random.Generator, texts: np.ndarray, codes: np.ndarray) -> np.ndarray:
        chosen = rng.random(len(texts)) < share
        edited = np.array([edit(text) for text in texts], dtype=object)
        return np.where(chosen, edited, texts)

    return change


def _labels(share: float) -> Any:
    """More texts of the second class: the same words, another mixture."""

    def change(rng: np.random.Generator, texts: np.ndarray, codes: np.ndarray) -> np.ndarray:
        weight = np.where(codes == 1, share, 1 - share)
        order = np.argsort(rng.random(len(texts)) ** (1 / weight))[::-1]
        return texts[order]

    return change


NONE = Case("none", _edited(0.0, str))
CASES = (
    Case("20 % about films", _others("dvd", 0.2)),
    Case("10 % about films", _others("dvd", 0.1)),
    Case("10 % text messages", _others("sms_spam", 0.1)),
    Case("praise in 70 % of the texts, not 50 %", _labels(0.7)),
    Case("a new word in 10 %", _edited(0.1, lambda t: t + " Zyxel")),
    Case("'book' now 'novel' in 20 %", _edited(0.2, lambda t: t.replace("book", "novel"))),
    Case("letters replaced (o by 0) in 10 %", _edited(0.1, lambda t: t.replace("o", "0"))),
    Case("cut after 600 characters", _edited(1.0, lambda t: t[:600])),
    Case("capitals in 5 %", _edited(0.05, str.upper)),
)


def shift(x: Texts, y: Texts, permutations: int, seed: int) -> float:
    import pandas as pd

    from monitoring.shift import shift_test
    from monitoring.text.points import placed

    sides = (pd.DataFrame({"text": side}) for side in (x, y))
    old, new, kinds = placed(*sides, {"text": "text"}, "point")
    return shift_test(
        old, new, permutations=permutations, seed=seed, kinds=kinds, explain=False
    ).p_value


def mmd(x: Texts, y: Texts, permutations: int, seed: int) -> float:
    from monitoring.mmd import mmd_test
    from monitoring.text.points import AXES, points

    rows = points([*x, *y])[:, :AXES]
    return mmd_test(rows[: len(x)], rows[len(x) :], permutations=permutations, seed=seed).p_value


def vocabulary(x: Texts, y: Texts, permutations: int, seed: int) -> float:
    from monitoring.text.vocabulary import compare

    return compare(x, y, seed=seed).p_value


def columns_ks(x: Texts, y: Texts, permutations: int, seed: int) -> float:
    from scipy.stats import ks_2samp

    from monitoring.text.points import points

    rows = points([*x, *y])
    sides = zip(rows[: len(x)].T, rows[len(x) :].T, strict=True)
    return min(1.0, rows.shape[1] * min(ks_2samp(a, b, method="asymp").pvalue for a, b in sides))


def own_words(x: Texts, y: Texts, permutations: int, seed: int) -> float:
    """Out-of-vocabulary shares against the reference's own words, which has none: the plain way."""
    from scipy.stats import mannwhitneyu

    from monitoring.text.words import words

    known = {word for text in x for word in words(text)}
    share = [
        [np.mean([word not in known for word in words(text)] or [0.0]) for text in side]
        for side in (x, y)
    ]
    return float(mannwhitneyu(share[1], share[0], alternative="greater").pvalue)


def evidently(x: Texts, y: Texts, permutations: int, seed: int) -> float:
    """Its classifier of texts, whose ROC AUC is held against that of random scores at 5 %."""
    import pandas as pd
    from evidently.legacy.utils.data_drift_utils import calculate_text_drift_score

    found = calculate_text_drift_score(pd.Series(x), pd.Series(y), bootstrap=True, p_value=0.05)
    return 0.0 if found[1] else 1.0


TESTS: dict[str, Test] = {
    "everfit shift_test on texts": shift,
    "everfit vocabulary": vocabulary,
    "everfit mmd_test alone": mmd,
    "KS on the points, Bonferroni": columns_ks,
    "words that the reference lacks": own_words,
    "Evidently's text classifier, 5 %": evidently,
}
SLOW = ("Evidently's text classifier, 5 %",)


def level(
    *, tests: Sequence[str], repetitions: int, slow: int, rows: int, permutations: int, seed: int,
    say: Say,
) -> list[dict[str, Any]]:  # fmt: skip
    """One row per test: the share of rejections at every level, and whether it may be chance."""
    table = []
    for name in tests:
        count = min(repetitions, slow) if name in SLOW else repetitions
        began = time.perf_counter()
        values = _p_values(name, NONE, count, rows, permutations, seed)
        found: dict[str, Any] = {"test": name, "repetitions": count}
        outside = []
        decides = bool(np.isin(values, (0.0, 1.0)).all())
        for at in LEVELS:
            rejections = int((values <= at).sum())
            found[f"at {at:g}"] = rejections / count
            flag = counts.verdict(rejections, at, count)
            if flag == "too many":
                low, high = counts.chance(at, count)
                outside.append(f"{flag} at {at:g}: {rejections}, chance is {low} to {high}")
        found["seconds a test"] = round((time.perf_counter() - began) / count, 3)
        found["note"] = "a rule of its own" if decides else "; ".join(outside)
        say(f"level: {name}")
        table.append(found)
    return table


def power(
    *, tests: Sequence[str], repetitions: int, slow: int, rows: int, permutations: int, at: float,
    seed: int, say: Say,
) -> list[dict[str, Any]]:  # fmt: skip
    """One row per change: the share of rejections at `at`, and the share of texts moved as told."""
    from monitoring.text.vocabulary import compare

    table = []
    for number, case in enumerate(CASES):
        row: dict[str, Any] = {"change": case.name}
        for name in tests:
            count = min(repetitions, slow) if name in SLOW else repetitions
            values = _p_values(name, case, count, rows, permutations, seed + number)
            row[name] = float((values <= at).mean())
        rng = np.random.default_rng((seed, number, 1))
        effects = [compare(*case.draw(rng, rows, rows)).effect for _ in range(min(repetitions, 20))]
        row["effect"] = round(float(np.median(effects)), 3)
        row["error"] = round(counts.standard_error(0.5, repetitions), 3)
        say(f"power: {case.name}")
        table.append(row)
    return table


def _p_values(
    name: str, case: Case, repetitions: int, rows: int, permutations: int, seed: int
) -> np.ndarray:
    rng = np.random.default_rng((seed, 0))  # every test sees the same texts
    pairs = (case.draw(rng, rows, rows) for _ in range(repetitions))
    return np.array([TESTS[name](x, y, permutations, seed + i) for i, (x, y) in enumerate(pairs)])
