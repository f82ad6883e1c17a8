"""Stretches of time as a sorted list of disjoint (start, end), each without its end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

Span = tuple[datetime, datetime]


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same stretches, disjoint and in order; those that touch become one.

    >>> day = [datetime(2024, 1, d) for d in (1, 2, 3, 4)]
    >>> joined([(day[1], day[2]), (day[0], day[1])]) == ((day[0], day[2]),)
    True
    """
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def without(spans: Iterable[Span], cut: Span) -> tuple[Span, ...]:
    """What is left of the stretches outside `cut`.

    >>> day = [datetime(2024, 1, d) for d in (1, 2, 3, 4)]
    >>> without([(day[0], day[3])], (day[1], day[2])) == ((day[0], day[1]), (day[2], day[3]))
    True
    """
    low, high = cut
    return joined(part for a, b in spans for part in ((a, min(b, low)), (max(a, high), b)) if a < b)
