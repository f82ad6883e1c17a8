"""What the policy remembers of one model between two checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from monitoring.causes import TROUBLES, words, worst_loss
from monitoring.records import Signals
from monitoring.rules import Rules
from monitoring.spans import Span, joined, without

_LONGEST = timedelta(days=3650)  # a back-off that doubles for ever must stay a date
_WEEK = timedelta(weeks=1)
_MOST_FAULTS = 1_000  # stretches that are remembered
_MOST_TOLD = 20  # outcomes whose keys are remembered


@dataclass(frozen=True, slots=True)
class Seen:
    """One remembered window: each trouble's word, and for how many windows it has been quiet."""

    window: str
    breached: Mapping[str, bool | None]
    quiet: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What the policy remembers of one model between two checks. JSON through to_dict/from_dict."""

    champion_since: datetime | None = None
    last_attempt: datetime | None = None  # last retrain, passed or refused
    refusals: int = 0  # by the gate, in a row
    version: str | None = None  # of the champion that the remembered windows are about
    seen: tuple[Seen, ...] = ()  # oldest first
    latched: tuple[str, ...] = ()  # troubles already answered that have not been quiet since
    attempts: tuple[datetime, ...] = ()  # retrains of the last week, oldest first
    last_fault: datetime | None = None  # end of the newest window with a data fault
    spent: Mapping[str, Any] = field(default_factory=dict)  # of the error budget: its own record
    faults: tuple[Span, ...] = ()  # times that only windows with a data fault hold
    sound_until: datetime | None = None  # end of the newest window without one
    told: tuple[str, ...] = ()  # keys of the last outcomes that are in here, oldest first
    loss: float | None = None  # upper bound of the champion's log loss, when it was last known
    refused_loss: float | None = None  # the same, when the gate last refused

    def to_dict(self) -> dict[str, Any]:
        return {
            "champion_since": self.champion_since and self.champion_since.isoformat(),
            "last_attempt": self.last_attempt and self.last_attempt.isoformat(),
            "refusals": self.refusals,
            "version": self.version,
            "seen": [
                {"window": s.window, "breached": dict(s.breached), "quiet": dict(s.quiet)}
                for s in self.seen
            ],
            "latched": list(self.latched),
            "attempts": [time.isoformat() for time in self.attempts],
            "last_fault": self.last_fault and self.last_fault.isoformat(),
            "spent": dict(self.spent),
            "sound_until": self.sound_until and self.sound_until.isoformat(),
            "faults": [[start.isoformat(), end.isoformat()] for start, end in self.faults],
            "told": list(self.told),
            "loss": self.loss,
            "refused_loss": self.refused_loss,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> PolicyState:
        """The state that `to_dict` wrote; an empty mapping is the state of a new model."""

        def time(key: str) -> datetime | None:
            return datetime.fromisoformat(state[key]) if state.get(key) else None

        return cls(
            champion_since=time("champion_since"),
            last_attempt=time("last_attempt"),
            refusals=int(state.get("refusals", 0)),
            version=state.get("version"),
            seen=tuple(Seen(s["window"], s["breached"], s["quiet"]) for s in state.get("seen", ())),
            latched=tuple(state.get("latched", ())),
            attempts=tuple(datetime.fromisoformat(t) for t in state.get("attempts", ())),
            last_fault=time("last_fault"),
            spent=dict(state.get("spent", {})),
            sound_until=time("sound_until"),
            faults=tuple(
                (datetime.fromisoformat(start), datetime.fromisoformat(end))
                for start, end in state.get("faults", ())
            ),
            told=tuple(state.get("told", ())),
            loss=state.get("loss"),
            refused_loss=state.get("refused_loss"),
        )


def observe(state: PolicyState, signals: Signals, now: datetime, rules: Rules) -> PolicyState:
    """The state with this window in it. The same window observed again replaces itself.

    Windows come in order of time. A window answered by another version than the remembered ones
    starts the memory afresh, for instance after a roll-back by hand.
    """
    window, seen, latched = signals.window, state.seen, state.latched
    since, loss, refused = state.champion_since or now, state.loss, state.refused_loss
    if state.version is not None and state.version != window.version:
        seen, latched, since, loss, refused = (), (), now, None, None
    if seen and seen[-1].window == window.id:
        seen = seen[:-1]
    said = words(signals, rules)
    before = seen[-1].quiet if seen else {}
    quiet = {t: before.get(t, 0) if w is None else 0 if w else before.get(t, 0) + 1
             for t, w in said.items()}  # fmt: skip
    return replace(
        state,
        champion_since=since,
        version=window.version,
        seen=(*seen, Seen(window.id, said, quiet))[-(rules.memory + 1) :],
        latched=tuple(t for t in latched if quiet.get(t, 0) < rules.clear_after),
        last_fault=window.end if said["schema"] else state.last_fault,
        faults=_faults(state, (window.start, window.end), said["schema"]),
        sound_until=state.sound_until if said["schema"] is not False else window.end,
        loss=loss if (known := worst_loss(signals)) is None else known,
        refused_loss=refused,
    )


def _faults(state: PolicyState, window: Span, fault: bool | None) -> tuple[Span, ...]:
    """A window with a fault marks its time, and one without clears what it shares with that.

    So of windows that overlap only the rows that none without a fault holds stay marked.
    """
    if fault is None:
        return state.faults
    if not fault:
        return without(state.faults, window)
    start = max(window[0], state.sound_until or window[0])
    return joined([*state.faults, (start, window[1])])[-_MOST_FAULTS:]


def after_retrain(
    state: PolicyState, passed: bool, now: datetime, key: str | None = None
) -> PolicyState:
    """The state once a retrain has ended: a new champion serves (`passed`), or the gate refused.

    The first champion is no retrain: the budget of retrains a week is not spent on it. An outcome
    that was told before, by its `key`, changes nothing: who tells it may die and tell it again.
    """
    if key is not None and key in state.told:
        return state
    showing = state.seen[-1].breached if state.seen else {}
    return PolicyState(
        champion_since=now if passed else state.champion_since,
        last_attempt=now,
        refusals=0 if passed else state.refusals + 1,
        version=None if passed else state.version,
        seen=(),
        latched=tuple(t for t in TROUBLES if showing.get(t) or t in state.latched),
        attempts=tuple(
            t
            for t in (*state.attempts, now)
            if t > now - _WEEK and state.champion_since is not None
        ),
        last_fault=state.last_fault,
        spent=state.spent,
        faults=state.faults,
        sound_until=state.sound_until,
        told=state.told if key is None else (*state.told, key)[-_MOST_TOLD:],
        loss=None if passed else state.loss,
        refused_loss=None if passed else state.loss,
    )


def after_rollback(
    state: PolicyState, now: datetime, key: str | None = None, *, since: datetime | None = None
) -> PolicyState:
    """The state once the champion was taken back: the retrain that made it has not helped.

    It counts as a refusal, so that what asked for that retrain asks again only after the back-off.
    The champion that is back is as old as it was: `since` says when it was made one, None that
    nobody knows, and then its age is counted from `now`. By its `key` it is told once, as in
    `after_retrain`.
    """
    if key is not None and key in state.told:
        return state
    undone = after_retrain(state, False, now, key)
    return replace(
        undone,
        champion_since=since or now,
        version=None,
        last_attempt=now,
        attempts=state.attempts,
        loss=None,
        refused_loss=None,
    )


def count(state: PolicyState, trouble: str, rules: Rules) -> int:
    """In how many of the last `memory` windows the trouble showed; 0 when this one is quiet."""
    recent = state.seen[-rules.memory :]
    if not recent or recent[-1].breached.get(trouble) is not True:
        return 0
    return sum(s.breached.get(trouble) is True for s in recent)


def confirmed_before(state: PolicyState, trouble: str, rules: Rules) -> bool:
    """Whether the trouble was confirmed already at the window before the newest one."""
    return count(replace(state, seen=state.seen[:-1]), trouble, rules) >= rules.confirmations


def known_before(state: PolicyState, trouble: str) -> bool:
    """Whether the trouble showed when it was last spoken of, before the newest window."""
    for earlier in reversed(state.seen[:-1]):
        word = earlier.breached.get(trouble)
        if word is not None:
            return word
    return trouble in state.latched


def quiet_until(state: PolicyState, rules: Rules) -> datetime | None:
    """The end of the cool-down, with the back-off for refusals; None before the first attempt."""
    if state.last_attempt is None:
        return None
    factor = rules.refusal_backoff ** min(state.refusals, 64)
    seconds = min(rules.cooldown.total_seconds() * factor, _LONGEST.total_seconds())
    return state.last_attempt + timedelta(seconds=seconds)


def attempts_of_week(state: PolicyState, now: datetime) -> tuple[datetime, ...]:
    """The retrains of the week before `now`, passed or refused, oldest first."""
    return tuple(t for t in state.attempts if t > now - _WEEK)
