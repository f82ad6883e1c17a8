"""A roll-out's next step: a pure function of the plan, of what the guards say, and of the time.

    challenger -> shadow -> canary, stage by stage -> promoted -> baking -> done
                  any guard clearly worse, at any moment: rolled back

Nothing here measures (see `guards`) or acts (see the flow): a recorded step can be decided again
from its record, and a roll-out of days is replayed in a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal

from monitoring.wording import short

Mode = Literal["shadow", "canary", "bake"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. It lasts `minimum` and `requests` at least; then it ends as soon as the challenger
    is clearly not worse, or after `maximum` if no guard has found it clearly worse."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    mode: Literal["shadow", "canary"] = "canary"
    share: float = 0.0  # of the traffic, as canary
    minimum: timedelta = timedelta(minutes=10)
    maximum: timedelta = timedelta(hours=1)
    requests: int = 200  # answered or compared by the challenger

    def __post_init__(self) -> None:
        if self.mode == "canary" and not 0 < self.share < 1:
            raise ValueError(
                f"a canary's share of the traffic is above 0 and below 1, got {self.share:g}: "
                "write 0.05, or leave the stage out"
            )
        if self.mode == "shadow" and self.share:
            raise ValueError(f"a shadow answers nobody, got the share {self.share:g}: leave it out")
        if self.minimum > self.maximum:
            raise ValueError(
                f"a stage's minimum is no longer than its maximum, got {short(self.minimum)} and "
                f"{short(self.maximum)}: lengthen the maximum"
            )

    def __str__(self) -> str:
        return self.mode if self.mode == "shadow" else f"canary {self.share:.3g}"


@dataclass(frozen=True, slots=True)
class Guards:
    """By how much a challenger may be worse than the champion; None: not watched."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    error_rate: float | None = 0.01  # share of failed requests, above the champion's
    latency_p95_ratio: float | None = 1.5  # p95 against the champion's before the stage
    disagreement: float | None = 0.5  # share of rows to which both give another class
    prediction_drift: float | None = 0.25  # of any class's mean probability, on the same rows
    metric: float | None = 0.05  # realised loss a row, above the champion's on the same rows

    def watched(self) -> tuple[str, ...]:
        return tuple(name for name in self.__slots__ if getattr(self, name) is not None)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a challenger comes to serve. Without stages it is promoted at once, and bakes."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    stages: tuple[Stage, ...] = ()
    guards: Guards = field(default_factory=Guards)
    bake: timedelta = timedelta(hours=1)  # the way back is kept warm, and guards roll back
    compared_per_second: float = 200.0  # rows that a second version answers too, at most
    level: float = 0.05  # probability of rolling back one that is within all of them

    def __post_init__(self) -> None:
        shares = [stage.share for stage in self.stages if stage.mode == "canary"]
        if shares != sorted(shares):
            raise ValueError(
                f"shares grow from stage to stage, got {shares}: a caller who was moved to the "
                "challenger stays with it; put them in order"
            )
        if self.bake < timedelta(0) or self.compared_per_second < 0:
            raise ValueError(
                f"the baking and the rows compared are not negative, got {short(self.bake)} and "
                f"{self.compared_per_second:g}: write 0 for none"
            )
        if not 0 < self.level < 0.5:
            raise ValueError(f"a level lies within 0..0.5, got {self.level:g}: write 0.05")

    def alpha(self, *, restarts: bool) -> float:
        """A guard's share of the level. One whose evidence starts anew with each stage has as many
        tries as there are stages, the baking included."""
        guards = max(1, len(self.guards.watched()))
        tries = len(self.stages) + (self.bake > timedelta(0)) if restarts else 1
        return self.level / guards / max(1, tries)


STANDARD = (
    Stage("shadow"),
    Stage("canary", 0.05),
    Stage("canary", 0.25),
    Stage("canary", 0.5),
)


