"""The decision: what is to be done about one window, from its signals and what was seen before.

Everything here is pure. `observe` adds one window to what is remembered, `decide` reads the rules
over it, `after_retrain` takes the outcome of a retrain; time is an argument, so a recorded year is
replayed in a moment.

How a breach becomes an action:

- k of n. A trouble is confirmed when this window shows it and so do at least `confirmations` of
  the last `memory` windows. A window that could not speak confirms nothing and clears nothing.
- Drift takes two witnesses and an effect above a floor. With an estimated loss beyond its threshold
  in the same windows it needs only `confirmations_estimated` of them.
- A retrain, passed or refused, starts the count again: the windows before it are about a world that
  was answered.
- Cool-down. No retrain within `cooldown` of the last attempt; every refusal by the gate in a row
  multiplies it by `refusal_backoff`, so drift that does no harm is tried ever more rarely. It does
  not hold a breach of performance by a champion that is certainly worse than guessing the classes'
  shares, nor its back-off one that is certainly worse than when the gate refused (`harm`). A budget
  of retrains a week holds whatever the cool-down is.
- Hysteresis. A trouble that still showed when a retrain answered it is latched until it has been
  quiet for `clear_after` windows. After a retrain that passed, latched drift does not fire: the new
  champion's reference already holds the new world, so what is left is the windows' own texture, and
  a distinct shift retrains once; `relearn_growth` lets a shift that stays be learnt again as its
  rows add up. After a refusal the latch ends with the back-off, unless the performance is certainly
  fine: a shift that does no harm is tried once. A performance breach is realised harm and may fire
  again after every cool-down.
- Probation. A new champion whose realised loss is certainly above that of the one before it, on
  the same rows, is rolled back, whatever the cool-down; that counts as a refusal.
- A data fault (`schema`) is no new world: a person is told, and drift waits until it is mended, and
  for as long as only windows that still hold the broken rows see it.
- Under `performance-first`, drift waits too while the performance is certainly fine.
"""

from __future__ import annotations

from datetime import datetime

from monitoring import causes
from monitoring.causes import ALERTING, APART, TOGETHER, TROUBLES, WITNESSES
from monitoring.harm import pressing
from monitoring.holds import Hold, hold
from monitoring.nearly import near_misses
from monitoring.policy_state import (
    PolicyState,
    Seen,
    after_retrain,
    after_rollback,
    confirmed_before,
    count,
    known_before,
    observe,
    quiet_until,
)
from monitoring.records import Action, Decision, Kind, Near, Signal, Signals
from monitoring.rules import Rules
from monitoring.wording import say, span

NOBODY_RETUNES = (
    "nothing retunes by itself: give train.limits or train.weights a latency, for instance "
    "{latency_p95_ms: 20}, and run `everfit retrain`; or give the server more room"
)

NOT_LEARNT = (
    "the rows that only such windows hold are not learnt; if they are good after all, name their "
    "days under policy.good_days"
)

__all__ = [
    "NOBODY_RETUNES",
    "TROUBLES",
    "WITNESSES",
    "PolicyState",
    "Seen",
    "after_retrain",
    "after_rollback",
    "decide",
    "observe",
    "quiet_until",
]

_SPEAKING = (Kind.DRIFT, Kind.PERFORMANCE, Kind.PROBATION)  # a window without any says nothing
_Ruling = tuple[Action, str, tuple[str, ...]]


def decide(signals: Signals, state: PolicyState, now: datetime, rules: Rules) -> Decision:
    """What to do about this window; `state` already includes it (`observe`).

    The first of these that applies decides, and what was held back is named in the reasons:
    too little data; a champion that is worse than the one before it is rolled back; performance,
    drift with an estimated loss, drift and age retrain; latency retunes; silent labels, data faults
    and a failing service alert; anything seen but not acted upon is watched. A person is told of
    the `alerts` whatever the action is, and of a latency that nothing but a person answers.
    """
    spoken = [s for s in signals.items if s.kind in _SPEAKING]
    mute = all(s.breached is None for s in spoken)
    due = [] if mute else _due(signals, state, now, rules)
    held: list[tuple[_Ruling, Hold]] = []
    acting: _Ruling | None = None
    for ruling in due:
        why = hold(ruling[1], signals, state, now, rules)
        if why is None:
            acting = ruling
            break
        held.append((ruling, why))
    told = [
        sentence
        for (action, cause, reasons), why in held
        for sentence in (f"would {action} for {cause}, but {why.sentence}", *reasons)
    ]
    alerts, standing = _alerts(signals, state, rules)
    if acting and acting[0] is Action.RETUNE:
        told.insert(0, NOBODY_RETUNES)
        if not confirmed_before(state, "latency", rules):
            alerts = [
                ("latency", sentence) for sentence in (*acting[2][:-1], NOBODY_RETUNES)
            ] + alerts
    rest = (*told, *_watched(signals, state, rules))
    action, rule, reasons = acting or _otherwise(held, alerts, standing, rest, mute)
    silent = tuple(say(s) for s in signals.items if _worth_telling(s))
    if acting:
        if cut := pressing(acting[1], signals, state, now, rules):
            reasons = (*reasons, cut)
        reasons = (*reasons, *told, *(sentence for _, sentence in alerts))
    return Decision(
        window_id=signals.window.id,
        time=now,
        action=action,
        rule=rule,
        reasons=tuple(dict.fromkeys((*reasons, *silent))),
        signals=signals,
        rule_set=rules.rule_set,
        thresholds={
            "rules": rules.as_data(),
            "signals": {s.name: s.threshold for s in signals.items if s.threshold},
        },
        nearly=(
            *(Near(cause, why.missing) for (_, cause, _), why in held),
            *near_misses(signals, state, now, rules),
        ),
        alerts=tuple(sentence for _, sentence in alerts),
    )


