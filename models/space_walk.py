"""How many configurations a space has, and all of them in turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from models.constraints import Constraint
from models.errors import SpaceFault
from models.parameters import Parameter
from models.records import Scalar

if TYPE_CHECKING:
    from models.space import Space

_VISITS = 50_000  # values visited before a count under constraints becomes an upper bound


def size(space: Space) -> float:
    """Number of configurations; infinite with any real-valued interval that may be active.

    Under constraints, and where a parameter has several parents, it is counted by a walk. Where
    that would be too long it is an upper bound: the product of the parameters' sizes, or the count
    without the constraints.
    """
    several = any(p.also for p in space.parameters)
    if not several and not space.constraints:
        return _tree(space)
    counted = _counted(space)
    if counted is not None:
        return counted
    return math.prod(p.size() for p in space.parameters) if several else _tree(space)


def configurations(space: Space) -> Iterator[dict[str, Scalar]]:
    """Every allowed configuration of a finite space, in the parameters' order."""
    if any(math.isinf(p.size()) for p in space.parameters) and math.isinf(size(space)):
        raise SpaceFault("only a finite space can be walked through; got one with an interval")
    return _walk(space, _due(space), 0, {})


def _walk(
    space: Space, due: list[list[Constraint]], place: int, params: dict[str, Scalar]
) -> Iterator[dict[str, Scalar]]:
    if place == len(space):
        yield dict(params)
        return
    parameter = space.parameters[place]
    if not space.is_active(parameter, params):
        yield from _walk(space, due, place + 1, params)
        return
    for index in range(int(parameter.size())):
        params[parameter.name] = parameter.option(index)
        if not any(constraint.broken(params) for constraint in due[place]):
            yield from _walk(space, due, place + 1, params)
        del params[parameter.name]


def _due(space: Space) -> list[list[Constraint]]:
    """The constraints that can be judged once the parameter of each place is set."""
    due: list[list[Constraint]] = [[] for _ in space.parameters]
    for constraint in space.constraints:
        due[max(space.index[name] for name in constraint.names)].append(constraint)
    return due


def _tree(space: Space) -> float:
    children: dict[str, list[Parameter]] = {}
    for parameter in space.parameters:
        if parameter.when is not None:
            children.setdefault(parameter.when[0], []).append(parameter)

    def count(parameter: Parameter) -> float:
        below = children.get(parameter.name, [])
        values = {(isinstance(v, bool), v) for child in below for v in child.wanted}
        total = parameter.size() - len(values)  # values on which nothing depends
        for _, value in values:
            ways = 1.0
            for child in below:
                ways *= count(child) if child.holds(value) else 1.0
            total += ways
        return total

    return math.prod(count(p) for p in space.parameters if p.when is None)


def _counted(space: Space) -> float | None:
    """By a walk in which parameters that nothing hangs on are factors; None when it is too long."""
    due = _due(space)
    held = {name for c in space.constraints for name in c.names}
    held |= {parent for p in space.parameters for parent, _ in p.conditions}
    visits = 0

    def count(place: int, params: dict[str, Scalar]) -> float | None:
        nonlocal visits
        ways = 1.0
        while place < len(space):
            parameter = space.parameters[place]
            if space.is_active(parameter, params):
                if math.isinf(parameter.size()):
                    return math.inf
                if parameter.name in held:
                    break
                ways *= parameter.size()
            place += 1
        if place == len(space):
            return ways
        total = 0.0
        for index in range(int(parameter.size())):
            visits += 1
            if visits > _VISITS:
                return None
            now = {**params, parameter.name: parameter.option(index)}
            if not any(constraint.broken(now) for constraint in due[place]):
                below = count(place + 1, now)
                if below is None:
                    return None
                total += below
                if math.isinf(total):
                    return total
        return ways * total

    return count(0, {})
