"""What the signals of one window say about each trouble: yes, no, or nothing.

A trouble is what a rule reacts to. Several signals bear on one: any metric beyond its threshold is
a trouble of performance, while drift takes two witnesses that see it in windows of one length:
over all columns together, and in columns by themselves, of a table or of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from monitoring.records import Kind, Signal, Signals
from monitoring.rules import Rules

TOGETHER = "mmd"  # drift counts when it sees it over all columns
APART = ("evidently", "vocabulary")  # and one of these over single ones, in the same window
WITNESSES = (*APART, TOGETHER)
TROUBLES = (
    "probation",
    "performance",
    "estimated-loss",
    "drift",
    "latency",
    "labels",
    "schema",
    "service",
)
ALERTING = {"labels": "labels-silent", "schema": "schema", "service": "service"}  # to rule names
DRIFTS = ("drift", "estimated-loss")  # causes whose retrain answers a drift of the inputs
_TRACK_RECORD = "estimate_error"
_NEW_VALUES = ("new_categories", "out_of_range")  # a new world brings these too


def words(signals: Signals, rules: Rules) -> dict[str, bool | None]:
    """Each trouble's word: True, False, or None where nothing that bears on it could speak."""
    drift = any_of(seen(pair, rules) for pair in witnesses(signals).values())
    estimated = any_of(s.breached for s in estimates(signals))
    return {
        "probation": any_of(s.breached for s in bearing(signals, "probation", rules)),
        "performance": any_of(s.breached for s in bearing(signals, "performance", rules)),
        "estimated-loss": all_of((drift, estimated)),
        "drift": drift,
        "latency": any_of(s.breached for s in bearing(signals, "latency", rules)),
        "labels": any_of(s.breached for s in bearing(signals, "labels", rules)),
        "schema": any_of(s.breached for s in bearing(signals, "schema", rules)),
        "service": any_of(s.breached for s in bearing(signals, "service", rules)),
    }


def bearing(signals: Signals, trouble: str, rules: Rules) -> tuple[Signal, ...]:
    """The signals that a trouble's word is made of."""
    if trouble == "performance":
        every = rules.slices == "retrain"
        return tuple(s for s in signals.of(Kind.PERFORMANCE) if every or not of_slice(s))
    if trouble == "estimated-loss":
        return (*estimates(signals), *bearing(signals, "drift", rules))  # the harm is told first
    if trouble == "drift":
        pairs = witnesses(signals).values()
        return tuple(s for pair in pairs for s in pair.values() if s is not None)
    if trouble == "labels":  # a prior that moved is no silence
        return tuple(s for s in signals.of(Kind.LABELS) if s.name == "labels")
    if trouble == "schema":
        return tuple(s for s in signals.of(Kind.SCHEMA) if is_fault(s, rules))
    return signals.of(Kind(trouble))


def is_fault(signal: Signal, rules: Rules) -> bool:
    """Whether a signal of the schema, if breached, is about broken data rather than new values."""
    if signal.name == "missing_values":
        return signal.value is None or signal.value >= rules.missing_flood
    return signal.name not in _NEW_VALUES


def witnesses(signals: Signals) -> dict[str, dict[str, Signal | None]]:
    """The witnesses by length of window: 'mmd' and 'evidently' under '', 'mmd@7d' under '7d'.

    Of those that look at columns by themselves only such as any window has; one at least.
    """
    every = [(s, *s.name.partition("@")[::2]) for s in signals.of(Kind.DRIFT)]
    there = {name for _, name, _ in every}
    names = (*([n for n in APART if n in there] or APART[:1]), TOGETHER)
    found: dict[str, dict[str, Signal | None]] = {"": dict.fromkeys(names)}
    for signal, name, length in every:
        if name in names:
            found.setdefault(length, dict.fromkeys(names))[name] = signal
    return found


def seen(pair: Mapping[str, Signal | None], rules: Rules) -> bool | None:
    """Whether the witnesses see drift that is not too faint to matter."""
    word = both_see(pair)
    return False if word and faint(pair, rules) else word


def both_see(pair: Mapping[str, Signal | None]) -> bool | None:
    """Whether all columns together and some by themselves show drift, however faint."""
    said = {name: None if s is None else s.breached for name, s in pair.items()}
    return all_of((any_of(said.get(name) for name in APART), said.get(TOGETHER)))


def faint(pair: Mapping[str, Signal | None], rules: Rules) -> bool:
    """Whether the most moved column moved by less than the floor; False where it is unknown."""
    effect = effect_of(pair)
    return effect is not None and effect < rules.minimum_effect


def effect_of(pair: Mapping[str, Signal | None]) -> float | None:
    """How far the most moved column moved, as a share of its rows."""
    effects = [s.detail.get("effect") for name in APART if (s := pair.get(name)) is not None]
    return max((float(e) for e in effects if e is not None), default=None)


def estimates(signals: Signals) -> tuple[Signal, ...]:
    """Estimates of performance without labels; none when their own track record is bad."""
    every = signals.of(Kind.ESTIMATE)
    if any(s.name == _TRACK_RECORD and s.breached for s in every):
        return ()
    return tuple(s for s in every if s.name != _TRACK_RECORD)


def of_slice(signal: Signal) -> bool:
    """Whether the figure is that of one slice, as in 'log_loss[origin=JFK]'."""
    return "[" in signal.name


def worst_loss(signals: Signals) -> float | None:
    """The upper bound of the realised log loss in this window; None where it is not known."""
    found = [s.high for s in signals.of(Kind.PERFORMANCE) if s.name == "log_loss"]
    return max((high for high in found if high is not None), default=None)


def certainly_fine(signals: Signals, rules: Rules) -> list[Signal]:
    """What shows that the model does no harm; empty while that is in doubt.

    Realised or estimated figures whose whole interval lies within the thresholds, when every figure
    of that kind does, and no figure of the other kind lies beyond.
    """
    kinds = (bearing(signals, "performance", rules), estimates(signals))
    if any(s.breached for figures in kinds for s in figures):
        return []
    for figures in kinds:
        held = [s for s in figures if s.threshold]
        if held and all(s.detail.get("fine") for s in held):
            return held
    return []


def any_of(said: Iterable[bool | None]) -> bool | None:
    """True where one is, False where one is and none is True, None where none spoke."""
    heard = list(said)
    if True in heard:
        return True
    return False if False in heard else None


def all_of(said: Iterable[bool | None]) -> bool | None:
    """False where one is, None where one did not speak, True where all are."""
    heard = list(said)
    if False in heard:
        return False
    return None if None in heard or not heard else True


def breached(signals: Iterable[Signal]) -> Iterator[Signal]:
    return (s for s in signals if s.breached)
