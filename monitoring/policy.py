"""The decision: what is to be done about one window, from its signals and what was seen before.

Everything here is pure. `observe` adds one window to what is remembered, `decide` reads the rules
over it, `after_retrain` takes the outcome of a retrain; time is an argument, so a recorded year is
replayed in a moment.

How a breach becomes an action:

- k of n. A trouble is confirmed when this window shows it and so do at least `confirmations` of
  the last `memory` windows. A window that could not speak confirms nothing and clears nothing.
- A retrain, passed or refused, starts the count again: the windows before it are about a world that
  was answered.
- Cool-down. No retrain within `cooldown` of the last attempt; every refusal by the gate in a row
  multiplies it by `refusal_backoff`, so drift that does no harm is tried ever more rarely.
- Hysteresis. A trouble that still showed when a retrain answered it is latched until it has been
  quiet for `clear_after` windows. After a retrain that passed, latched drift does not fire: the new
  champion's reference already holds the new world, so what is left is the windows' own texture, and
  a distinct shift retrains once; `relearn_growth` lets a shift that stays be learnt again as its
  rows add up. After a refusal the latch ends with the back-off at the latest. A
  performance breach is realised harm and may fire again after every cool-down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from monitoring.records import Action, Decision, Kind, Signal, Signals
from monitoring.rules import Rules
from monitoring.wording import moment, say, span

WITNESSES = ("evidently", "mmd")  # drift counts when both of these see it in the same window
TROUBLES = ("performance", "drift", "latency", "labels")
_LONGEST = timedelta(days=3650)  # a back-off that doubles for ever must stay a date


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
        )


def observe(state: PolicyState, signals: Signals, now: datetime, rules: Rules) -> PolicyState:
    """The state with this window in it. The same window observed again replaces itself.

    Windows come in order of time. A window answered by another version than the remembered ones
    starts the memory afresh, for instance after a roll-back by hand.
    """
    window, seen, latched = signals.window, state.seen, state.latched
    since = state.champion_since or now
    if state.version is not None and state.version != window.version:
        seen, latched, since = (), (), now
    if seen and seen[-1].window == window.id:
        seen = seen[:-1]
    words = _words(signals)
    before = seen[-1].quiet if seen else {}
    quiet = {t: before.get(t, 0) if w is None else 0 if w else before.get(t, 0) + 1
             for t, w in words.items()}  # fmt: skip
    return replace(
        state,
        champion_since=since,
        version=window.version,
        seen=(*seen, Seen(window.id, words, quiet))[-(rules.memory + 1) :],
        latched=tuple(t for t in latched if quiet[t] < rules.clear_after),
    )


def after_retrain(state: PolicyState, passed: bool, now: datetime) -> PolicyState:
    """The state once a retrain has ended: a new champion serves (`passed`), or the gate refused."""
    showing = state.seen[-1].breached if state.seen else {}
    return PolicyState(
        champion_since=now if passed else state.champion_since,
        last_attempt=now,
        refusals=0 if passed else state.refusals + 1,
        version=None if passed else state.version,
        seen=(),
        latched=tuple(t for t in TROUBLES if showing.get(t) or t in state.latched),
    )


def decide(signals: Signals, state: PolicyState, now: datetime, rules: Rules) -> Decision:
    """What to do about this window; `state` already includes it (`observe`).

    The first of these that applies decides, and what was held back is named in the reasons:
    too little data; performance, drift and age retrain; latency retunes; silent labels alert;
    anything seen but not acted upon is watched.
    """
    spoken = [s for s in signals.items if s.kind in (Kind.DRIFT, Kind.PERFORMANCE)]
    silent = tuple(say(s) for s in spoken if s.breached is None)
    action, rule, reasons = _ruled(signals, state, now, rules, len(silent) == len(spoken))
    every = tuple(dict.fromkeys((*reasons, *silent)))
    return Decision(signals.window.id, now, action, rule, every, signals)


_Ruling = tuple[Action, str, tuple[str, ...]]


def _ruled(
    signals: Signals, state: PolicyState, now: datetime, rules: Rules, all_silent: bool
) -> _Ruling:
    """The first rule that applies, with its action and its reasons."""
    due: list[_Ruling] = [] if all_silent else _due(signals, state, now, rules)
    held: list[tuple[str, str]] = []  # (rule that holds back, sentence)
    for action, cause, reasons in due:
        hold = _hold(cause, signals, state, now, rules)
        if hold is None:
            return action, cause, (*reasons, *(sentence for _, sentence in held))
        held.append((hold[0], f"would {action} for {cause}, but {hold[1]}"))
        held += [(hold[0], reason) for reason in reasons]
    told = [sentence for _, sentence in held]
    seen = told + _watched(signals, state, rules)
    silence = _labels_alert(signals, state)
    if silence is not None:
        return silence[0], "labels-silent", (silence[1], *seen)
    if all_silent:
        why = "neither drift nor performance could be measured in this window"
        return Action.KEEP, "too-little-data", (why, *seen)
    if held:
        return Action.KEEP, held[0][0], tuple(told)
    if seen:
        return Action.KEEP, "watched", tuple(seen)
    return Action.KEEP, "healthy", ("nothing that could be measured is past its threshold",)


def _words(signals: Signals) -> dict[str, bool | None]:
    """Each trouble's word: True, False, or None where nothing that bears on it could speak."""
    by_kind: dict[Kind, list[bool | None]] = {}
    witnesses: dict[str, bool | None] = dict.fromkeys(WITNESSES)
    for signal in signals.items:
        by_kind.setdefault(signal.kind, []).append(signal.breached)
        if signal.kind is Kind.DRIFT and signal.name in witnesses:
            witnesses[signal.name] = signal.breached
    return {
        "performance": _any(by_kind.get(Kind.PERFORMANCE, [])),
        "drift": _all(list(witnesses.values())),
        "latency": _any(by_kind.get(Kind.LATENCY, [])),
        "labels": _any(by_kind.get(Kind.LABELS, [])),
    }


