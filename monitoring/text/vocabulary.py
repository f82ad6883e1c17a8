"""Has the vocabulary of a text column moved: new words, words that come more or less, the form?

Every question is put to whole texts, since the words of one text are not independent:

- words never seen: the texts of both sides are dealt to folds. The share of each text's words that
  the reference lacks outside the text's fold is compared between the sides within every fold, where
  they are exchangeable if nothing changed; a reference held against its own vocabulary is not. The
  folds' rank sums are added (van Elteren 1960).
- all words together: a naive Bayes classifier learns outside a fold what tells the sides apart, and
  its scores of the fold's texts are compared in the same way; folds whose classifiers share most of
  what they learnt vary together, by as much as Nadeau and Bengio (Machine Learning 52, 2003) say.
- each word: the share of texts that hold it, by Fisher's exact test. Words that are too rare to
  reach the corrected level whatever happened are left out of the correction (Tarone, Biometrics 46,
  1990), the others share it (Holm 1979).
- the form: length, capitals, figures and marks, by Kolmogorov and Smirnov's test.

Each question gets a quarter of the level. Where rows have times, a share is tested on as many texts
as bursts in time leave it worth (`monitoring.bursts`).

How far the texts moved, whatever their number, is told by that classifier too: the one-sided
Kolmogorov-Smirnov distance of its held-out scores, less what chance brings, is a share of texts
that would have to change for the window to look like the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.bursts import window_effect, worth
from monitoring.exact import holm, moved
from monitoring.text.forms import FORMS, forms
from monitoring.text.words import counts
from monitoring.twosample import all_current, fisher

Floats = NDArray[np.float64]
Spans = NDArray[np.int64] | None

NAMED_FROM = 10  # texts that hold a word before any report may name it
_FOLDS = 5
_QUESTIONS = 4
_CANDIDATES = 200  # words, the most significant, that are looked at for bursts
_DELTA = math.sqrt(math.pi / 8)  # mean of the one-sided Kolmogorov distribution


@dataclass(frozen=True, slots=True)
class Term:
    """A word whose share of texts moved; `p_value` is corrected for all words."""

    word: str
    before: float
    now: float
    p_value: float
    burst: bool = False  # it moved if all texts are independent, but may be a few bursts: no proof


@dataclass(frozen=True, slots=True)
class Form:
    name: str
    before: float  # median
    now: float
    distance: float  # Kolmogorov-Smirnov
    p_value: float  # corrected


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found in one text column; every p-value is corrected within the column."""

    unseen: tuple[float, float]  # mean share of a text's words that the reference outside its fold
    # lacks, before and now
    unseen_error: float  # standard error of the latter
    unseen_p: float
    together_p: float
    new: float  # mean share of a text's words that the whole reference lacks, now
    terms: tuple[Term, ...]  # that moved at the level, the farthest first, and then those in bursts
    forms: tuple[Form, ...]
    words: int  # tested
    effect: float

    @property
    def moved(self) -> tuple[Term, ...]:
        """The words that moved by more than bursts."""
        return tuple(t for t in self.terms if not t.burst)

    @property
    def p_value(self) -> float:
        return min(
            self.unseen_p,
            self.together_p,
            *(f.p_value for f in self.forms),
            *(t.p_value for t in self.moved),
        )


