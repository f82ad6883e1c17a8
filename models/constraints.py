"""Rules over several parameters at once, as data: what a space refuses beyond each one's range.

A constraint speaks only while all the parameters that it names are active.

>>> Ordered("min_leaf", "max_leaf").fault({"min_leaf": 9, "max_leaf": 4})
"'min_leaf' is at most 'max_leaf', got min_leaf=9, max_leaf=4: lower the first or raise the second"
>>> Forbidden({"solver": "lbfgs", "penalty": ("l1", "elasticnet")}).broken(
...     {"solver": "lbfgs", "penalty": "l1"}
... )
True
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from models.errors import SpaceFault
from models.parameters import Categorical, Ordinal, shown
from models.records import Params, Scalar

if TYPE_CHECKING:
    from models.space import Space

Bounds = tuple[float, float]
EVERYTHING: Bounds = (-math.inf, math.inf)


class Constraint(ABC):
    """What a space asks of a constraint. All of them are immutable, equal by value, JSON-ready."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The parameters that it speaks about."""

    @abstractmethod
    def breaks(self, values: Sequence[Scalar]) -> bool:
        """Whether the values of `names`, in order, are not allowed together."""

    @abstractmethod
    def rule(self) -> tuple[str, str]:
        """The rule and the remedy, as a message says them."""

    def broken(self, params: Params) -> bool:
        """Whether `params` break it; never while one of its parameters is missing."""
        values = [params[name] for name in self.names if name in params]
        return len(values) == len(self.names) and self.breaks(values)

    def fault(self, params: Params) -> str | None:
        """The rule, the values and the remedy when `params` break it."""
        if not self.broken(params):
            return None
        rule, remedy = self.rule()
        return f"{rule}, got {', '.join(f'{n}={params[n]!r}' for n in self.names)}: {remedy}"

    def check(self, space: Space) -> None:
        """Raise SpaceFault unless `space` has what it speaks about."""
        for name in self.names:
            if name not in space:
                raise SpaceFault(
                    f"a constraint names parameters of its space; {self!r} names {name!r}: "
                    f"use some of {shown(list(space.index))}"
                )
        if len(set(self.names)) < len(self.names):
            raise SpaceFault(f"a constraint names each parameter once, got {self!r}: correct it")

    def bounds(self, name: str, params: Params) -> Bounds:  # noqa: ARG002 - for those that have any
        """Where a number must lie, given the others' values: a hint that spares trying."""
        return EVERYTHING

    def narrowed(self, space: Space) -> Constraint | None:
        """The constraint as far as a reduced space can break it; None when it no longer can."""
        return self if all(name in space for name in self.names) else None

    @abstractmethod
    def prefixed(self, prefix: str) -> Constraint:
        """The same constraint over parameters called 'prefix.name'."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object; `from_json` reads it."""


@dataclass(frozen=True)
class Forbidden(Constraint):
    """Not all of these values at once: {name: value or values, ...}; one name forbids values."""

    kind: ClassVar[str] = "forbidden"
    values: Mapping[str, Scalar | Sequence[Scalar]]

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping) or not self.values:
            raise SpaceFault(
                f"`Forbidden` takes {{name: value or values}}, got {self.values!r}: name one"
            )
        clean = {
            name: tuple(given) if isinstance(given, list | tuple) else (given,)
            for name, given in self.values.items()
        }
        for name, given in clean.items():
            if not given or not all(isinstance(v, str | int | float | bool) for v in given):
                raise SpaceFault(
                    f"`Forbidden` lists numbers, texts or booleans, got {name}={given!r}: list some"
                )
        object.__setattr__(self, "values", clean)

    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    @cached_property
    def _keys(self) -> tuple[frozenset[tuple[bool, Scalar]], ...]:
        return tuple(frozenset(map(_key, self._listed(name))) for name in self.values)

    def _listed(self, name: str) -> tuple[Scalar, ...]:
        listed = self.values[name]
        assert isinstance(listed, tuple)
        return listed

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def breaks(self, values: Sequence[Scalar]) -> bool:
        return all(_key(v) in keys for v, keys in zip(values, self._keys, strict=True))

    def rule(self) -> tuple[str, str]:
        parts = (f"{name}={_one(self._listed(name))}" for name in self.values)
        return f"{' with '.join(parts)} is forbidden", "change one of them"

    def check(self, space: Space) -> None:
        super().check(space)
        for name in self.values:
            for value in self._listed(name):
                if fault := space[name].fault(value):
                    raise SpaceFault(f"{self!r} forbids what cannot be: {name!r}: {fault}")

    def narrowed(self, space: Space) -> Constraint | None:
        if not all(name in space for name in self.names):
            return None
        left = {n: tuple(v for v in self._listed(n) if not space[n].fault(v)) for n in self.values}
        return Forbidden(left) if all(left.values()) else None

    def prefixed(self, prefix: str) -> Forbidden:
        return Forbidden({f"{prefix}.{name}": values for name, values in self.values.items()})

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "values": {n: list(self._listed(n)) for n in self.values}}