_NO_STAGES = (
    "rollout.stages is empty, and this version is in one of them: put them back to go on, or end "
    "its roll-out by everfit rollout --stop"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one guard says. Both None: it cannot speak, and `reason` says why."""

    name: str
    worse: bool | None  # clearly beyond the limit
    fine: bool | None  # clearly within it
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    rows: int = 0
    reason: str = ""
    holds: bool = False  # however long the stage lasts, no caller is answered before it is lifted

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name.replace('_', ' ')}: {self.reason}"
        bounds = f" ({self.low:.3g} to {self.high:.3g})" if self.low is not None else ""
        said = "beyond" if self.worse else "within" if self.fine else "perhaps beyond"
        return (
            f"{self.name.replace('_', ' ')} {self.value:.3g}{bounds} on {self.rows:,}, "
            f"{said} the limit {self.limit:g}"
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where a roll-out stands. `step` counts the plan's stages from 0; baking comes after them."""

    version: str
    opponent: str | None  # the champion that it was proven against
    mode: Mode
    step: int
    since: datetime  # of this stage
    started: datetime  # of the roll-out


class Move(StrEnum):
    WAIT = "wait"
    NEXT = "next stage"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now, and why."""

    move: Move
    reasons: tuple[str, ...]
    stage: int | None = None  # the one to enter

    @property
    def why(self) -> str:
        return "; ".join(self.reasons)


def begin(plan: Plan) -> Step:
    """The first step of a new challenger."""
    if plan.stages:
        return Step(Move.NEXT, (f"it begins as {plan.stages[0]}",), 0)
    return Step(Move.PROMOTE, ("the plan has no stages",))


def decide(
    plan: Plan, at: Position, readings: Sequence[Reading], requests: int, now: datetime
) -> Step:
    """The step after a stage has brought `readings` and the challenger `requests`.

    Worse is worse at any moment. Better must last: the stage's minimum of time and requests. A
    reading that holds, such as a person's approval that has not come, keeps it from callers.
    """
    worse = [str(reading) for reading in readings if reading.worse]
    if worse:
        return Step(Move.ROLL_BACK, tuple(worse))
    passed = now - at.since
    if at.mode == "bake":
        if passed >= plan.bake:
            return Step(Move.DONE, (f"no guard was clearly worse within {short(plan.bake)}",))
        return Step(Move.WAIT, (f"it bakes until {_clock(at.since + plan.bake)}",))
    if not plan.stages:  # the config has lost them meanwhile: that is nobody's word to go on
        return Step(Move.WAIT, (_NO_STAGES,))
    number = min(at.step, len(plan.stages) - 1)
    stage = plan.stages[number]
    early = ""
    if passed < stage.minimum:
        early = f"{stage} lasts until {_clock(at.since + stage.minimum)} at least"
    elif requests < stage.requests:
        early = f"{stage} has had {requests:,} of at least {stage.requests:,} requests"
    if early:
        return Step(Move.WAIT, (early,))
    return _held(plan, _judged(plan, number, readings, requests, passed), readings)


def _held(plan: Plan, step: Step, readings: Sequence[Reading]) -> Step:
    """The step, unless it would have callers answered and something holds it."""
    held = tuple(str(reading) for reading in readings if reading.holds)
    answers = step.move is Move.PROMOTE or (
        step.stage is not None and plan.stages[step.stage].mode == "canary"
    )
    return Step(Move.WAIT, (*held, *step.reasons)) if held and answers else step


def _judged(
    plan: Plan, number: int, readings: Sequence[Reading], requests: int, passed: timedelta
) -> Step:
    stage = plan.stages[number]
    speaking = [reading for reading in readings if reading.worse is not None]
    if speaking and all(reading.fine for reading in speaking):
        return _onward(plan, number, tuple(str(reading) for reading in speaking))
    if passed >= stage.maximum:
        why = f"no guard was clearly worse within {short(stage.maximum)} and {requests:,} requests"
        return _onward(plan, number, (why,))
    open_ = [str(reading) for reading in speaking if not reading.fine]
    return Step(Move.WAIT, (f"not yet clear, {stage}", *open_))


def _onward(plan: Plan, number: int, reasons: tuple[str, ...]) -> Step:
    if number + 1 < len(plan.stages):
        return Step(Move.NEXT, reasons, number + 1)
    return Step(Move.PROMOTE, reasons)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def record(
    plan: Plan,
    at: Position,
    readings: Sequence[Reading],
    requests: int,
    now: datetime,
    step: Step,
) -> dict[str, Any]:
    """All that `decide` was given, and its answer, as JSON values."""
    from monitoring.records import to_dict

    return {
        "now": now.isoformat(),
        "plan": {
            "stages": [
                {**to_dict(s), "minimum": _seconds(s.minimum), "maximum": _seconds(s.maximum)}
                for s in plan.stages
            ],
            "guards": to_dict(plan.guards),
            "bake": _seconds(plan.bake),
            "level": plan.level,
        },
        "position": to_dict(at),
        "readings": [to_dict(reading) for reading in readings],
        "requests": requests,
        "step": to_dict(step),
    }


def replayed(body: Mapping[str, Any]) -> Step:
    """`decide` again on what `record` wrote: the same step, unless the rules have changed since."""
    plan, position = body["plan"], dict(body["position"])
    for key in ("since", "started"):
        position[key] = datetime.fromisoformat(position[key])
    return decide(
        Plan(
            tuple(
                Stage(
                    **{
                        **s,
                        "minimum": timedelta(seconds=s["minimum"]),
                        "maximum": timedelta(seconds=s["maximum"]),
                    }
                )
                for s in plan["stages"]
            ),
            Guards(**plan["guards"]),
            timedelta(seconds=plan["bake"]),
            level=plan["level"],
        ),
        Position(**position),
        [Reading(**reading) for reading in body["readings"]],
        body["requests"],
        datetime.fromisoformat(body["now"]),
    )


def _seconds(length: timedelta) -> float:
    return length.total_seconds()