def compare(
    reference: Sequence[str],
    current: Sequence[str],
    *,
    level: float = 0.01,
    seed: int = 0,
    spans: Spans = None,
    periods: Spans = None,
) -> Comparison:
    """`reference` (m texts) and `current` (n texts), in any order, each at least 2.

    `spans` (n,) are blocks in time of the current texts, `periods` (m,) those of the reference that
    are as long as the window (`monitoring.bursts`).
    """
    m, n = len(reference), len(current)
    found = counts([*reference, *current])
    held = found.matrix.copy()
    held.data[:] = 1.0
    late = np.repeat([False, True], [m, n])
    before, now = (
        np.bincount(held[side].indices, minlength=held.shape[1]) for side in (~late, late)
    )
    known = held.sum(axis=1)
    fold = _folds(m, n, np.random.default_rng(seed))
    unseen = _unseen(held, known, late, fold)
    scores = _scores(held[:, before + now >= 3], late, fold)
    terms, tested = _terms(
        held, found.terms, before, now, (m, n), level / _QUESTIONS, spans, periods
    )
    shapes = _forms(forms(reference), forms(current), spans, periods)
    fresh = held[late] @ (before == 0).astype(np.float64) / np.maximum(known[late], 1)
    effect = max(
        _distance(scores, late),
        *(abs(t.now - t.before) for t in terms if not t.burst),
        *(f.distance - 2 * _DELTA * math.sqrt(1 / m + 1 / n) for f in shapes),
        0.0,
    )
    return Comparison(
        (float(unseen[~late].mean()), float(unseen[late].mean())),
        float(unseen[late].std() / math.sqrt(n)),
        min(1.0, _QUESTIONS * _larger(unseen, late, fold, spans, periods)),
        min(1.0, _QUESTIONS * _larger(scores, late, fold, spans, periods, shared=True)),
        float(fresh.mean()),
        terms,
        shapes,
        tested,
        effect,
    )