@dataclass(frozen=True)
class _Pair(Constraint):
    """A relation of two parameters."""

    def prefixed(self, prefix: str) -> Self:
        return replace(self, **dict(zip(self._fields, self._prefixed(prefix), strict=True)))

    _fields: ClassVar[tuple[str, str]]

    def _prefixed(self, prefix: str) -> Iterable[str]:
        return (f"{prefix}.{name}" for name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(getattr(self, field) for field in self._fields)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Ordered(_Pair):
    """The number `smaller` is at most `larger`; below it when `strict`."""

    kind: ClassVar[str] = "ordered"
    _fields: ClassVar[tuple[str, str]] = ("smaller", "larger")
    smaller: str
    larger: str
    strict: bool = False

    def breaks(self, values: Sequence[Scalar]) -> bool:
        a, b = values
        return a >= b if self.strict else a > b  # type: ignore[operator]

    def rule(self) -> tuple[str, str]:
        how = "below" if self.strict else "at most"
        return f"{self.smaller!r} is {how} {self.larger!r}", "lower the first or raise the second"

    def bounds(self, name: str, params: Params) -> Bounds:
        if name == self.smaller:
            return -math.inf, float(params.get(self.larger, math.inf))
        return float(params.get(self.smaller, -math.inf)), math.inf

    def check(self, space: Space) -> None:
        super().check(space)
        for name in self.names:
            parameter = space[name]
            texts = isinstance(parameter, Ordinal) and any(
                isinstance(v, str | bool) for v in parameter.values
            )
            if isinstance(parameter, Categorical) or texts:
                raise SpaceFault(f"{self!r} compares numbers; got {parameter!r}: make it a number")


@dataclass(frozen=True)
class Different(_Pair):
    """Two parameters do not have the same value."""

    kind: ClassVar[str] = "different"
    _fields: ClassVar[tuple[str, str]] = ("one", "other")
    one: str
    other: str

    def breaks(self, values: Sequence[Scalar]) -> bool:
        return _key(values[0]) == _key(values[1])

    def rule(self) -> tuple[str, str]:
        return f"{self.one!r} and {self.other!r} differ", "change one of them"


_KINDS: dict[str, type[Forbidden | Ordered | Different]] = {
    cls.kind: cls for cls in (Forbidden, Ordered, Different)
}


def from_json(row: Mapping[str, Any]) -> Constraint:
    """The constraint that `to_json` wrote. Raises SpaceFault for an object of another form."""
    values = dict(row)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise SpaceFault(f"a constraint's kind is one of {list(_KINDS)}, got {kind!r}: correct it")
    try:
        return _KINDS[kind](**values)
    except TypeError as fault:
        raise SpaceFault(f"a constraint of kind {kind!r} has unfit fields: {fault}") from None


def narrowed(constraints: Iterable[Constraint], space: Space) -> tuple[Constraint, ...]:
    """The constraints that a reduced space can still break."""
    return tuple(left for c in constraints if (left := c.narrowed(space)) is not None)


def _key(value: Scalar) -> tuple[bool, Scalar]:
    return isinstance(value, bool), value  # True is not 1


def _one(values: tuple[Scalar, ...]) -> str:
    return repr(values[0]) if len(values) == 1 else shown(values)
