"""Harm that a cool-down does not hold back.

A cool-down keeps retrains apart, and the back-off after a refusal keeps what the gate has refused
from being tried again on the same evidence. Neither is for a champion that has become worse than
knowing nothing, nor for one that does more harm than when the gate looked: that is new evidence.
The budget of retrains a week, and the new labels that a retrain needs, hold all the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from monitoring.policy_state import PolicyState, quiet_until
from monitoring.records import Kind, Signal, Signals
from monitoring.rules import Rules
from monitoring.wording import moment

GUESS = "guess"  # of a log loss's detail: what `guessing` says of the same rows


def guessing(codes: NDArray[np.int64]) -> float:
    """The log loss of who knows nothing but how often each class comes: the entropy of (n,) codes.

    >>> round(guessing(np.array([0, 1, 1, 0])), 4)
    0.6931
    """
    shares = np.unique(codes, return_counts=True)[1] / max(len(codes), 1)
    return float(-(shares * np.log(shares)).sum())


def pressing(cause: str, signals: Signals, state: PolicyState, now: datetime, rules: Rules) -> str:
    """Why `cause` may act within the cool-down; '' where it may not, or where none is on.

    A confirmed breach of performance may when the log loss is, with its whole interval,

    - above that of guessing the classes' shares in the same rows, which it was not at the gate; or
    - above what it was when the gate last refused, once the cool-down without the back-off is over.
    """
    until = quiet_until(state, rules)
    if cause != "performance" or until is None or now >= until:
        return ""
    for loss in (s for s in signals.of(Kind.PERFORMANCE) if s.name == "log_loss"):
        guess, gate = loss.detail.get(GUESS), loss.detail.get("baseline")
        if loss.low is None:
            continue
        if guess is not None and gate is not None and gate <= guess < loss.low:
            return (
                f"the cool-down until {moment(until)} does not hold it: {_said(loss)} is certainly "
                f"above {guess:.3g}, what guessing the classes' shares has, and was {gate:.3g} at "
                "the gate"
            )
        then, shortest = state.refused_loss, quiet_until(replace(state, refusals=0), rules)
        if then is not None and loss.low > then and shortest is not None and now >= shortest:
            return (
                f"the back-off until {moment(until)} does not hold it: {_said(loss)} is certainly "
                f"above what it was when the gate refused, {then:.3g} at most"
            )
    return ""


def _said(loss: Signal) -> str:
    return f"log loss {loss.value:.3g} ({loss.low:.3g} to {loss.high:.3g})"
