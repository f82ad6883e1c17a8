"""What holds a confirmed cause back, each with its rule, its sentence and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from monitoring import causes
from monitoring.causes import DRIFTS
from monitoring.harm import pressing
from monitoring.policy_state import PolicyState, attempts_of_week, quiet_until
from monitoring.records import Kind, Signals
from monitoring.rules import Rules
from monitoring.wording import length, moment, say


class Hold(NamedTuple):
    """The rule that holds back, why, and in few words what is missing."""

    rule: str
    sentence: str
    missing: str


def hold(
    cause: str, signals: Signals, state: PolicyState, now: datetime, rules: Rules
) -> Hold | None:
    """Why a confirmed cause may not act now; None when it may."""
    if cause == "probation":
        return _unlike_rows(signals, rules)
    return (
        _data_fault(cause, signals, rules)
        or _mended_fault(cause, signals, state, rules)
        or _harmless(cause, signals, rules)
        or _cool_down(cause, signals, state, now, rules)
        or _week(state, now, rules)
        or _rows(cause, signals, state, rules)
    )


def _unlike_rows(signals: Signals, rules: Rules) -> Hold | None:
    """Broken rows make any model look worse, unless the one before is held to the same rows."""
    faults = [s for s in causes.bearing(signals, "schema", rules) if s.breached]
    worse = [s for s in causes.bearing(signals, "probation", rules) if s.breached]
    if not faults or all(s.detail.get("paired") for s in worse):
        return None
    return Hold(
        "schema",
        f"that may be a data fault, and the two models saw other rows: {say(faults[0])}",
        f"the data fault must be mended ({faults[0].name})",
    )


def _data_fault(cause: str, signals: Signals, rules: Rules) -> Hold | None:
    """Broken data looks like a new world; a model that learnt it would be broken as well."""
    faults = [s for s in causes.bearing(signals, "schema", rules) if s.breached]
    if cause not in DRIFTS or not faults or not rules.faults_hold_drift:
        return None
    return Hold(
        "schema",
        f"that is a data fault rather than a new world: {say(faults[0])}",
        f"the data fault must be mended ({faults[0].name})",
    )


def _mended_fault(cause: str, signals: Signals, state: PolicyState, rules: Rules) -> Hold | None:
    """A longer window holds the broken rows for days after the fault was mended."""
    if cause not in DRIFTS or state.last_fault is None or not rules.faults_hold_drift:
        return None
    window = signals.window
    seeing = [
        length(text) if text else window.end - window.start
        for text, pair in causes.witnesses(signals).items()
        if causes.seen(pair, rules)
    ]
    if not seeing or any(state.last_fault <= window.end - long for long in seeing):
        return None
    fault = f"the data fault that showed until {moment(state.last_fault)}"
    return Hold(
        "schema",
        f"only windows that still hold {fault} see it",
        f"drift in a window without {fault}",
    )


def _harmless(cause: str, signals: Signals, rules: Rules) -> Hold | None:
    if cause != "drift" or rules.rule_set != "performance-first":
        return None
    fine = causes.certainly_fine(signals, rules)
    if not fine:
        return None
    return Hold(
        "harmless",
        f"it does no harm, and the rule set is performance-first: {say(fine[0])}",
        f"harm: {fine[0].name} is certainly within its threshold",
    )


def _cool_down(
    cause: str, signals: Signals, state: PolicyState, now: datetime, rules: Rules
) -> Hold | None:
    until = quiet_until(state, rules)
    if until is None or now >= until or pressing(cause, signals, state, now, rules):
        return None
    times = state.refusals
    after = f" after {times} refusal{'s' * (times > 1)} by the gate" if times else ""
    sentence = f"the cool-down lasts until {moment(until)}{after}"
    return Hold("cooldown", sentence, sentence)


def _week(state: PolicyState, now: datetime, rules: Rules) -> Hold | None:
    tried = attempts_of_week(state, now)
    if rules.retrains_a_week is None or len(tried) < rules.retrains_a_week:
        return None
    count = f"{len(tried)} of {rules.retrains_a_week} retrains a week"
    return Hold("budget", f"the budget is spent: {count} were made", f"{count} are spent")


def _rows(cause: str, signals: Signals, state: PolicyState, rules: Rules) -> Hold | None:
    if cause == "latency":  # a faster model is sought on the rows at hand; no new ones are needed
        return None
    return _too_few(cause, _rows_of(signals), rules) or _latched(cause, signals, state, rules)


def _too_few(cause: str, labels: Mapping[str, Any], rules: Rules) -> Hold | None:
    new, growth = int(labels.get("new_labels") or 0), labels.get("growth")
    if new < rules.minimum_new_labels:
        return Hold(
            "too-few-labels",
            f"only {new:,} labelled rows are new to the champion; "
            f"{rules.minimum_new_labels:,} are needed",
            f"{new:,} of {rules.minimum_new_labels:,} new labelled rows",
        )
    needed = {
        "drift": rules.minimum_growth,
        "estimated-loss": rules.minimum_growth_harm,
        "performance": rules.minimum_growth_harm,
    }.get(cause)
    if needed is not None and growth is not None and growth < needed:
        return Hold(
            "too-few-labels",
            f"the labelled rows have grown by only {growth:.1%} since the champion's training; "
            f"{needed:.1%} are needed for {cause} alone",
            f"growth of labelled rows {growth:.1%} of {needed:.1%}",
        )
    return None


def _latched(cause: str, signals: Signals, state: PolicyState, rules: Rules) -> Hold | None:
    """A shift that was answered: by a new champion, or by a refusal that nothing speaks against."""
    if cause not in DRIFTS or "drift" not in state.latched:
        return None
    if state.refusals and not causes.certainly_fine(signals, rules):
        return None
    growth, enough = _rows_of(signals).get("growth"), rules.relearn_growth
    if enough is not None and growth is not None and growth >= enough:
        return None
    done = (
        "the gate refused to answer this drift, and the model does no harm"
        if state.refusals
        else "the last retrain already answered this drift"
    )
    more = f", or once the labelled rows have grown by {enough:.0%}" if enough else ""
    windows = f"{rules.clear_after} quiet windows"
    return Hold(
        "latched",
        f"{done}; it counts anew after {windows}{more}",
        f"a distinct shift: {done} ({windows} clear it)",
    )


def _rows_of(signals: Signals) -> Mapping[str, Any]:
    """How many labelled rows are new to the champion, and their growth."""
    return next((s.detail for s in signals.of(Kind.LABELS) if "new_labels" in s.detail), {})
