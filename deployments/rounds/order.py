"""Who is checked first: who waits longest, counted in whole periods; then who did not fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of a model's last check."""

    checked: datetime  # when it ended
    failed: bool = False
    seconds: float = 0.0  # of wall clock


def ordered(
    names: Iterable[str], known: Mapping[str, Entry], now: datetime, period: timedelta
) -> list[str]:
    """`names`, the most overdue first.

    Lateness is the number of whole periods since the last check, so that a model which was left out
    of one round comes first in the next; one never checked comes before all. Of equally late ones,
    those that failed last time come after the others, and quick ones before slow ones, so that most
    have their answer early; the rest stay as given.

    >>> from datetime import UTC
    >>> hour, now = timedelta(hours=1), datetime(2013, 2, 1, 12, tzinfo=UTC)
    >>> known = {
    ...     "late": Entry(now - 3 * hour), "slow": Entry(now - hour, seconds=40),
    ...     "ill": Entry(now - hour, failed=True), "quick": Entry(now - hour, seconds=1),
    ... }
    >>> ordered(["ill", "slow", "quick", "late", "new"], known, now, hour)
    ['new', 'late', 'quick', 'slow', 'ill']
    """
    half = period / 2  # a round that began a little late last time makes nobody late now

    def place(name: str) -> tuple[bool, int, bool, float]:
        entry = known.get(name)
        if entry is None:
            return False, 0, False, 0.0
        missed = (now - entry.checked + half) // period
        return True, -missed, entry.failed, entry.seconds

    return sorted(names, key=place)