def _otherwise(
    held: list[tuple[_Ruling, Hold]],
    alerts: list[tuple[str, str]],
    standing: list[tuple[str, str]],
    rest: tuple[str, ...],
    mute: bool,
) -> _Ruling:
    """The ruling where nothing acts: a person is told, or nobody is."""
    if alerts or standing:
        rule = (alerts or standing)[0][0]
        sentences = (*(s for _, s in alerts), *(s for _, s in standing))
        return Action.ALERT if alerts else Action.KEEP, rule, (*sentences, *rest)
    if mute:
        why = "neither drift nor performance could be measured in this window"
        return Action.KEEP, "too-little-data", (why, *rest)
    if held:
        return Action.KEEP, held[0][1].rule, rest
    if rest:
        return Action.KEEP, "watched", rest
    return Action.KEEP, "healthy", ("nothing that could be measured is past its threshold",)


def _worth_telling(signal: Signal) -> bool:
    """Whether a silence is told: of drift and performance always, of others when a fault is."""
    if signal.breached is not None:
        return False
    expected = signal.kind in (Kind.DRIFT, Kind.PERFORMANCE) and not causes.of_slice(signal)
    return expected or signal.reason.startswith("it failed")


def _due(signals: Signals, state: PolicyState, now: datetime, rules: Rules) -> list[_Ruling]:
    """The actions whose cause is confirmed, in the order in which they take precedence."""

    def confirmed(cause: str, action: Action, needed: int = rules.confirmations) -> list[_Ruling]:
        found = count(state, cause, rules)
        if found < needed:
            return []
        beyond = (say(s) for s in causes.bearing(signals, cause, rules) if s.breached)
        return [(action, cause, (*beyond, _confirmed(cause, found, needed, state, rules)))]

    return [
        *confirmed("probation", Action.ROLLBACK),
        *confirmed("performance", Action.RETRAIN),
        *confirmed("estimated-loss", Action.RETRAIN, rules.confirmations_estimated),
        *confirmed("drift", Action.RETRAIN),
        *((Action.RETRAIN, "age", (old,)) for old in _too_old(state, now, rules)),
        *confirmed("latency", Action.RETUNE),
    ]


def _confirmed(cause: str, found: int, needed: int, state: PolicyState, rules: Rules) -> str:
    windows = min(len(state.seen), rules.memory)
    where = f"{found} of the last {windows} windows" if windows > 1 else "1 window so far"
    verb = "is" if needed == 1 else "are"
    return f"{cause} seen in {where}; {needed} {verb} needed"


def _too_old(state: PolicyState, now: datetime, rules: Rules) -> list[str]:
    if rules.maximum_age is None or state.champion_since is None:
        return []
    age = now - state.champion_since
    if age <= rules.maximum_age:
        return []
    return [f"the champion is {span(age)} old; at most {span(rules.maximum_age)} are allowed"]


def _alerts(
    signals: Signals, state: PolicyState, rules: Rules
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What a person is to be told now, and what they were told before: (rule, sentence) each.

    Once per trouble, not at every check while it lasts.
    """
    fresh, standing = [], []
    for trouble, rule in ALERTING.items():
        beyond = [s for s in causes.bearing(signals, trouble, rules) if s.breached]
        if beyond and known_before(state, trouble):
            standing += [(rule, f"{say(s)} (already alerted)") for s in beyond]
        else:
            fresh += [(rule, say(s)) for s in beyond]
            if beyond and trouble == "schema" and not rules.learn_faults:
                fresh.append((rule, NOT_LEARNT))
    return fresh, standing


def _watched(signals: Signals, state: PolicyState, rules: Rules) -> list[str]:
    """What is past its threshold without being confirmed, or without a rule of its own."""
    reasons: list[str] = []
    drift = [s for s in signals.of(Kind.DRIFT) if s.breached]
    if drift:
        reasons += [say(s) for s in drift]
        found = count(state, "drift", rules)
        if found:
            reasons.append(_confirmed("drift", found, rules.confirmations, state, rules))
        else:
            reasons.append(_not_joined(signals, rules))
    for trouble in ("probation", "performance", "latency"):
        beyond = [s for s in causes.bearing(signals, trouble, rules) if s.breached]
        if beyond:
            found = count(state, trouble, rules)
            reasons += [say(s) for s in beyond]
            reasons.append(_confirmed(trouble, found, rules.confirmations, state, rules))
    reasons += [
        say(s)
        for s in signals.items
        if s.breached
        and (
            s.kind in (Kind.ESTIMATE, Kind.PREDICTIONS)
            or (s.kind is Kind.SCHEMA and not causes.is_fault(s, rules))
            or (s.kind is Kind.LABELS and s.name != "labels")
            or (s.kind is Kind.PERFORMANCE and causes.of_slice(s) and rules.slices == "watch")
        )
    ]
    return reasons


def _not_joined(signals: Signals, rules: Rules) -> str:
    """Why drift that something sees does not count."""
    pairs = causes.witnesses(signals).values()
    both = [p for p in pairs if causes.both_see(p)]
    if both:
        effect = max(causes.effect_of(p) or 0.0 for p in both)
        return (
            f"both see it, but it is faint: the most moved column moved by {effect:.2g}, and "
            f"{rules.minimum_effect:g} is the floor"
        )
    named = {n for p in pairs for n, s in p.items() if s is not None and s.breached}
    single = [name for name in APART if any(name in p for p in pairs)]
    needed = [" or ".join(single), TOGETHER]
    missing = [] if named & set(single) else needed[:1]
    missing = (missing + [TOGETHER] * (TOGETHER not in named)) or needed
    return (
        f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not confirm it; drift "
        f"retrains when {' and '.join(needed)} both see it"
    )
