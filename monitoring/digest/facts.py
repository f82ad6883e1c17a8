"""What a digest tells, as plain records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitoring import recorded
from monitoring.records import Action, Decision, Kind, Signal
from monitoring.telemetry import TelemetryStore

ESTIMATED = "estimated_"  # begins the name of a signal that needed no labels


@dataclass(frozen=True, slots=True)
class Front:
    """The trials of a search that no other one beat in every metric, best first in the first.

    rows: one figure for each of `metrics`; chosen: the place of the one that was fitted, None where
    it is not among them; why: the rule that chose it.
    """

    metrics: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    chosen: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Made:
    """One version that a retrain has made, and what came of it."""

    version: str
    time: datetime  # of its registration
    window_id: str
    verdict: str  # the gate's, in words
    passed: bool
    fate: str  # champion, promoted, on its way, refused, rolled back or rejected
    trials: int | None = None
    seconds: float | None = None  # of fitting
    front: Front | None = None  # where its goal has several metrics
    foretold: tuple[str, ...] = ()  # how well the performance predictor did, in words

    @property
    def alive(self) -> bool:
        """Whether it was let through and nobody took it back."""
        return self.passed and self.fate not in ("rolled back", "rejected")


@dataclass(frozen=True, slots=True)
class Day:
    """Predictions of one day, by UTC, and how many of them have their label by now."""

    start: datetime
    rows: int
    labelled: int


@dataclass(frozen=True, slots=True)
class Digest:
    """`since` <= time < `until`; decisions and versions oldest first."""

    model: str
    since: datetime
    until: datetime
    metric: str  # that the search minimises
    decisions: tuple[Decision, ...]
    made: tuple[Made, ...]
    days: tuple[Day, ...]
    champion: str | None  # version that serves at the end
    conflicts: int = 0  # labels that contradicted an earlier one, ever

    @property
    def actions(self) -> Mapping[str, int]:
        """How often each action was decided."""
        return Counter(d.action.value for d in self.decisions)

    @property
    def coverage(self) -> float | None:
        """Share of the predictions whose label has come; None without predictions."""
        rows = sum(day.rows for day in self.days)
        return sum(day.labelled for day in self.days) / rows if rows else None

    @property
    def acted(self) -> tuple[Decision, ...]:
        """The decisions that were more than to keep, or that told a person something."""
        return tuple(d for d in self.decisions if d.action is not Action.KEEP or d.alerts)

    def series(self, name: str) -> list[tuple[datetime, Signal]]:
        """What one signal said in each check that it could speak in."""
        found = []
        for decision in self.decisions:
            for signal in decision.signals.items:
                if signal.name == name and signal.value is not None:
                    found.append((decision.time, signal))
        return found

    def last(self, *kinds: Kind) -> list[Signal]:
        """Each signal of these kinds as it spoke last."""
        newest: dict[str, Signal] = {}
        for decision in self.decisions:
            for signal in decision.signals.items:
                if signal.kind in kinds and signal.value is not None:
                    newest[signal.name] = signal
        return list(newest.values())

    @property
    def headline(self) -> list[str]:
        """What a person wants to know first, in sentences."""
        checks = len(self.decisions)
        actions = self.actions
        if not checks:
            lines = ["No check has decided anything: look whether the schedule runs."]
        else:
            others = [f"{count} {name}" for name, count in actions.items() if name != "keep"]
            kept = actions.get("keep", 0)
            said = f"{kept} kept the model" + (f", {', '.join(others)}" if others else "")
            lines = [f"{_count(checks, 'check')}: {said}."]
        if self.made:
            passed = sum(made.passed for made in self.made)
            gone = sum(made.passed and not made.alive for made in self.made)
            lines.append(
                f"{_count(len(self.made), 'retrain')}: {passed} passed the gate, "
                f"{len(self.made) - passed} refused"
                + (f", {gone} taken back after it." if gone else ".")
            )
        else:
            lines.append("No retrain.")
        serves = f"Version {self.champion} serves" if self.champion else "No version serves"
        if self.coverage is None:
            lines.append(f"{serves}; nothing was asked.")
        else:
            rows = sum(day.rows for day in self.days)
            asked = _count(rows, "prediction")
            lines.append(f"{serves}; {asked}, {self.coverage:.0%} labelled by now.")
        return lines


def gather(
    store: TelemetryStore,
    model: str,
    since: datetime,
    until: datetime,
    *,
    metric: str,
    made: Iterable[Made] = (),
    champion: str | None = None,
) -> Digest:
    """The digest of a store; `made` are versions of any time, of which those in it are told."""
    decisions = []
    for stored in store.decisions():
        when = datetime.fromisoformat(stored["time"])
        if when < since:
            break  # newest first
        if when < until:
            decisions.append(recorded.decision(stored))
    return Digest(
        model,
        since,
        until,
        metric,
        tuple(reversed(decisions)),
        tuple(sorted((m for m in made if since <= m.time < until), key=lambda m: m.time)),
        tuple(_days(store, model, since, until)),
        champion,
        conflicts=store.counts()["conflicts"],
    )


def _days(store: TelemetryStore, model: str, since: datetime, until: datetime) -> Sequence[Day]:
    found = []
    start = since
    while start < until:
        end = min(start + timedelta(days=1), until)
        window = store.window(model, None, start, end, as_of=until)
        found.append(Day(start, window.rows, window.labelled))
        start = end
    return found


def fate(tags: Mapping[str, Any], *, champion: bool) -> str:
    """What came of a version, from its tags in the registry.

    >>> fate({"gate": "refused"}, champion=False), fate({"promoted_at": "..."}, champion=True)
    ('refused', 'champion')
    """
    if champion:
        return "champion"
    for tag, word in (("rolled_back_at", "rolled back"), ("rejected_at", "rejected")):
        if tags.get(tag):
            return word
    if tags.get("promoted_at"):
        return "promoted"
    return "refused" if tags.get("gate") != "passed" else "on its way"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
