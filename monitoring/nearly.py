"""Rules that nearly fired: what a person asks about after 'why did it not act?'."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from monitoring import causes
from monitoring.policy_state import PolicyState, count
from monitoring.records import Kind, Near, Signal, Signals
from monitoring.rules import Rules
from monitoring.wording import span

_CLOSE = 0.8  # of a limit
_CLOSE_P = 10.0  # times the level


def near_misses(
    signals: Signals, state: PolicyState, now: datetime, rules: Rules
) -> tuple[Near, ...]:
    """Each rule that this window came close to, with what was missing; none that fired."""
    return (
        *_unconfirmed(state, rules),
        *_half_seen(signals, rules),
        *_straddling(signals, rules),
        *_estimates(signals, rules),
        *_growing_old(state, now, rules),
        *_labels_late(signals, rules),
    )


def _unconfirmed(state: PolicyState, rules: Rules) -> Iterator[Near]:
    for trouble in ("probation", "performance", "estimated-loss", "drift", "latency"):
        found = count(state, trouble, rules)
        needed = (
            rules.confirmations_estimated if trouble == "estimated-loss" else rules.confirmations
        )
        if 0 < found < needed:
            yield Near(trouble, f"{found} of {needed} confirmations")


def _half_seen(signals: Signals, rules: Rules) -> Iterator[Near]:
    """Drift that one witness sees and another does not, or that both see but faintly."""
    for length, pair in causes.witnesses(signals).items():
        where = f" (window of {length})" if length else ""
        words = [s.breached if s else None for s in pair.values()]
        if causes.both_see(pair):
            if causes.faint(pair, rules):
                effect = causes.effect_of(pair) or 0.0
                yield Near("drift", f"effect {effect:.2g} of {rules.minimum_effect:g}{where}")
            continue
        single = {n: s for n, s in pair.items() if n != causes.TOGETHER}
        enough = any(s is not None and s.breached for s in single.values())
        short = {n: s for n, s in pair.items() if n not in single or not enough}
        lacking = [s for s in short.values() if s is not None and not s.breached]
        close = [s for s in lacking if _close(s, rules)]
        if True in words or (lacking and len(close) == len(lacking) == len(pair)):
            named = [_short_of(s, rules) for s in lacking]
            named += [f"{name} was not tested" for name, s in short.items() if s is None]
            yield Near("drift", " and ".join(named) + where)


def _close(signal: Signal, rules: Rules) -> bool:
    if signal.name.startswith("evidently"):
        return signal.value is not None and signal.value >= _CLOSE * rules.drifted_share
    level = signal.detail.get("level", rules.drift_p_value)
    if signal.p_value is None or level is None:
        return False
    return bool(signal.p_value <= _CLOSE_P * level)


def _short_of(signal: Signal, rules: Rules) -> str:
    name, _, _ = signal.name.partition("@")
    if signal.breached is None:
        return f"{name} could not speak"
    if name == "evidently" and signal.value is not None:
        return f"Evidently {signal.value:.2f} of {rules.drifted_share:.2f}"
    if signal.p_value is not None:
        shown = "MMD" if name == causes.TOGETHER else name
        return f"{shown} {signal.threshold or 'below its level'}, p = {signal.p_value:.2g}"
    return f"{name} did not see it"


def _straddling(signals: Signals, rules: Rules) -> Iterator[Near]:
    """A figure beyond its threshold whose interval reaches back over it."""
    for trouble in ("performance", "latency"):
        for s in causes.bearing(signals, trouble, rules):
            limit = s.detail.get("limit")
            if s.breached is not False or limit is None or s.value is None:
                continue
            above = bool(s.detail.get("limit_above"))
            if (s.value > limit) if above else (s.value < limit):
                bound = s.low if above else s.high
                shown = "unknown" if bound is None else f"{bound:.3g}"
                yield Near(
                    trouble,
                    f"{s.name} {s.value:.3g} is beyond {limit:.3g}, but its bound {shown} is not",
                )


def _estimates(signals: Signals, rules: Rules) -> Iterator[Near]:
    beyond = [s for s in causes.estimates(signals) if s.breached]
    if beyond and not causes.words(signals, rules)["drift"]:
        yield Near("estimated-loss", f"{beyond[0].name} is beyond its threshold, without drift")
    elif not causes.estimates(signals) and any(s.breached for s in signals.of(Kind.ESTIMATE)):
        yield Near("estimated-loss", "estimates were wrong before, so they do not count")


def _growing_old(state: PolicyState, now: datetime, rules: Rules) -> Iterator[Near]:
    if rules.maximum_age is None or state.champion_since is None:
        return
    age = now - state.champion_since
    if _CLOSE * rules.maximum_age <= age <= rules.maximum_age:
        yield Near("age", f"{span(age)} of {span(rules.maximum_age)}")


def _labels_late(signals: Signals, rules: Rules) -> Iterator[Near]:
    if rules.label_silence is None:
        return
    for s in causes.bearing(signals, "labels", rules):
        silent = s.detail.get("silent_for_seconds")
        allowed = rules.label_silence.total_seconds()
        if not s.breached and silent is not None and _CLOSE * allowed <= silent <= allowed:
            yield Near("labels-silent", f"{silent / allowed:.0%} of the silence that is allowed")
