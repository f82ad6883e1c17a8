"""Drift of the inputs: its witnesses, and whoever can say more about it. Each is guarded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from monitoring.evidence import LEVEL, Settings, guarded, level_of
from monitoring.records import Kind, Signal
from monitoring.wording import short

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

_TOLD = 20  # sentences on what moved


def drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    settings: Settings,
    length: timedelta,
    suffix: str = "",
) -> tuple[Signal, ...]:
    """The witnesses of drift: all columns together, and each by itself, those of a table by
    Evidently's tests and those of text by their words.

    `length` is the window's, and `suffix` is added to the names: 'mmd@7d'. Text that is not stored
    is not watched, and a silent signal says so.
    """
    found: list[Signal] = []
    if settings.inputs or not settings.unstored:
        found += guarded("mmd", Kind.DRIFT, lambda: _together(reference, current, settings, length))
    if settings.columns or not (settings.texts or settings.unstored):
        found += guarded("evidently", Kind.DRIFT, lambda: _apart(reference, current, settings))
    if settings.texts:
        found += guarded("vocabulary", Kind.DRIFT, lambda: _words(reference, current, settings))
    if settings.unstored:
        found += _unwatched(settings)
    return tuple(replace(s, name=s.name + suffix) for s in found)


def _together(
    reference: pd.DataFrame, current: pd.DataFrame, settings: Settings, length: timedelta
) -> Signal:
    from monitoring.drift import mmd_signal

    level = level_of(settings, length)
    if level is None:
        reason = f"it was tested less than an eighth of {short(length)} ago"
        return Signal("mmd", Kind.DRIFT, None, rows=len(current), reason=reason)
    found = mmd_signal(
        reference,
        current,
        settings.inputs,
        p_value=level,
        permutations=settings.permutations,
        rows=settings.mmd_rows,
        seed=settings.seed,
        minimum_rows=settings.minimum_rows,
        block=settings.block,
    )
    paid = {"level": level, "window_seconds": length.total_seconds()}
    return replace(found, detail={**found.detail, **paid})


def _apart(reference: pd.DataFrame, current: pd.DataFrame, settings: Settings) -> Signal:
    from monitoring.effects import distances
    from monitoring.reports import drift_report

    columns = dict(settings.columns)
    found = drift_report(
        reference,
        current,
        columns,
        share=settings.rules.drifted_share,
        minimum_rows=settings.minimum_rows,
    )
    if found.breached is None:
        return found
    moved = distances(reference, current, columns)
    detail = {"effect": max(moved.values(), default=0.0), "distances": moved}
    return replace(found, detail={**found.detail, **detail})


def _words(reference: pd.DataFrame, current: pd.DataFrame, settings: Settings) -> Signal:
    from monitoring.text.signal import vocabulary_signal

    return vocabulary_signal(
        reference,
        current,
        settings.texts,
        name_words=settings.name_words,
        seed=settings.seed,
        minimum_rows=settings.minimum_rows,
    )


def _unwatched(settings: Settings) -> Iterator[Signal]:
    """That nobody looks at some columns; by the name of whoever else would be absent."""
    if not settings.texts:
        named = ", ".join(settings.unstored)
        reason = f"{named} is not stored (telemetry.never_store), so it cannot be watched"
        yield Signal("vocabulary", Kind.DRIFT, None, reason=reason)


def domain(
    reference: pd.DataFrame, current: pd.DataFrame, settings: Settings, length: timedelta
) -> tuple[Signal, ...]:
    """Whether a classifier can tell the window's rows from the reference's, and by what."""
    from monitoring.domain import domain_signal

    return guarded(
        "domain_classifier",
        Kind.DRIFT,
        lambda: domain_signal(
            reference,
            current,
            settings.inputs,
            p_value=max(level_of(settings, length) or LEVEL, LEVEL),
            rows=settings.mmd_rows,
            seed=settings.seed,
            minimum_rows=settings.minimum_rows,
        ),
    )


def moved(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    signals: Iterable[Signal] = (),
) -> tuple[str, ...]:
    """What moved and how, a sentence each, the farthest first; nothing where it cannot be said.

    What `signals` say of texts comes first, from the shortest window in which they saw drift.
    """
    from monitoring.movement import movements
    from monitoring.text.signal import sentences, told

    detail = told(signals)
    words = () if detail is None else sentences(detail)
    if not columns:
        return words[:_TOLD]
    try:
        found = movements(reference, current, columns)
    except Exception:
        _log.exception("what moved could not be said")
        return words
    return (*words, *(m.sentence for m in found))[:_TOLD]
