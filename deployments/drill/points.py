"""Where a process is struck: before or after a call of the product's, which knows nothing of it.

A point names a function by module and attribute. `arm` wraps it in the process that is to be
struck; at the point's turn the process kills itself with SIGKILL, as a power cut would, or the
drill's own action happens there. Nothing of this is in the product's code.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MLFLOW = "models.registry:Registry._call"


@dataclass(frozen=True, slots=True)
class Point:
    """One moment. `first`: what the call's first argument must be; `turn`: of such calls, from 1;
    `argument`: that some argument must be."""

    name: str  # of the step, for people
    target: str  # module:attribute
    after: bool = False
    first: str = ""
    turn: int = 1
    argument: str = ""

    @property
    def said(self) -> str:
        return f"{'after' if self.after else 'before'} {self.name}"


def both(name: str, target: str, **more: Any) -> tuple[Point, Point]:
    """Before it, and after it."""
    return Point(name, target, **more), Point(name, target, after=True, **more)


RETRAIN: tuple[Point, ...] = (
    Point("the decision is written", "monitoring.telemetry:TelemetryStore.save_decision", True),
    Point("the window is claimed", "monitoring.claims:Claims.claim", True),
    *both("the rows are frozen", "tasks.snapshot:_frozen"),
    Point("the second trial begins", "tasks.journal:Journal.asked", True, turn=2),
    *both("the second trial is noted", "tasks.journal:Journal.ended", turn=2),
    Point("the search has chosen", "tasks.tune:choose", True),
    *both("the model is fitted", "tasks.prove:_fitted"),
    Point("the gate has judged", "models.gate:judge", True),
    Point("the run is opened", MLFLOW, True, "create_run"),
    *both("its files are kept", MLFLOW, first="log_artifacts"),
    *both("the version is made", MLFLOW, first="create_model_version"),
    Point("the run is ended", MLFLOW, True, "set_terminated"),
    Point("it is challenger", MLFLOW, True, "set_registered_model_alias", argument="challenger"),
    Point("the promotion's first tag", MLFLOW, True, "set_model_version_tag"),
    *both("the alias moves", MLFLOW, first="set_registered_model_alias", argument="champion"),
    *both("the record follows", MLFLOW, first="set_registered_model_tag", argument="champion"),
    Point("challenger is taken away", MLFLOW, True, "delete_registered_model_alias"),
    *both("the policy is told", "monitoring.telemetry:TelemetryStore.change_state"),
    *both("the window is done", "monitoring.claims:Claims.finish"),
)

ROLLBACK: tuple[Point, ...] = (
    Point("a roll-back's first tag", MLFLOW, True, "set_model_version_tag"),
    *both(
        "a roll-back's alias moves",
        MLFLOW,
        first="set_registered_model_alias",
        argument="champion",
    ),
    Point("a roll-back is told", "monitoring.telemetry:TelemetryStore.change_state"),
)

SHORT = (
    "after the decision is written",
    "after the second trial is noted",
    "after the version is made",
    "before the record follows",
    "after the policy is told",
    "before a roll-back's alias moves",
)


def killed() -> None:
    """As a power cut would end it: nothing is flushed, closed or told."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: Point, action: Callable[[], None] = killed) -> None:
    """Have `action` happen in this process when the point is reached, once."""
    seen = 0

    def due(arguments: tuple[Any, ...]) -> bool:
        nonlocal seen
        given = [a for a in arguments if isinstance(a, str)]
        if (point.first and given[:1] != [point.first]) or (
            point.argument and point.argument not in given
        ):
            return False
        seen += 1
        return seen == point.turn

    def around(call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        mine = due(arguments)
        if mine and not point.after:
            action()
        result = call()
        if mine and point.after:
            action()
        return result

    wrap(point.target, around)


def wrap(target: str, around: Callable[[Callable[[], Any], tuple[Any, ...]], Any]) -> None:
    """Put `around(call, arguments)` in the place of a function."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    @functools.wraps(original)
    def struck(*args: Any, **kwargs: Any) -> Any:
        return around(lambda: original(*args, **kwargs), args)

    setattr(owner, name, struck)
