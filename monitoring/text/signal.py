"""The vocabulary as a signal: the second witness of drift where columns are texts.

The first is the shift test over all columns together (`monitoring.drift`), which sees texts as
points. This one looks at what a person can check: words never seen, words that come more or less
often, the form of the texts. What it says may end in a log, so its sentences hold figures alone;
words are in the detail, and only those that at least ten texts hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.bursts import blocks_in_time, periods_like, seconds
from monitoring.phrasing import percent
from monitoring.records import Kind, Signal
from monitoring.text.vocabulary import Comparison, Term, compare, named
from monitoring.text.words import strings

if TYPE_CHECKING:
    import pandas as pd

NAME = "vocabulary"
LEVEL = 0.01
ROWS = 2_000  # texts of either side
_TOLD = 20  # words of a column in the detail


def vocabulary_signal(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    texts: Sequence[str],
    *,
    level: float = LEVEL,
    rows: int = ROWS,
    seed: int = 0,
    minimum_rows: int = 200,
    name_words: bool = True,
) -> Signal:
    """Whether the vocabulary or the form of the columns `texts` moved.

    `level` bounds the chance of a breach where nothing moved, over all columns and questions
    (`monitoring.text.vocabulary`). At most `rows` rows of each side enter, drawn without
    replacement by `seed`. A column `time` of the window, or of both, says which came together.

    `value` is the share of words never seen in the texts of the column where it grew most, as a
    mean over texts, `low`..`high` its 95 % interval. `detail["effect"]` is the share of texts that
    would have to change, of the most moved column; without `name_words` no word is in the detail.
    Too few rows, or absent columns, give a signal that says so instead of 'no drift'.
    """
    threshold = f"p <= {level:.3g}"
    floor = max(minimum_rows, 4)
    reason = "" if texts else "no column of text is named to be watched"
    for side, frame in (("current", current), ("reference", reference)):
        missing = [name for name in texts if name not in frame]
        if len(frame) < floor and not reason:
            reason = f"{len(frame):,} {side} rows; at least {floor:,} are needed"
        elif missing and not reason:
            reason = f"the {side} rows lack {missing}: they were not recorded, or named otherwise"
    if reason:
        return Signal(NAME, Kind.DRIFT, None, threshold=threshold, rows=len(current), reason=reason)
    rng = np.random.default_rng(seed)
    old, new = _drawn(reference, rows, rng), _drawn(current, rows, rng)
    spans = periods = None
    if "time" in new:
        moments = seconds(new["time"])
        spans = blocks_in_time(moments)
        if "time" in old:
            periods = periods_like(seconds(old["time"]), moments)
    found = {
        name: compare(
            strings(old[name]),
            strings(new[name]),
            level=level / len(texts),
            seed=seed,
            spans=spans,
            periods=periods,
        )
        for name in texts
    }
    p_values = {name: min(1.0, one.p_value * len(texts)) for name, one in found.items()}
    told = max(found.values(), key=lambda c: c.unseen[1] - c.unseen[0])
    least = min(p_values.values())
    return Signal(
        NAME,
        Kind.DRIFT,
        least <= level,
        value=told.unseen[1],
        p_value=least,
        low=max(0.0, told.unseen[1] - 1.96 * told.unseen_error),
        high=min(1.0, told.unseen[1] + 1.96 * told.unseen_error),
        threshold=threshold,
        rows=len(new),
        detail={
            "effect": max(one.effect for one in found.values()),
            "said": "; ".join(_figures(name, one) for name, one in found.items()),
            "columns": {
                name: _told(one, p_values[name], (len(old), len(new)), _TOLD * name_words)
                for name, one in found.items()
            },
            "level": level,
            "reference_rows": len(old),
            "seed": seed,
        },
    )


def told(signals: Iterable[Signal]) -> Mapping[str, Any] | None:
    """The detail of the vocabulary's word on the shortest window in which it saw drift."""
    mine = (s for s in signals if s.name.partition("@")[0] == NAME and s.breached)
    found = next(mine, None)
    return None if found is None else found.detail


def sentences(detail: Mapping[str, Any], level: float = LEVEL) -> tuple[str, ...]:
    """What moved, for a person, from the detail of a signal: here words are named.

    >>> sentences({"columns": {"body": {
    ...     "unseen_before": 0.03, "unseen_now": 0.09, "unseen_p_value": 1e-9, "effect": 0.4,
    ...     "forms": {}, "terms": [{"word": "free", "before": 0.1, "now": 0.22}], "moved": 1}}})
    ('body: words never seen 3 % -> 9 %', "body: more texts with 'free' 10 % -> 22 %")
    """
    told: list[str] = []
    for name, found in detail.get("columns", {}).items():
        if found["unseen_p_value"] <= level:
            before, now = percent(found["unseen_before"]), percent(found["unseen_now"])
            told.append(f"{name}: words never seen {before} -> {now}")
        for sign, word in ((1, "more"), (-1, "fewer")):
            terms = [t for t in found["terms"] if sign * (t["now"] - t["before"]) > 0]
            for burst, where in ((False, ""), (True, " in bursts")):
                said = _words([t for t in terms if t.get("burst", False) is burst][:5])
                if said:
                    told.append(f"{name}: {word} texts{where} with {said}")
        for form, one in found["forms"].items():
            before, now = _form(form, one["before"]), _form(form, one["now"])
            if one["p_value"] <= level and before != now:  # its middle at least has moved
                what = "median length" if form == "length" else f"median share of {form}"
                told.append(f"{name}: {what} {before} -> {now}")
    return tuple(told)


def _words(terms: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{t['word']!r} {percent(t['before'])} -> {percent(t['now'])}" for t in terms)


def _form(name: str, value: float) -> str:
    return f"{value:,.0f} characters" if name == "length" else percent(value)


def _figures(name: str, found: Comparison) -> str:
    before, now = (percent(share) for share in found.unseen)
    moved = f", {len(found.moved)} of {found.words:,} words moved" if found.moved else ""
    return f"{name}: words never seen {before} -> {now}{moved}"


def _told(found: Comparison, p_value: float, rows: tuple[int, int], most: int) -> dict[str, Any]:
    return {
        "p_value": p_value,
        "effect": found.effect,
        "unseen_before": found.unseen[0],
        "unseen_now": found.unseen[1],
        "unseen_p_value": found.unseen_p,
        "out_of_vocabulary": found.new,
        "words": found.words,
        "moved": len(found.moved),
        "terms": [_term(t) for t in named(found.terms, rows, most)],
        "forms": {
            f.name: {
                "before": f.before,
                "now": f.now,
                "distance": f.distance,
                "p_value": f.p_value,
            }
            for f in found.forms
        },
    }


def _term(term: Term) -> dict[str, Any]:
    return {
        "word": term.word,
        "before": term.before,
        "now": term.now,
        "p_value": term.p_value,
        "burst": term.burst,
    }


def _drawn(frame: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    if len(frame) <= rows:
        return frame
    return frame.iloc[np.sort(rng.choice(len(frame), size=rows, replace=False))]
