"""A recorded year under other rules: what would have been decided on the same signals.

The signals are replayed as they were measured; only what a rule judges is judged anew. What never
happened has to be assumed, and `ASSUMED` says what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise, zip_longest
from typing import Any

from monitoring.causes import words
from monitoring.policy import decide
from monitoring.policy_state import PolicyState, after_retrain, after_rollback, observe
from monitoring.records import Action, Decision, Kind, Signal, Signals
from monitoring.rules import Rules

ASSUMED = (
    "signals are those measured on the champion that served, whatever would have served instead",
    "a retrain that was never made passes, and gives the newest version trained by then, refused "
    "ones too; where there is no newer one, the same model stays",
    "a new champion is on probation against the one before it only where it was so when recorded",
    "drift tests keep the level at which they were made, unless the rules fix drift_p_value",
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A registered version, refused ones too."""

    version: str
    made: datetime
    window_id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One window: what is decided on it, and the version that answers after it."""

    window_id: str
    time: datetime
    action: Action
    rule: str
    version: str
    passed: bool | None = None  # of a retrain: whether the gate let it through
    drift: bool = False  # both witnesses see it


def recorded(
    decisions: Sequence[Decision], outcomes: Mapping[str, Mapping[str, Any]]
) -> list[Step]:
    """What was decided, oldest first; `outcomes` of retrains by window, with version and passed."""
    steps = []
    for now, after in zip_longest(decisions, decisions[1:]):
        outcome = outcomes.get(now.window_id) if now.retrain else None
        passed = None if outcome is None else bool(outcome["passed"])
        version = after.signals.window.version if after else now.signals.window.version
        if after is None and passed and outcome is not None:
            version = str(outcome["version"])
        rules = _rules_of(now)
        steps.append(
            Step(now.window_id, now.time, now.action, now.rule, version, passed,
                 _drift(now.signals, rules))
        )  # fmt: skip
    return steps


def replay(
    decisions: Sequence[Decision],
    rules: Rules,
    *,
    outcomes: Mapping[str, Mapping[str, Any]],
    versions: Sequence[Trained] = (),
) -> list[Step]:
    """What `rules` would have decided on the signals of `decisions`, oldest first."""
    if not decisions:
        return []
    known = sorted(versions, key=lambda v: v.made)
    serving = decisions[0].signals.window.version
    first = _made(known, serving) or decisions[0].signals.window.start
    state = after_retrain(PolicyState(), True, first)
    before: list[tuple[str, datetime | None]] = []  # earlier champions that could come back and
    # since when they were, the newest last
    steps = []
    for was in decisions:
        signals = rejudged(was.signals, rules, serving)
        state = observe(state, signals, was.time, rules)
        said = decide(signals, state, was.time, rules)
        passed = None
        if said.retrain:
            outcome = outcomes.get(was.window_id) if was.retrain else None
            passed = True if outcome is None else bool(outcome["passed"])
            since, state = state.champion_since, after_retrain(state, passed, was.time)
            if passed:
                before.append((serving, since))
                serving = str(outcome["version"]) if outcome else _newest(known, serving, was.time)
        elif said.action is Action.ROLLBACK:
            back = _restored(signals) or serving
            serving, since = before.pop() if before else (back, _made(known, back))
            state = after_rollback(state, was.time, since=since)
        steps.append(
            Step(was.window_id, was.time, said.action, said.rule, serving, passed,
                 _drift(signals, rules))
        )  # fmt: skip
    return steps


def _restored(signals: Signals) -> str | None:
    """The version that a probation was held against."""
    named = (s.detail.get("previous") for s in signals.of(Kind.PROBATION))
    return next((str(version) for version in named if version is not None), None)


def _made(known: Sequence[Trained], version: str) -> datetime | None:
    return next((v.made for v in known if v.version == version), None)


def _newest(known: Sequence[Trained], serving: str, now: datetime) -> str:
    return next((v.version for v in reversed(known) if v.made <= now), serving)


def _drift(signals: Signals, rules: Rules) -> bool:
    return words(signals, rules)["drift"] is True


def _rules_of(decision: Decision) -> Rules:
    """The floor under which a recorded drift was faint; older decisions knew none."""
    floor = decision.thresholds.get("rules", {}).get("minimum_effect", 0.0)
    return Rules(minimum_effect=float(floor))


def rejudged(signals: Signals, rules: Rules, version: str) -> Signals:
    """The signals as `rules` judge them, about the champion `version`."""
    another = signals.window.version != version
    items = tuple(
        _rejudge(s, rules)
        for s in signals.items
        if s.kind is not Kind.PROBATION or not (another or _ended(s, signals, rules))
    )
    return replace(signals, items=items, window=replace(signals.window, version=version))


def _ended(signal: Signal, signals: Signals, rules: Rules) -> bool:
    """Whether a recorded probation would have been over, or none at all, under `rules`."""
    since, through = (signal.detail.get(key) for key in ("since", "through"))
    if rules.probation is None or since is None:
        return True
    last = signals.window.end if through is None else datetime.fromisoformat(through)
    return last - datetime.fromisoformat(since) > rules.probation


def _rejudge(signal: Signal, rules: Rules) -> Signal:
    name = signal.name.partition("@")[0]
    if signal.kind is Kind.DRIFT and signal.breached is not None:
        share, level = rules.drifted_share, rules.drift_p_value
        if name == "evidently" and signal.value is not None:
            limit = f"drifted share >= {share:g}"
            return replace(signal, breached=signal.value >= share, threshold=limit)
        if name == "mmd" and signal.p_value is not None and level is not None:
            return replace(signal, breached=signal.p_value <= level, threshold=f"p <= {level:g}")
    silent = signal.detail.get("silent_for_seconds")
    if signal.kind is Kind.LABELS and name == "labels" and silent is not None:
        allowed = rules.label_silence
        late = allowed is not None and timedelta(seconds=silent) > allowed
        other = bool(signal.breached) and not signal.reason.startswith("no label for")
        if (late or other) != signal.breached:
            hours = silent / 3600
            reason = f"no label for {hours:.0f} hours" if late else ""
            return replace(signal, breached=late or other, reason=reason)
    return signal


def counted(steps: Iterable[Step]) -> dict[str, Any]:
    """How often what was done: the figures that are compared."""
    steps = list(steps)
    of = Counter(s.action for s in steps)
    keeping = [s for s in steps if s.action is Action.KEEP]
    retrains = [s for s in steps if s.action is Action.RETRAIN]
    return {
        "checks": len(steps),
        "retrains": len(retrains),
        "retrains_by_rule": dict(Counter(s.rule for s in retrains).most_common()),
        "refused": sum(s.passed is False for s in retrains),
        "retunes": of[Action.RETUNE],
        "rollbacks": of[Action.ROLLBACK],
        "alerts": of[Action.ALERT],
        "drift_alarms": sum(s.drift for s in steps),  # windows in which both witnesses see drift
        "watched": sum(s.rule in ("watched", "harmless") for s in keeping),
        "held_back": dict(
            Counter(
                s.rule
                for s in keeping
                if s.rule not in ("healthy", "watched", "harmless", "too-little-data")
            ).most_common()
        ),
        "healthy": sum(s.rule == "healthy" for s in keeping),
        "too_little_data": sum(s.rule == "too-little-data" for s in keeping),
    }


def differing(rules: Rules, other: Rules) -> dict[str, tuple[Any, Any]]:
    """The rules in which two sets differ, as a config has them."""
    mine, theirs = rules.as_data(), other.as_data()
    return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}


def spans(steps: Sequence[Step]) -> list[tuple[datetime, datetime, str]]:
    """From when to when which version answers, from the first check to the last."""
    found: list[tuple[datetime, datetime, str]] = []
    for step, after in pairwise(steps):
        if found and found[-1][2] == step.version:
            found[-1] = (found[-1][0], after.time, step.version)
        else:
            found.append((step.time, after.time, step.version))
    return found