def _folds(m: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(m + n,) a fold for each text, with texts of both sides in every fold."""
    folds = min(_FOLDS, m, n)
    return np.concatenate([rng.permutation(m), rng.permutation(n)]) % folds


def _unseen(held: Any, known: Floats, late: NDArray[np.bool_], fold: NDArray[np.int64]) -> Floats:
    """(texts,) share of a text's words that no reference text outside its fold holds."""
    share = np.zeros(len(late))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        lacking = (held[~late & ~out].sum(axis=0) == 0).astype(np.float64)
        share[out] = held[out] @ lacking / np.maximum(known[out], 1)
    return share


def _scores(held: Any, late: NDArray[np.bool_], fold: NDArray[np.int64]) -> Floats:
    """(texts,) places within the fold, in (0, 1], by a classifier of words that learnt outside."""
    from scipy.stats import rankdata

    scores = np.zeros(len(late))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        odds = []
        for side in (~late, late):
            inside = side & ~out
            share = (held[inside].sum(axis=0) + 0.5) / (inside.sum() + 1)
            odds.append(np.log(share) - np.log1p(-share))
        scores[out] = rankdata(np.round(held[out] @ (odds[1] - odds[0]), 9)) / out.sum()
    return scores


def _larger(
    values: Floats,
    late: NDArray[np.bool_],
    fold: NDArray[np.int64],
    spans: Spans,
    periods: Spans,
    *,
    shared: bool = False,
) -> float:
    """One-sided p-value that the late side's values are not larger, ranked within folds.

    `shared`: the values are of classifiers that learnt the sides on the other folds.
    """
    from scipy.stats import norm, rankdata

    total = spread = 0.0
    for number in range(int(fold.max()) + 1):
        out = fold == number
        n, rows = int((late & out).sum()), int(out.sum())
        if rows < 2 or n in (0, rows):
            continue
        ranks = rankdata(values[out])
        total += (ranks[late[out]].sum() - n * (rows + 1) / 2) / (rows + 1)
        spread += n * (rows - n) / rows * float(ranks.var(ddof=1)) / (rows + 1) ** 2
    if spread <= 0:
        return 1.0
    if shared:
        folds = int(fold.max()) + 1
        spread *= 1 + folds / (folds - 1)
    if spans is not None:
        flags = values > np.median(values)
        spread *= window_effect(flags[late], spans, flags[~late], periods)
    return float(norm.sf(total / math.sqrt(spread)))


def _distance(scores: Floats, late: NDArray[np.bool_]) -> float:
    """How far the late side's scores lie above, as a share of texts; near 0 by chance."""
    at = np.sort(scores)
    gap = float((_share(scores[~late], at) - _share(scores[late], at)).max())
    return gap - _DELTA * math.sqrt(1 / (~late).sum() + 1 / late.sum())


def _terms(
    held: Any,
    words: NDArray[np.object_],
    before: NDArray[np.int64],
    now: NDArray[np.int64],
    rows: tuple[int, int],
    level: float,
    spans: Spans,
    periods: Spans,
) -> tuple[tuple[Term, ...], int]:
    """The words whose share of texts moved at the corrected `level`, and how many were tested."""
    m, n = rows
    picked = _testable(before + now, m, n, level)
    if not len(picked):
        return (), 0
    plain = fisher(before[picked], m, now[picked], n)
    adjusted = plainly = holm(plain)
    if spans is not None:
        p_values = np.ones(len(picked))
        columns = held.tocsc()
        likely = np.argsort(plain, kind="stable")[:_CANDIDATES]
        for place in likely[plainly[likely] <= level]:
            code = picked[place]
            flags = np.zeros(m + n, dtype=bool)
            flags[columns.indices[columns.indptr[code] : columns.indptr[code + 1]]] = True
            effect = window_effect(flags[m:], spans, flags[:m], periods)
            up = bool(now[code] / n < before[code] / m)  # towards the reference
            p_values[place] = moved(int(before[code]), m, *worth(int(now[code]), n, effect, up=up))
        adjusted = holm(p_values)
    found = [
        Term(
            str(words[code]),
            float(before[code] / m),
            float(now[code] / n),
            min(1.0, _QUESTIONS * float(p)),
            bool(p > level),
        )
        for code, p, free in zip(picked, adjusted, plainly, strict=True)
        if free <= level
    ]
    found.sort(key=lambda t: (t.burst, -abs(t.now - t.before), t.word))
    return tuple(found), len(picked)


def _testable(pooled: NDArray[np.int64], m: int, n: int, level: float) -> NDArray[np.int64]:
    """The words that could reach the level if all texts that hold them were of one side."""
    few = np.minimum(pooled, min(m, n))
    alone = np.minimum(all_current(few, m + n, n), all_current(few, m + n, m))
    least = np.sort(np.minimum(1.0, 2 * alone))
    for tests in range(1, len(least) + 1):
        if np.searchsorted(least, level / tests, side="right") <= tests:
            return np.flatnonzero(np.minimum(1.0, 2 * alone) <= level / tests)
    return np.arange(len(pooled))


def _forms(old: Floats, new: Floats, spans: Spans, periods: Spans) -> tuple[Form, ...]:
    from scipy.stats import kstwo

    distances, p_values = [], []
    for before, now in zip(old.T, new.T, strict=True):
        pooled = np.sort(np.r_[before, now])
        gaps = _share(before, pooled) - _share(now, pooled)
        distance = float(np.abs(gaps).max())
        rows = float(len(now))
        if spans is not None:
            cuts = np.quantile(before, [0.25, 0.5, 0.75])
            rows /= float(
                np.mean([window_effect(now <= c, spans, before <= c, periods) for c in cuts])
            )
        harmonic = max(1, int(len(before) * rows / (len(before) + rows)))
        distances.append(distance)
        p_values.append(float(kstwo.sf(distance, harmonic)))
    return tuple(
        Form(name, float(np.median(a)), float(np.median(b)), distance, min(1.0, _QUESTIONS * p))
        for name, a, b, distance, p in zip(
            FORMS, old.T, new.T, distances, holm(p_values).tolist(), strict=True
        )
    )


def _share(values: Floats, at: Floats) -> Floats:
    return np.searchsorted(np.sort(values), at, side="right") / len(values)


def named(terms: Sequence[Term], rows: tuple[int, int], most: int) -> tuple[Term, ...]:
    """The first of `terms` that enough of the `rows` texts hold to be named to anybody."""
    often = [t for t in terms if t.before * rows[0] + t.now * rows[1] >= NAMED_FROM]
    return tuple(often[:most])
