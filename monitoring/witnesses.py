"""Drift of the inputs: its two witnesses, and whoever can say more about it. Each is guarded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
    """The two witnesses of drift: all columns together, and each by itself.

    `length` is the window's, and `suffix` is added to the names: 'mmd@7d'.
    """
    from monitoring.drift import mmd_signal
    from monitoring.effects import distances
    from monitoring.reports import drift_report

    columns, level = dict(settings.columns), level_of(settings, length)

    def together() -> Signal:
        if level is None:
            reason = f"it was tested less than an eighth of {short(length)} ago"
            return Signal("mmd", Kind.DRIFT, None, rows=len(current), reason=reason)
        found = mmd_signal(
            reference,
            current,
            columns,
            p_value=level,
            permutations=settings.permutations,
            rows=settings.mmd_rows,
            seed=settings.seed,
            minimum_rows=settings.minimum_rows,
            block=settings.block,
        )
        paid = {"level": level, "window_seconds": length.total_seconds()}
        return replace(found, detail={**found.detail, **paid})

    def apart() -> Signal:
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

    both = (*guarded("mmd", Kind.DRIFT, together), *guarded("evidently", Kind.DRIFT, apart))
    return tuple(replace(s, name=s.name + suffix) for s in both)


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
            dict(settings.columns),
            p_value=max(level_of(settings, length) or LEVEL, LEVEL),
            rows=settings.mmd_rows,
            seed=settings.seed,
            minimum_rows=settings.minimum_rows,
        ),
    )


def moved(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Mapping[str, str]
) -> tuple[str, ...]:
    """What moved and how, a sentence each, the farthest first; nothing where it cannot be said."""
    from monitoring.movement import movements

    try:
        found = movements(reference, current, columns)
    except Exception:
        _log.exception("what moved could not be said")
        return ()
    return tuple(m.sentence for m in found[:_TOLD])
