"""The typed search space: what may be tried, and its place in the unit cube.

Every parameter maps to one coordinate of [0, 1]. Numbers are spread evenly over it on their own
scale (linear or log); whole numbers, ordinal values and choices own equal or, for log, growing
bins, and are encoded at the centre of theirs. A conditional parameter is *active* while its parent
is active and has one of the values it names; parameters hold active ones only.

>>> space = Space((
...     Categorical("kernel", ("linear", "rbf")),
...     Float("gamma", 1e-3, 1.0, log=True, when=("kernel", "rbf")),
... ))
>>> space.decode(np.array([0.2, 0.5]))
{'kernel': 'linear'}
>>> {k: round(v, 4) if k == "gamma" else v for k, v in space.decode(np.array([0.9, 0.5])).items()}
{'kernel': 'rbf', 'gamma': 0.0316}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SpaceFault
from models.parameters import Categorical, Condition, Float, Int, Ordinal, Parameter, shown
from models.records import Params, Scalar
from models.space_batch import Batch

__all__ = ["Categorical", "Float", "Int", "Ordinal", "Parameter", "Space", "join"]

_KINDS: dict[str, type[Float | Int | Ordinal | Categorical]] = {
    "float": Float,
    "int": Int,
    "ordinal": Ordinal,
    "categorical": Categorical,
}


class Space:
    """Parameters in order, a parent before its children. Names are unique.

    Raises SpaceFault for a name given twice, a parent that does not come before its child, and a
    condition that can never hold.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters: tuple[Parameter, ...] = tuple(parameters)
        self.index: dict[str, int] = {}
        for place, parameter in enumerate(self.parameters):
            if parameter.name in self.index:
                raise SpaceFault(
                    f"parameter names are unique; {parameter.name!r} comes twice: rename one"
                )
            if parameter.when is not None:
                self._check_condition(parameter)
            self.index[parameter.name] = place

    def _check_condition(self, parameter: Parameter) -> None:
        assert parameter.when is not None
        parent, _ = parameter.when
        if parent not in self.index:
            raise SpaceFault(
                f"a parent comes before its child; {parameter.name!r} depends on {parent!r}, which "
                f"is not among {list(self.index)}: add it before, or correct `when`"
            )
        for value in parameter.wanted:
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
        return f"Space({list(self.parameters)!r})"

    def is_active(self, parameter: Parameter, params: Params) -> bool:
        """Whether `parameter` counts, given the values of those before it (active ones only)."""
        if parameter.when is None:
            return True
        parent = parameter.when[0]
        return parent in params and parameter.holds(params[parent])

    def active(self, params: Params) -> tuple[str, ...]:
        """Names of the parameters that count under `params`, in order."""
        return tuple(p.name for p in self.parameters if self.is_active(p, params))

    def sample(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """A uniform draw of the unit cube, decoded."""
        return self.decode(rng.random(len(self)))

    def encode(self, params: Params) -> NDArray[np.float64]:
        """Unit coordinates (d,); inactive parameters stand at 0.5. `params` must be valid."""
        unit = np.full(len(self), 0.5)
        for place, parameter in enumerate(self.parameters):
            if parameter.name in params:
                unit[place] = parameter.to_unit(params[parameter.name])
        return unit

    def decode(self, unit: NDArray[np.float64]) -> dict[str, Scalar]:
        """Unit coordinates (d,) to values of the active parameters; coordinates are clipped."""
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
                assert parameter.when is not None
                parent, wanted = parameter.when
                faults.append(
                    f"{name!r} counts only when {parent!r} is {wanted!r}, got {params[name]!r} "
                    f"beside {parent}={params.get(parent)!r}: remove it"
                )
        if faults:
            raise SpaceFault("; ".join(faults))

    def size(self) -> float:
        """How many different configurations there are; infinite with any real-valued interval."""
        children: dict[str, list[Parameter]] = {}
        for parameter in self.parameters:
            if parameter.when is not None:
                children.setdefault(parameter.when[0], []).append(parameter)

        def count(parameter: Parameter) -> float:
            below = children.get(parameter.name, [])
            values = {value for child in below for value in child.wanted}
            total = parameter.size() - len(values)  # values on which nothing depends
            for value in values:
                ways = 1.0
                for child in below:
                    ways *= count(child) if child.holds(value) else 1.0
                total += ways
            return total

        ways = 1.0
        for parameter in self.parameters:
            ways *= count(parameter) if parameter.when is None else 1.0
        return ways

    def configurations(self) -> Iterator[dict[str, Scalar]]:
        """Every configuration of a finite space, in order; only for sizes that one can walk."""

        def walk(place: int, params: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
            if place == len(self):
                yield dict(params)
                return
            parameter = self.parameters[place]
            if not self.is_active(parameter, params):
                yield from walk(place + 1, params)
                return
            for index in range(int(parameter.size())):
                yield from walk(place + 1, {**params, parameter.name: parameter.option(index)})

        if math.isinf(self.size()):
            raise SpaceFault("only a finite space can be walked through; got one with an interval")
        return walk(0, {})

    def prefixed(self, prefix: str, when: Condition | None = None) -> Space:
        """The same space under names 'prefix.name'; parameters without a parent get `when`.

        The result has parents that it does not hold itself when `when` is given: it is made to be
        put behind its parent, as `join` does.
        """
        return _unchecked(_prefixed(self, prefix, when))

    def override(self, changes: Mapping[str, Mapping[str, Any]]) -> Space:
        """The space with some parameters' fields replaced, as a config says.

        `changes` maps a parameter's name to its new fields (`low`, `high`, `log`, `values`,
        `choices`), or to `{"value": x}`, which fixes it. A choice that goes takes the parameters
        that depended on it along. Raises SpaceFault that names every fault.
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
                parent = kept.get(parameter.when[0])
                possible = tuple(v for v in parameter.wanted if parent and not parent.fault(v))
                if not possible:
                    continue
                parameter = replace(parameter, when=(parameter.when[0], possible))
            kept[parameter.name] = parameter
        return Space(tuple(kept.values()))

    def to_json(self) -> list[dict[str, Any]]:
        """One JSON-ready object per parameter, in order."""
        names = {cls: kind for kind, cls in _KINDS.items()}
        out = []
        for parameter in self.parameters:
            row: dict[str, Any] = {"kind": names[type(parameter)], **asdict(parameter)}
            row = {k: list(v) if isinstance(v, tuple) else v for k, v in row.items()}
            if parameter.when is not None:
                parent, wanted = parameter.when
                row["when"] = [parent, list(wanted) if isinstance(wanted, tuple) else wanted]
            out.append(row)
        return out

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Space:
        """The space that `to_json` wrote. Raises SpaceFault for rows of another form."""
        parameters = []
        for row in rows:
            values = dict(row)
            kind = values.pop("kind", None)
            if kind not in _KINDS:
                raise SpaceFault(f"a parameter's kind is one of {list(_KINDS)}, got {kind!r}")
            if values.get("when") is not None:
                parent, wanted = values["when"]
                values["when"] = (parent, tuple(wanted) if isinstance(wanted, list) else wanted)
            for key in ("values", "choices"):
                if key in values:
                    values[key] = tuple(values[key])
            try:
                parameters.append(_KINDS[kind](**values))
            except TypeError as fault:
                raise SpaceFault(f"{row.get('name')!r} has unfit fields: {fault}") from None
        return cls(parameters)


def _prefixed(space: Space, prefix: str, when: Condition | None) -> list[Parameter]:
    out = []
    for p in space.parameters:
        inherited = when if p.when is None else (f"{prefix}.{p.when[0]}", p.when[1])
        out.append(replace(p, name=f"{prefix}.{p.name}", when=inherited))
    return out


def _unchecked(parameters: Sequence[Parameter]) -> Space:
    space = Space(())
    space.parameters = tuple(parameters)
    space.index = {p.name: place for place, p in enumerate(parameters)}
    return space


def _changed(parameter: Parameter, change: Mapping[str, Any]) -> Parameter:
    if not isinstance(change, Mapping):
        raise SpaceFault(
            f"{parameter.name!r}: an override is a mapping such as {{low: 1, high: 9}}, "
            f"got {change!r}"
        )
    allowed = [f.name for f in fields(parameter) if f.name not in ("name", "when")]
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
    parameters: list[Parameter] = [Categorical("family", tuple(families))]
    for name, space in families.items():
        parameters += _prefixed(space, name, ("family", name))
    return Space(parameters)
