"""The typed search space: what may be tried, and its place in the unit cube.

Every parameter maps to one coordinate of [0, 1]. Numbers are spread evenly over it on their own
scale (linear or log); whole numbers, ordinal values and choices own equal or, for log, growing
bins, and are encoded at the centre of theirs. A conditional parameter is *active* while its parent
is active and has one of the values it names; parameters hold active ones only. Constraints refuse
combinations (`models.constraints`); `decode` moves a point that they refuse to one they allow.

>>> space = Space((
...     Categorical("kernel", ("linear", "rbf")),
...     Float("gamma", 1e-3, 1.0, log=True, when=("kernel", "rbf")),
... ))
>>> space.decode(np.array([0.2, 0.5]))
{'kernel': 'linear'}
>>> {k: round(v, 4) if k == "gamma" else v for k, v in space.decode(np.array([0.9, 0.5])).items()}
{'kernel': 'rbf', 'gamma': 0.0316}
>>> space = Space((Int("low", 1, 9), Int("high", 1, 9)), (Ordered("low", "high"),))
>>> space.decode(np.array([0.6, 0.5]))
{'low': 6, 'high': 6}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import constraints as rules
from models import space_walk
from models.constraints import Constraint, Different, Forbidden, Ordered
from models.errors import SpaceFault
from models.parameters import (
    Categorical,
    Condition,
    Float,
    Int,
    Ordinal,
    Parameter,
    among,
    same,
    shown,
)
from models.records import Params, Scalar
from models.space_batch import Batch
from models.space_repair import Repair

__all__ = [
    "Categorical",
    "Constraint",
    "Different",
    "Float",
    "Forbidden",
    "Int",
    "Ordered",
    "Ordinal",
    "Parameter",
    "Space",
    "join",
]

_KINDS: dict[str, type[Float | Int | Ordinal | Categorical]] = {
    "float": Float,
    "int": Int,
    "ordinal": Ordinal,
    "categorical": Categorical,
}


_DRAWS = 16  # under constraints, before a draw is repaired


class Space:
    """Parameters in order, a parent before its children. Names are unique.

    Raises SpaceFault for a name given twice, a parent that does not come before its child, a
    condition that can never hold, and constraints that leave nothing.
    """

    def __init__(
        self, parameters: Sequence[Parameter], constraints: Sequence[Constraint] = ()
    ) -> None:
        self.parameters: tuple[Parameter, ...] = tuple(parameters)
        self.index: dict[str, int] = {}
        for place, parameter in enumerate(self.parameters):
            if parameter.name in self.index:
                raise SpaceFault(
                    f"parameter names are unique; {parameter.name!r} comes twice: rename one"
                )
            for condition in parameter.conditions:
                self._check_condition(parameter, condition)
            self.index[parameter.name] = place
        self.constraints: tuple[Constraint, ...] = tuple(constraints)
        for constraint in self.constraints:
            if not isinstance(constraint, Constraint):
                raise SpaceFault(
                    f"constraints are Forbidden, Ordered or Different; got {constraint!r}: make one"
                )
            constraint.check(self)
        if self.constraints:
            self._repair  # noqa: B018 - raises when nothing is allowed

    def _check_condition(self, parameter: Parameter, condition: Condition) -> None:
        parent, _ = condition
        if parent not in self.index:
            raise SpaceFault(
                f"a parent comes before its child; {parameter.name!r} depends on {parent!r}, which "
                f"is not among {list(self.index)}: add it before, or correct `when`"
            )
        for value in among(condition):
            fault = self[parent].fault(value)
            if fault:
                raise SpaceFault(
                    f"{parameter.name!r} is active when {parent!r} is {value!r}, which cannot be: "
                    f"{fault}"
                )

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self.parameters[self.index[name]]

    def __contains__(self, name: object) -> bool:
        return name in self.index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        rest = f", {list(self.constraints)!r}" if self.constraints else ""
        return f"Space({list(self.parameters)!r}{rest})"

    def is_active(self, parameter: Parameter, params: Params) -> bool:
        """Whether `parameter` counts, given the values of those before it (active ones only)."""
        if parameter.when is None:
            return True
        parent = parameter.when[0]
        if parent not in params or not parameter.holds(params[parent]):
            return False
        return not parameter.also or all(
            name in params and any(same(params[name], value) for value in among((name, wanted)))
            for name, wanted in parameter.also
        )

    def active(self, params: Params) -> tuple[str, ...]:
        """Names of the parameters that count under `params`, in order."""
        return tuple(p.name for p in self.parameters if self.is_active(p, params))

    def sample(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """A uniform draw of the unit cube, decoded; under constraints, of what they allow.

        Where they allow little, the draw is the last of a few, repaired.
        """
        unit = rng.random(len(self))
        for _ in range(_DRAWS if self.constraints else 0):
            params = self._plain(unit)
            if self.allows(params):
                return params
            unit = rng.random(len(self))
        return self.decode(unit)

    def encode(self, params: Params) -> NDArray[np.float64]:
        """Unit coordinates (d,); inactive parameters stand at 0.5. `params` must be valid."""
        unit = np.full(len(self), 0.5)
        for place, parameter in enumerate(self.parameters):
            if parameter.name in params:
                unit[place] = parameter.to_unit(params[parameter.name])
        return unit

    def decode(self, unit: NDArray[np.float64]) -> dict[str, Scalar]:
        """Unit coordinates (d,) to values of the active parameters; coordinates are clipped.

        A point that the constraints refuse is answered by an allowed configuration near it, always
        the same one.
        """
        params = self._plain(unit)
        if not self.constraints or self.allows(params):
            return params
        return self._repair(unit)

    def allows(self, params: Params) -> bool:
        """Whether no constraint refuses `params`, which must be valid otherwise."""
        return not any(constraint.broken(params) for constraint in self.constraints)

    @cached_property
    def _repair(self) -> Repair:
        return Repair(self)

    def _plain(self, unit: NDArray[np.float64]) -> dict[str, Scalar]:
        params: dict[str, Scalar] = {}
        for place, parameter in enumerate(self.parameters):
            if self.is_active(parameter, params):
                params[parameter.name] = parameter.from_unit(float(unit[place]))
        return params

    def encode_many(self, params: Sequence[Params]) -> NDArray[np.float64]:
        """`encode` of n configurations, (n, d)."""
        return self._batch.encode(params)

    def decode_many(self, units: NDArray[np.float64]) -> list[dict[str, Scalar]]:
        """`decode` of every row of units (n, d)."""
        return self._batch.decode(units)

    def active_mask(self, params: Sequence[Params]) -> NDArray[np.bool_]:
        """Which parameters count under n valid configurations, (n, d)."""
        names = list(self.index)
        mask = [[name in row for name in names] for row in params]
        return np.array(mask, dtype=bool).reshape(len(params), len(self))

    def canonical_many(
        self, units: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """What `encode(decode(row))` answers for every row of units (n, d), and what is active.

        Answers (units, active), both (n, d). Whole numbers, ordinal values and choices stand at the
        centre of their bin, inactive parameters at 0.5, real numbers where they were.
        """
        return self._batch.canonical(units)

    @cached_property
    def _batch(self) -> Batch:
        return Batch(self)

    def validate(self, params: Params) -> None:
        """Raise SpaceFault that names every missing, unknown, inactive and unfit parameter."""
        faults = [
            f"{name!r} is not a parameter, got {params[name]!r}: remove it, or use one of "
            f"{shown(list(self.index))}"
            for name in params
            if name not in self.index
        ]
        for parameter in self.parameters:
            name, there = parameter.name, parameter.name in params
            if self.is_active(parameter, params):
                if not there:
                    faults.append(f"{name!r} is active and must be set, got nothing: add it")
                elif fault := parameter.fault(params[name]):
                    faults.append(f"{name!r}: {fault}")
            elif there:
                rule = " and ".join(f"{p!r} is {wanted!r}" for p, wanted in parameter.conditions)
                beside = ", ".join(f"{p}={params.get(p)!r}" for p, _ in parameter.conditions)
                faults.append(
                    f"{name!r} counts only when {rule}, got {params[name]!r} beside {beside}: "
                    "remove it"
                )
        if not faults:  # constraints are said of values that are fit by themselves
            faults = [fault for c in self.constraints if (fault := c.fault(params))]
        if faults:
            raise SpaceFault("; ".join(faults))

    def size(self) -> float:
        """How many configurations are allowed; infinite with any real-valued interval.

        Exact without constraints; with them it is counted up to what a short walk can do, and is
        an upper bound beyond.
        """
        return self._size

    @cached_property
    def _size(self) -> float:
        return space_walk.size(self)

    def configurations(self) -> Iterator[dict[str, Scalar]]:
        """Every allowed configuration of a finite space, in order; for sizes that one can walk."""
        return space_walk.configurations(self)

    def prefixed(self, prefix: str, when: Condition | None = None) -> Space:
        """The same space under names 'prefix.name'; parameters without a parent get `when`.

        The result has parents that it does not hold itself when `when` is given: it is made to be
        put behind its parent, as `join` does.
        """
        constraints = tuple(c.prefixed(prefix) for c in self.constraints)
        return _unchecked(_prefixed(self, prefix, when), constraints)

    def override(self, changes: Mapping[str, Mapping[str, Any]]) -> Space:
        """The space with some parameters' fields replaced, as a config says.

        `changes` maps a parameter's name to its new fields (`low`, `high`, `log`, `values`,
        `choices`), or to `{"value": x}`, which fixes it. A choice that goes takes the parameters
        that depended on it along; constraints stay as far as they can still be broken. Raises
        SpaceFault that names every fault.
        """
        faults: list[str] = []
        changed: dict[str, Parameter] = {}
        for name, change in changes.items():
            if name not in self.index:
                faults.append(f"{name!r} is not a parameter: use one of {shown(list(self.index))}")
                continue
            try:
                changed[name] = _changed(self[name], change)
            except SpaceFault as fault:
                faults.append(str(fault))
        if faults:
            raise SpaceFault("; ".join(faults))
        kept: dict[str, Parameter] = {}
        for old in self.parameters:
            parameter = changed.get(old.name, old)
            if parameter.when is not None:
                possible = [
                    (name, tuple(v for v in among((name, wanted)) if not kept[name].fault(v)))
                    for name, wanted in parameter.conditions
                    if name in kept
                ]
                if len(possible) < len(parameter.conditions) or not all(v for _, v in possible):
                    continue
                when, *also = possible
                parameter = replace(parameter, when=when, also=tuple(also))
            kept[parameter.name] = parameter
        space = Space(tuple(kept.values()))
        return Space(space.parameters, rules.narrowed(self.constraints, space))

    def to_json(self) -> list[dict[str, Any]] | dict[str, Any]:
        """One JSON-ready object per parameter, in order.

        With constraints: {"parameters": that list, "constraints": one object each}.
        """
        names = {cls: kind for kind, cls in _KINDS.items()}
        out = []
        for parameter in self.parameters:
            row: dict[str, Any] = {"kind": names[type(parameter)], **asdict(parameter)}
            row = {k: list(v) if isinstance(v, tuple) else v for k, v in row.items()}
            row["when"] = None if parameter.when is None else _condition_to_json(parameter.when)
            row["also"] = [_condition_to_json(condition) for condition in parameter.also]
            for key in ("step", "also"):
                if not row.get(key):
                    row.pop(key, None)
            out.append(row)
        if not self.constraints:
            return out
        return {"parameters": out, "constraints": [c.to_json() for c in self.constraints]}

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> Space:
        """The space that `to_json` wrote. Raises SpaceFault for rows of another form."""
        constraints: list[Constraint] = []
        if isinstance(rows, Mapping):
            if set(rows) != {"parameters", "constraints"}:
                raise SpaceFault(
                    f"a space is a list of parameters, or {{parameters, constraints}}; got "
                    f"{shown(list(rows))}: correct its keys"
                )
            constraints = [rules.from_json(row) for row in rows["constraints"]]
        listed: Sequence[Mapping[str, Any]]
        listed = rows["parameters"] if isinstance(rows, Mapping) else rows
        parameters = []
        for row in listed:
            values = dict(row)
            kind = values.pop("kind", None)
            if kind not in _KINDS:
                raise SpaceFault(f"a parameter's kind is one of {list(_KINDS)}, got {kind!r}")
            if values.get("when") is not None:
                values["when"] = _condition_from_json(values["when"])
            if "also" in values:
                values["also"] = tuple(map(_condition_from_json, values["also"]))
            for key in ("values", "choices"):
                if key in values:
                    values[key] = tuple(values[key])
            try:
                parameters.append(_KINDS[kind](**values))
            except TypeError as fault:
                raise SpaceFault(f"{row.get('name')!r} has unfit fields: {fault}") from None
        return cls(parameters, constraints)


def _condition_to_json(condition: Condition) -> list[Any]:
    parent, wanted = condition
    return [parent, list(wanted) if isinstance(wanted, tuple) else wanted]


def _condition_from_json(row: Sequence[Any]) -> Condition:
    parent, wanted = row
    return parent, tuple(wanted) if isinstance(wanted, list) else wanted


def _prefixed(space: Space, prefix: str, when: Condition | None) -> list[Parameter]:
    out = []
    for p in space.parameters:
        own = [(f"{prefix}.{parent}", wanted) for parent, wanted in p.conditions]
        out.append(
            replace(
                p,
                name=f"{prefix}.{p.name}",
                when=own[0] if own else when,
                also=tuple(own[1:]),
            )
        )
    return out


def _unchecked(parameters: Sequence[Parameter], constraints: tuple[Constraint, ...]) -> Space:
    space = Space(())
    space.parameters = tuple(parameters)
    space.index = {p.name: place for place, p in enumerate(parameters)}
    space.constraints = constraints
    return space


def _changed(parameter: Parameter, change: Mapping[str, Any]) -> Parameter:
    if not isinstance(change, Mapping):
        raise SpaceFault(
            f"{parameter.name!r}: an override is a mapping such as {{low: 1, high: 9}}, "
            f"got {change!r}"
        )
    allowed = [f.name for f in fields(parameter) if f.name not in ("name", "when", "also")]
    values = dict(change)
    if "value" in values:
        if len(values) > 1:
            raise SpaceFault(
                f"{parameter.name!r}: `value` fixes the parameter and stands alone, "
                f"got {values!r}: remove the other fields"
            )
        return parameter.fixed(values["value"])
    unknown = [key for key in values if key not in allowed]
    if unknown:
        raise SpaceFault(
            f"{parameter.name!r} has the fields {[*allowed, 'value']}, got {unknown}: correct them"
        )
    for key in ("values", "choices"):
        if key in values:
            if not isinstance(values[key], list | tuple):
                raise SpaceFault(f"{parameter.name!r}: `{key}` is a list, got {values[key]!r}")
            values[key] = tuple(values[key])
    return replace(parameter, **values)


def join(families: Mapping[str, Space]) -> Space:
    """One space over several families: a categorical 'family', then 'family.parameter' of each.

    >>> join({"a": Space((Int("n", 1, 3),)), "b": Space(())}).parameters[1]
    Int(name='a.n', low=1, high=3, log=False, when=('family', 'a'))
    """
    if not families:
        raise SpaceFault("a joined space has at least one family, got none: name one")
    constraints: list[Constraint] = []
    parameters: list[Parameter] = [Categorical("family", tuple(families))]
    for name, space in families.items():
        parameters += _prefixed(space, name, ("family", name))
        constraints += [c.prefixed(name) for c in space.constraints]
    return Space(parameters, constraints)
