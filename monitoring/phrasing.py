"""How a column moved, in words and round figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEAR = 0.95  # a rounder split may cost 5 % of the largest difference of shares


def figure(value: float, spread: float = 0.0) -> str:
    """A number to three digits; to more where differences of a twentieth of `spread` want them.

    >>> figure(6.1875), figure(12345.0), figure(0.00123), figure(-0.0), figure(2.5e9)
    ('6.19', '12,300', '0.00123', '0', '2.5e+09')
    >>> figure(1019.63, spread=8.0), figure(81.0, spread=8.0)
    ('1,019.6', '81')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value + 0.0:g}"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    places = 2 - math.floor(math.log10(abs(value)))
    if 0 < spread < math.inf:
        places = max(places, -math.floor(math.log10(spread / 20)))
    places = min(places, 6)
    text = f"{round(value, places):,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """Whole, but never 0 % where there is something or 100 % where something lacks.

    >>> percent(0.314), percent(0.004), percent(0.0), percent(0.9973), percent(0.99997)
    ('31 %', '0.4 %', '0 %', '99.7 %', '99.9 %')
    """
    if 0 < share < 0.01:
        return f"{100 * share:.1g} %"
    if 0.995 <= share < 1:
        return f"{math.floor(1e3 * share) / 10:.1f} %"
    return f"{100 * share:.0f} %"


def number(name: str, before: Floats, after: Floats) -> str:
    """Of known values, sorted, (m,) and (n,), at least one each."""
    values = np.union1d(before[[0, -1]], after[[0, -1]])
    if len(values) <= 2 and _two_valued(before, after, values):
        top = values[-1]
        shares = [percent(float((side == top).mean())) for side in (before, after)]
        return f"{name}: {figure(top)} in {shares[0]} -> {shares[1]} of the rows"
    spread = min(_quantile(side, 0.75) - _quantile(side, 0.25) for side in (before, after))
    middles = [figure(_quantile(side, 0.5), spread) for side in (before, after)]
    same = middles[0] == middles[1]
    median = f"median stays {middles[0]}" if same else f"median {middles[0]} -> {middles[1]}"
    limit, below, share_before, share_after = split(before, after)
    ordinary = abs(_cliff(before, after)) >= 0.6 * abs(share_after - share_before)
    if ordinary:
        side = "below" if below else "above"
        more = f"{100 * abs(share_after - share_before):.0f} %"
        shares = [percent(share) for share in (share_before, share_after)]
        return (
            f"{name}: {median}, {more} more {side} {figure_exact(limit)} "
            f"({shares[0]} -> {shares[1]})"
        )
    halves = [
        " to ".join(figure(_quantile(side, q), spread) for q in (0.25, 0.75))
        for side in (before, after)
    ]
    return f"{name}: {median}, middle half {halves[0]} -> {halves[1]}"


def split(before: Floats, after: Floats) -> tuple[float, bool, float, float]:
    """Where the shares of two sorted samples differ most (the Kolmogorov-Smirnov point), rounded.

    Returns (limit, below, share before, share after): the shares lie below the limit, or above it,
    whichever has grown.

    >>> split(np.arange(100.0), np.arange(100.0) - 31.4)
    (0.0, True, 0.0, 0.32)
    """
    values = np.union1d(before, after)
    gap = np.searchsorted(after, values, "right") / len(after)
    gap = gap - np.searchsorted(before, values, "right") / len(before)
    best = int(np.abs(gap).argmax())
    below = bool(gap[best] >= 0)
    good = np.abs(gap) >= _NEAR * abs(gap[best])
    first = last = best
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(values) - 1 and good[last + 1]:
        last += 1
    following = values[min(last + 1, len(values) - 1)]
    if below:  # x < limit, for a limit beyond the first good value
        limit = roundest(float(values[first]), float(following))
        shares = [float(np.searchsorted(s, limit, "left")) / len(s) for s in (before, after)]
    else:  # x > limit, for a limit short of the value after the last good one
        limit = -roundest(-float(following), -float(values[first]))
        shares = [1 - float(np.searchsorted(s, limit, "right")) / len(s) for s in (before, after)]
    return limit + 0.0, below, shares[0], shares[1]


def roundest(low: float, high: float) -> float:
    """The roundest number in (low, high]: 0, else the fewest digits, of those the largest.

    >>> roundest(4.6, 6.3), roundest(0.0871, 0.0913), roundest(-2.0, 3.0), roundest(1203, 1304)
    (5.0, 0.09, 0.0, 1300.0)
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        return high if math.isfinite(high) else low
    if low < 0 <= high:
        return 0.0
    top = math.floor(math.log10(max(abs(low), abs(high))))
    for power in range(top, top - 16, -1):
        for factor in (10, 5, 2, 1):
            # a power of ten below zero divides: 9 / 100 is 0.09 exactly as written
            step = factor * 10.0**power
            count = math.floor(high / step + 1e-9)
            found = round(count * step, max(0, 1 - power))
            if low < found <= high:
                return found
    return high


def figure_exact(value: float) -> str:
    """All of a limit's digits up to six, since rows are compared with it.

    >>> figure_exact(1300.0), figure_exact(0.09), figure_exact(1234567.0)
    ('1,300', '0.09', '1,234,567')
    """
    if 1000 <= abs(value) < 1e9 and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.6g}"


def category(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """The two values whose shares moved most."""
    moved = sorted(before, key=lambda v: (-abs(after[v] - before[v]), v))[:2]
    parts = [f"{v} {percent(before[v])} -> {percent(after[v])}" for v in moved]
    return f"{name}: {', '.join(parts)}"


def new_values(name: str, share: float, values: Sequence[str]) -> str:
    """`values` by frequency."""
    named = ", ".join(f'"{_short(v)}"' for v in values[:3])
    more = f" and {len(values) - 3:,} more" if len(values) > 3 else ""
    return f"{name}: {percent(share)} of rows hold values never seen: {named}{more}"


def missing(name: str, before: float, after: float) -> str:
    return f"{name}: missing {percent(before)} -> {percent(after)}"


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _two_valued(before: Floats, after: Floats, values: Floats) -> bool:
    return all(bool(np.isin(side, values).all()) for side in (before, after))


def _quantile(ordered: Floats, share: float) -> float:
    """Between neighbours, as `numpy.quantile`, and safe where values are infinite."""
    place = share * (len(ordered) - 1)
    low, high = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return low if low == high else low + (high - low) * (place - math.floor(place))


def _cliff(before: Floats, after: Floats) -> float:
    """P(after > before) - P(after < before), of sorted samples."""
    less = np.searchsorted(before, after, "left") + np.searchsorted(before, after, "right")
    return float(less.sum()) / (len(before) * len(after)) - 1