def _any(words: list[bool | None]) -> bool | None:
    if True in words:
        return True
    return False if False in words else None


def _all(words: list[bool | None]) -> bool | None:
    if False in words:
        return False
    return None if None in words else True


def _count(state: PolicyState, trouble: str, rules: Rules) -> int:
    """In how many of the last `memory` windows the trouble showed; 0 when this one is quiet."""
    recent = state.seen[-rules.memory :]
    if not recent or recent[-1].breached.get(trouble) is not True:
        return 0
    return sum(s.breached.get(trouble) is True for s in recent)


def _due(signals: Signals, state: PolicyState, now: datetime, rules: Rules) -> list[_Ruling]:
    """The actions whose cause is confirmed, in the order in which they take precedence."""

    def confirmed(cause: str, action: Action, kind: Kind) -> list[_Ruling]:
        count = _count(state, cause, rules)
        if count < rules.confirmations:
            return []
        beyond = (say(s) for s in signals.of(kind) if s.breached)
        return [(action, cause, (*beyond, _confirmed(count, state, rules)))]

    return [
        *confirmed("performance", Action.RETRAIN, Kind.PERFORMANCE),
        *confirmed("drift", Action.RETRAIN, Kind.DRIFT),
        *((Action.RETRAIN, "age", (old,)) for old in _too_old(state, now, rules)),
        *confirmed("latency", Action.RETUNE, Kind.LATENCY),
    ]


def _confirmed(count: int, state: PolicyState, rules: Rules) -> str:
    windows = min(len(state.seen), rules.memory)
    return f"seen in {count} of the last {windows} windows; {rules.confirmations} are needed"


def _too_old(state: PolicyState, now: datetime, rules: Rules) -> list[str]:
    if rules.maximum_age is None or state.champion_since is None:
        return []
    age = now - state.champion_since
    if age <= rules.maximum_age:
        return []
    return [f"the champion is {span(age)} old; at most {span(rules.maximum_age)} are allowed"]


