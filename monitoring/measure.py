"""Everything that is measured on one window, from frames and settings alone.

No store, no config file, no clock: a check, a replay and a benchmark measure the same way. Each
detector is guarded. One that raises gives a signal that could not speak, with the fault as its
reason; it never ends the check, and it never reads as 'no drift'.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from monitoring import detectors, witnesses
from monitoring.evidence import LATENCY, LEVEL, Evidence, Settings, guarded, level_of
from monitoring.records import Kind, Signals, Window
from monitoring.wording import short

__all__ = ["LATENCY", "LEVEL", "Evidence", "Settings", "guarded", "level_of", "measure"]


def measure(window: Window, evidence: Evidence, settings: Settings, now: datetime) -> Signals:
    """Every detector's word about `window` at `now`.

    The domain classifier and the sentences on what moved take longer, and are asked where a witness
    sees drift, unless `settings.explain` says otherwise.
    """
    length = window.end - window.start
    items = list(witnesses.drift(evidence.reference, evidence.current, settings, length))
    for longer, frame in evidence.longer.items():
        if level_of(settings, longer) is not None:
            suffix = f"@{short(longer)}"
            items += witnesses.drift(evidence.reference, frame, settings, longer, suffix)
    moved: tuple[str, ...] = ()
    seen = [s.name for s in items if s.breached]
    if settings.explain == "always" or (seen and settings.explain == "drift"):
        widest = max(evidence.longer, default=None) if all("@" in name for name in seen) else None
        frame = evidence.current if widest is None or not seen else evidence.longer[widest]
        items += witnesses.domain(evidence.reference, frame, settings, length)
        moved = witnesses.moved(evidence.reference, frame, dict(settings.columns), items)
    items += detectors.schema(evidence, settings, length)
    items += detectors.predictions(evidence, settings, length)
    items += detectors.performance(evidence, settings)
    items += detectors.slices(evidence, settings)
    items += detectors.estimates(evidence, settings)
    items += detectors.recency(evidence, settings)
    items += detectors.probation(evidence, settings)
    items += detectors.latency(evidence, settings)
    items += detectors.service(window, evidence, settings)
    items += detectors.labels(window, evidence, settings, now)
    return Signals(window, tuple(items), moved=moved)


def lengths_tested(signals: Signals) -> tuple[timedelta, ...]:
    """The lengths of window whose drift test spoke: what the error budget pays for."""
    return tuple(
        timedelta(seconds=s.detail["window_seconds"])
        for s in signals.of(Kind.DRIFT)
        if s.name.partition("@")[0] == "mmd" and s.breached is not None
    )
