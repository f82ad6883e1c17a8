"""The four kinds of parameter: their values, their unit coordinate, and what is wrong with a value.

`to_unit` and `from_unit` are inverse on valid values; `fault` says the rule and the value received.
`when` is the condition under which a parameter counts; those in `also` must hold as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, Self

import numpy as np

from models.errors import SpaceFault
from models.records import Scalar

Condition = tuple[str, Scalar | tuple[Scalar, ...]]


def same(a: object, b: object) -> bool:
    """Equality in which True is not 1: JSON and YAML tell them apart, and so do learners."""
    return isinstance(a, bool) is isinstance(b, bool) and a == b


def shown(values: Sequence[object], most: int = 12) -> str:
    """A list as a message shows it: a thousand choices help nobody."""
    text = ", ".join(repr(v) for v in values[:most])
    return f"[{text}{', ...' if len(values) > most else ''}]"


def among(condition: Condition) -> tuple[Scalar, ...]:
    """The values of a condition's parent under which it holds."""
    values = condition[1]
    return values if isinstance(values, tuple) else (values,)


@lru_cache(maxsize=1024)
def _digits(low: float, step: float) -> int:
    """Decimals of the values low + k * step, so that 0.1 + 2 * 0.1 is 0.3."""
    exponents = (Decimal(str(x)).as_tuple().exponent for x in (low, step))
    return max(0, *(-e for e in exponents if isinstance(e, int)))


