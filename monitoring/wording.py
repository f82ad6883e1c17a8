"""A signal in one sentence that a person understands."""

from __future__ import annotations

from datetime import datetime, timedelta

from monitoring.records import Kind, Signal

_UNITS = {"d": 86_400, "h": 3_600, "m": 60}  # the seconds of each
# their reason names the columns and the figures
_TELLING = (Kind.SCHEMA, Kind.PREDICTIONS, Kind.PROBATION)


def say(signal: Signal) -> str:
    """What a signal found, with its figures; for a silent one, why it could not speak.

    >>> say(Signal("mmd", Kind.DRIFT, True, p_value=0.001, threshold="p <= 0.001", rows=500))
    'mmd sees drift: p = 0.001, alarm at p <= 0.001, 500 rows'
    """
    if signal.breached is None:
        return f"{signal.name} cannot say: {signal.reason or 'no reason was given'}"
    if signal.kind is Kind.DRIFT:
        return _drift(signal)
    if signal.kind is Kind.LABELS:
        return signal.reason or _figures(signal)
    if signal.breached and signal.reason and signal.kind in _TELLING:
        return f"{signal.name}: {signal.reason}"
    if not signal.breached:
        limit = f", within its threshold ({signal.threshold})" if signal.threshold else ""
        return _figures(signal) + limit
    return f"{_figures(signal)} {_breach(signal)}"


def _drift(signal: Signal) -> str:
    found = []
    if signal.p_value is not None:
        found.append(f"p = {signal.p_value:.3g}")
    if signal.value is not None and signal.p_value is None:
        found.append(f"{signal.value:.3g}")
    columns = signal.detail.get("drifted")
    if columns:
        named = ", ".join(map(str, list(columns)[:5]))
        more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
        found.append(f"drifted columns: {named}{more}")
    if said := signal.detail.get("said"):  # figures of texts; never their words, for logs
        found.append(str(said))
    if signal.threshold:
        found.append(f"alarm at {signal.threshold}")
    if signal.rows:
        found.append(f"{signal.rows:,} rows")
    return f"{signal.name} sees {'drift' if signal.breached else 'no drift'}: " + ", ".join(found)


def _figures(signal: Signal) -> str:
    value = "unknown" if signal.value is None else f"{signal.value:.3g}"
    if signal.low is None and signal.high is None:
        return f"{signal.name} {value}"
    low = "?" if signal.low is None else f"{signal.low:.3g}"
    high = "?" if signal.high is None else f"{signal.high:.3g}"
    return f"{signal.name} {value} ({low} to {high})"


def _breach(signal: Signal) -> str:
    """How it is beyond its threshold; the interval lies beyond as a whole."""
    detail = signal.detail
    worse_by, baseline = detail.get("worse_by"), detail.get("baseline")
    beyond = detail.get("beyond", "")
    if worse_by is not None and baseline is not None and beyond in ("", "worse_by"):
        said = f"is worse than at the gate ({baseline:.3g}) by more than {worse_by:g}"
        low, high = detail.get("change_low"), detail.get("change_high")
        if low is None or high is None:
            return said
        return f"{said}: the difference is {detail['change']:.3g} ({low:.3g} to {high:.3g})"
    if beyond in ("below", "above"):
        return f"is {beyond} {detail[beyond]:g}"
    return f"is beyond its threshold ({signal.threshold})"


def moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def span(length: timedelta) -> str:
    """A length of time, rounded as a person would say it.

    >>> span(timedelta(days=61, hours=3)), span(timedelta(hours=5)), span(timedelta(days=1))
    ('61 days', '5 hours', '1 day')
    """
    seconds = length.total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds:.0f} seconds"


def short(length: timedelta) -> str:
    """A length of time as a config has it.

    >>> short(timedelta(days=7)), short(timedelta(hours=36)), short(timedelta(minutes=90))
    ('7d', '36h', '90m')
    """
    seconds = length.total_seconds()
    for unit, size in _UNITS.items():
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def length(text: str) -> timedelta:
    """The length of time that `short` wrote.

    >>> length("7d"), length("90m")
    (datetime.timedelta(days=7), datetime.timedelta(seconds=5400))
    """
    return timedelta(seconds=float(text[:-1]) * _UNITS.get(text[-1], 1))