def _hold(
    cause: str, signals: Signals, state: PolicyState, now: datetime, rules: Rules
) -> tuple[str, str] | None:
    """Why a confirmed cause may not act now, as (rule, sentence); None when it may."""
    until = quiet_until(state, rules)
    if until is not None and now < until:
        after = f" after {state.refusals} refusals by the gate" if state.refusals else ""
        return "cooldown", f"the cool-down lasts until {moment(until)}{after}"
    if cause == "latency":  # a faster model is sought on the rows at hand; no new ones are needed
        return None
    labels = next((s.detail for s in signals.of(Kind.LABELS) if "new_labels" in s.detail), {})
    few = _too_few(cause, labels, rules)
    if few is not None:
        return "too-few-labels", few
    if cause == "drift" and cause in state.latched and state.refusals == 0:
        growth, enough = labels.get("growth"), rules.relearn_growth
        if enough is not None and growth is not None and growth >= enough:
            return None
        return "latched", (
            "the last retrain already answered this drift; it counts anew after "
            f"{rules.clear_after} quiet windows"
            + (f", or once the labelled rows have grown by {enough:.0%}" if enough else "")
        )
    return None


def _too_few(cause: str, labels: Mapping[str, Any], rules: Rules) -> str | None:
    new, growth = int(labels.get("new_labels") or 0), labels.get("growth")
    if new < rules.minimum_new_labels:
        return (
            f"only {new:,} labelled rows are new to the champion; "
            f"{rules.minimum_new_labels:,} are needed"
        )
    needed = {"drift": rules.minimum_growth, "performance": rules.minimum_growth_harm}.get(cause)
    if needed is not None and growth is not None and growth < needed:
        return (
            f"the labelled rows have grown by only {growth:.1%} since the champion's training; "
            f"{needed:.1%} are needed for {cause} alone"
        )
    return None


def quiet_until(state: PolicyState, rules: Rules) -> datetime | None:
    """The end of the cool-down, with the back-off for refusals; None before the first attempt."""
    if state.last_attempt is None:
        return None
    factor = rules.refusal_backoff ** min(state.refusals, 64)
    seconds = min(rules.cooldown.total_seconds() * factor, _LONGEST.total_seconds())
    return state.last_attempt + timedelta(seconds=seconds)


def _labels_alert(signals: Signals, state: PolicyState) -> tuple[Action, str] | None:
    """Alert a person when labels fall silent: once per silence, not at every check."""
    silent = next((s for s in signals.of(Kind.LABELS) if s.breached), None)
    if silent is None:
        return None
    before = state.seen[-2].breached.get("labels") if len(state.seen) > 1 else None
    if before:
        return Action.KEEP, f"{say(silent)} (already alerted)"
    return Action.ALERT, say(silent)


def _watched(signals: Signals, state: PolicyState, rules: Rules) -> list[str]:
    """What is past its threshold without being confirmed."""
    reasons: list[str] = []
    drift = [s for s in signals.of(Kind.DRIFT) if s.breached]
    if drift:
        reasons += [say(s) for s in drift]
        count = _count(state, "drift", rules)
        if count:
            reasons.append(_confirmed(count, state, rules))
        else:
            reasons.append(_not_joined(drift))
    for trouble, kind in (("performance", Kind.PERFORMANCE), ("latency", Kind.LATENCY)):
        beyond = [s for s in signals.of(kind) if s.breached]
        if beyond:
            reasons += [say(s) for s in beyond]
            reasons.append(_confirmed(_count(state, trouble, rules), state, rules))
    return reasons


def _not_joined(seeing: list[Signal]) -> str:
    named = {s.name for s in seeing}
    missing = [w for w in WITNESSES if w not in named]
    return (
        f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not confirm it; drift "
        f"retrains when {' and '.join(WITNESSES)} both see it"
    )