def _is_number(value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


class _Base:
    """What the kinds share; the fields are declared by each."""

    __slots__ = ()
    name: str
    when: Condition | None
    also: tuple[Condition, ...]

    def __repr__(self) -> str:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        shown = (f"{k}={v!r}" for k, v in values.items() if v or k not in ("step", "also"))
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def wanted(self) -> tuple[Scalar, ...]:
        """The parent's values under which this parameter is active."""
        return () if self.when is None else among(self.when)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All that must hold for this parameter to be active: `when`, then `also`."""
        return () if self.when is None else (self.when, *self.also)

    def holds(self, value: Scalar) -> bool:
        return any(same(value, wanted) for wanted in self.wanted)

    def _refuse(self, rule: str, received: object, remedy: str) -> SpaceFault:
        return SpaceFault(f"{self.name!r}: {rule}; got {received!r}: {remedy}")

    def _check_name(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SpaceFault(f"a parameter's name is a non-empty string, got {self.name!r}")
        if self.when is not None and not _is_condition(self.when):
            raise self._refuse("`when` is (parent, value or values)", self.when, "correct it")
        if not isinstance(self.also, tuple) or not all(map(_is_condition, self.also)):
            raise self._refuse(
                "`also` is a tuple of (parent, value or values)", self.also, "correct it"
            )
        if self.also and self.when is None:
            raise self._refuse("`also` adds to `when`", self.also, "give the first one as `when`")


def _is_condition(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


class _Range(_Base):
    """A number between `low` and `high`, both included, on a linear or log scale.

    With a `step` the values are low, low + step, ...; `high` becomes the last of them.
    """

    __slots__ = ()
    low: float
    high: float
    log: bool
    step: float | None

    def _check_range(self) -> None:
        self._check_name()
        for bound, value in (("low", self.low), ("high", self.high)):
            if not _is_number(value):
                remedy = "write a number"
                if isinstance(value, str):
                    remedy = "write a number (YAML reads 1e-3 as text: write 1.0e-3)"
                raise self._refuse(f"`{bound}` is a finite number", value, remedy)
        if not isinstance(self.log, bool):
            raise self._refuse("`log` is true or false", self.log, "write one of them")
        if self.low > self.high:
            raise self._refuse("`low` is at most `high`", (self.low, self.high), "swap them")
        if self.log and self.low <= 0:
            raise self._refuse("a log scale starts above 0", self.low, "raise `low` or drop `log`")
        if self.step is None:
            return
        if not _is_number(self.step) or self.step <= 0:
            raise self._refuse("`step` is a number above 0", self.step, "correct or drop it")
        if self.log:
            raise self._refuse("a log scale has no `step`", self.step, "drop one of them")


@dataclass(frozen=True, slots=True, repr=False)
class Float(_Range):
    """A real number in [low, high]."""

    name: str
    low: float
    high: float
    log: bool = False
    when: Condition | None = None
    step: float | None = None
    also: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        self._check_range()
        if self.step is not None:
            low, high, step = (Decimal(str(float(x))) for x in (self.low, self.high, self.step))
            object.__setattr__(self, "high", float(low + step * ((high - low) // step)))

    @property
    def span(self) -> float:
        """Width of the interval on the parameter's own scale (log units when `log`)."""
        if self.step is not None:
            return self.size() * self.step  # of the bins of all values
        return math.log(self.high / self.low) if self.log else self.high - self.low

    def to_unit(self, value: Scalar) -> float:
        if self.low == self.high:
            return 0.5
        x = float(value)
        if self.step is not None:
            n = self.size()
            return min(max((round((x - self.low) / self.step) + 0.5) / n, 0.5 / n), 1 - 0.5 / n)
        unit = math.log(x / self.low) if self.log else x - self.low
        return min(max(unit / self.span, 0.0), 1.0)

    def from_unit(self, unit: float) -> float:
        unit = min(max(unit, 0.0), 1.0)
        if self.step is not None:
            n = self.size()
            return self.option(int(min(unit * n, n - 1)))
        raw = self.low * math.exp(unit * self.span) if self.log else self.low + unit * self.span
        return float(min(max(raw, self.low), self.high))

    def fault(self, value: object) -> str | None:
        if _is_number(value) and self.low <= value <= self.high:  # type: ignore[operator]
            if self.step is None:
                return None
            k = (float(value) - self.low) / self.step  # type: ignore[arg-type]
            if abs(k - round(k)) < 1e-8:
                return None
        steps = "" if self.step is None else f" in steps of {self.step:g} from {self.low:g}"
        return (
            f"a number in [{self.low:g}, {self.high:g}]{steps} is wanted, got {value!r}: correct it"
        )

    def size(self) -> float:
        if self.low == self.high:
            return 1.0
        return (
            math.inf if self.step is None else float(round((self.high - self.low) / self.step)) + 1
        )

    def option(self, index: int) -> float:
        """Value `index` of those in steps; the only one of a one-point interval."""
        if self.step is None:
            return float(self.low)
        digits = _digits(self.low, self.step)
        return float(min(round(self.low + index * self.step, digits), self.high))

    def width(self) -> float:
        """Unit width of one value: nothing finer can be told apart."""
        return 0.0 if self.step is None else 1.0 / self.size()

    def repaired(self, value: object) -> float | None:
        """The nearest valid value; None when there is none."""
        if not _is_number(value):
            return None
        if self.step is not None:
            return self.from_unit(self.to_unit(float(value)))  # type: ignore[arg-type]
        return float(min(max(float(value), self.low), self.high))  # type: ignore[arg-type]

    def fixed(self, value: Any) -> Self:
        return replace(self, low=value, high=value)


@dataclass(frozen=True, slots=True, repr=False)
class Int(_Range):
    """A whole number in [low, high]."""

    name: str
    low: int
    high: int
    log: bool = False
    when: Condition | None = None
    step: int | None = None
    also: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.step == 1:
            object.__setattr__(self, "step", None)
        self._check_range()
        for bound in ("low", "high", "step"):
            value = getattr(self, bound)
            if value is None:
                continue
            if value != int(value):
                raise self._refuse(f"`{bound}` is a whole number", value, "round it")
            object.__setattr__(self, bound, int(value))
        if self.step is not None:
            object.__setattr__(self, "high", self.high - (self.high - self.low) % self.step)

    def _edges(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    @property
    def span(self) -> float:
        """Width of the bins of all values on the parameter's own scale."""
        if self.log:
            low, high = self._edges()
            return high - low
        return self.size() * (self.step or 1)

    def to_unit(self, value: Scalar) -> float:
        if self.log:
            low, high = self._edges()
            return (math.log(float(value)) - low) / (high - low)
        return ((float(value) - self.low) / (self.step or 1) + 0.5) / self.size()

    def from_unit(self, unit: float) -> int:
        unit = min(max(unit, 0.0), 1.0)
        if self.log:
            low, high = self._edges()
            raw = round(math.exp(low + unit * (high - low)))
        else:
            raw = self.low + math.floor(unit * self.size()) * (self.step or 1)
        return min(max(raw, self.low), self.high)

    def fault(self, value: object) -> str | None:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        inside = whole and self.low <= value <= self.high  # type: ignore[operator]
        if inside and (value - self.low) % (self.step or 1) == 0:  # type: ignore[operator]
            return None
        steps = "" if self.step is None else f" in steps of {self.step} from {self.low}"
        return (
            f"a whole number in [{self.low}, {self.high}]{steps} is wanted, got {value!r}: "
            "correct it"
        )

    def size(self) -> float:
        return float((self.high - self.low) // (self.step or 1) + 1)

    def option(self, index: int) -> int:
        return self.low + index * (self.step or 1)

    def width(self) -> float:
        return 1.0 / self.size()

    def repaired(self, value: object) -> int | None:
        if not _is_number(value):
            return None
        step = self.step or 1
        nearest = self.low + round((float(value) - self.low) / step) * step  # type: ignore[arg-type]
        return min(max(nearest, self.low), self.high)

    def fixed(self, value: Any) -> Self:
        return replace(self, low=value, high=value)


class _Listed(_Base):
    """One of some listed values."""

    __slots__ = ()

    @property
    def options(self) -> tuple[Scalar, ...]:
        raise NotImplementedError

    def _check_options(self, field: str) -> None:
        self._check_name()
        options = self.options
        if not isinstance(options, tuple) or not options:
            raise self._refuse(f"`{field}` is a non-empty tuple", options, "list at least one")
        for value in options:
            if not isinstance(value, str | int | float | bool):
                raise self._refuse(f"`{field}` are numbers, texts or booleans", value, "convert it")
            if isinstance(value, float) and not math.isfinite(value):
                raise self._refuse(f"`{field}` are finite", value, "remove it")
        if len({(isinstance(v, bool), v) for v in options}) != len(options):
            raise self._refuse(f"`{field}` are distinct", options, "remove the repeated one")

    def place(self, value: object) -> int | None:
        for index, option in enumerate(self.options):
            if same(option, value):
                return index
        return None

    def to_unit(self, value: Scalar) -> float:
        index = self.place(value)
        if index is None:
            raise SpaceFault(f"{self.name!r}: {self.fault(value)}")
        return (index + 0.5) / len(self.options)

    def from_unit(self, unit: float) -> Scalar:
        n = len(self.options)
        return self.options[min(max(math.floor(unit * n), 0), n - 1)]

    def fault(self, value: object) -> str | None:
        if self.place(value) is not None:
            return None
        return f"one of {shown(self.options)} is wanted, got {value!r}: correct it"

    def size(self) -> float:
        return float(len(self.options))

    def option(self, index: int) -> Scalar:
        return self.options[index]

    def width(self) -> float:
        return 1.0 / len(self.options)


@dataclass(frozen=True, slots=True, repr=False)
class Ordinal(_Listed):
    """One of `values`, whose order means something: neighbours are alike."""

    name: str
    values: tuple[Scalar, ...]
    when: Condition | None = None
    also: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        self._check_options("values")

    @property
    def options(self) -> tuple[Scalar, ...]:
        return self.values

    def repaired(self, value: object) -> Scalar | None:
        """The value itself, else the nearest number when all are numbers, else None."""
        index = self.place(value)
        if index is not None:
            return self.values[index]
        if _is_number(value) and all(_is_number(v) for v in self.values):
            return min(self.values, key=lambda v: abs(float(v) - float(value)))  # type: ignore[arg-type]
        return None

    def fixed(self, value: Any) -> Self:
        return replace(self, values=(value,))


@dataclass(frozen=True, slots=True, repr=False)
class Categorical(_Listed):
    """One of `choices`, in no order."""

    name: str
    choices: tuple[Scalar, ...]
    when: Condition | None = None
    also: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        self._check_options("choices")

    @property
    def options(self) -> tuple[Scalar, ...]:
        return self.choices

    def repaired(self, value: object) -> Scalar | None:
        index = self.place(value)
        return None if index is None else self.choices[index]

    def fixed(self, value: Any) -> Self:
        return replace(self, choices=(value,))


Parameter = Float | Int | Ordinal | Categorical
