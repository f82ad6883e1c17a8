"""What scikit-learn users write as a search space, read as a typed one.

RandomizedSearchCV takes a dict of scipy.stats distributions and lists, or a list of such dicts. A
list may hold anything (None, tuples, estimators); a `Space` holds numbers, texts and booleans, so
such values are searched under a label and handed to the estimator as they were given.

>>> from scipy.stats import loguniform
>>> reading = read({"C": loguniform(1e-3, 1e3), "gamma": ["scale", None]})
>>> reading.space.parameters[1]
Categorical(name='gamma', choices=('scale', 'None'), when=None)
>>> reading.decode({"C": 2.0, "gamma": "None"})
{'C': 2.0, 'gamma': None}
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.errors import SpaceFault
from models.records import Params, Scalar
from models.space import Categorical, Float, Int, Ordinal, Parameter, Space

_KNOWN = "uniform, loguniform and randint of scipy.stats"
_LIST = "a list of some of its values, such as list(dist.ppf(np.linspace(0.02, 0.98, 49)))"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class SearchFault(SpaceFault, ValueError):
    """A search space or an option that RLSearchCV cannot use; a ValueError, as in scikit-learn."""


@contextmanager
def told_as_value_error() -> Iterator[None]:
    """Raise every SpaceFault from inside as the SearchFault that scikit-learn users can catch."""
    try:
        yield
    except SearchFault:
        raise
    except SpaceFault as fault:
        raise SearchFault(str(fault)) from None


@dataclass(frozen=True)
class Reading:
    """A space, and the way from its parameters to those of the estimator.

    targets: the estimator's parameter behind a name of the space, None for a choice of the
    search's own; values: the objects behind a listed parameter's options, in their order. Names
    that neither holds mean themselves.
    """

    space: Space
    targets: Mapping[str, str | None]
    values: Mapping[str, tuple[Any, ...]]

    def decode(self, params: Params) -> dict[str, Any]:
        """What to call `set_params` of the estimator with."""
        out: dict[str, Any] = {}
        for name, value in params.items():
            target = self.targets.get(name, name)
            if target is None:
                continue
            if name in self.values:
                parameter = self.space[name]
                assert isinstance(parameter, Ordinal | Categorical)
                place = parameter.place(value)
                assert place is not None
                out[target] = self.values[name][place]
            else:
                out[target] = value
        return out


def read(space: Space | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Reading:
    """A Space as it is; a dict of distributions and lists; or a list of dicts, one a sub-space.

    Sub-spaces become one conditional space: a parameter that several share with the same values is
    one parameter there, so that what is learnt in one of them counts in all.

    A list of numbers is ordinal, in the order of size; any other list is categorical, and what it
    repeats counts once. Distributions of Optuna are read as well. Raises SearchFault for all that
    cannot be read, in one message.
    """
    if isinstance(space, Space):
        return Reading(space, {}, {})
    if isinstance(space, Mapping):
        return _one(space)
    listed = isinstance(space, Sequence) and not isinstance(space, str | bytes)
    if not listed or not space or not all(isinstance(part, Mapping) for part in space):
        raise SearchFault(
            "a search space is a Space, a dict of parameter names to distributions or lists, or a "
            f"list of such dicts, got {space!r}: write one of them"
        )
    return _one(space[0]) if len(space) == 1 else _several(space)


def _one(part: Mapping[str, Any]) -> Reading:
    read_parts, faults = _parameters(part)
    if faults:
        raise SearchFault("; ".join(faults))
    with told_as_value_error():
        space = Space(tuple(parameter for parameter, _ in read_parts.values()))
    values = {name: values for name, (_, values) in read_parts.items() if values is not None}
    return Reading(space, {}, values)


def _several(parts: Sequence[Mapping[str, Any]]) -> Reading:
    names = {name for part in parts for name in part}
    parent = "subspace"
    while parent in names:
        parent += "_"
    # name -> [(parameter, values, the sub-spaces that have it so)]
    groups: dict[str, list[tuple[Parameter, tuple[Any, ...] | None, list[int]]]] = {}
    faults: list[str] = []
    for index, part in enumerate(parts):
        found, wrong = _parameters(part)
        faults += [f"sub-space {index}: {fault}" for fault in wrong]
        for name, (parameter, values) in found.items():
            for same, listed, places in groups.setdefault(name, []):
                if same == parameter and _identical(listed, values):
                    places.append(index)
                    break
            else:
                groups[name].append((parameter, values, [index]))
    if faults:
        raise SearchFault("; ".join(faults))
    targets: dict[str, str | None] = {parent: None}
    values_of: dict[str, tuple[Any, ...]] = {}
    parameters: list[Parameter] = [Categorical(parent, tuple(range(len(parts))))]
    for name, variants in groups.items():
        for parameter, values, places in variants:
            own = name if len(variants) == 1 else f"{name}@{','.join(map(str, places))}"
            when = None if len(places) == len(parts) else (parent, tuple(places))
            parameters.append(replace(parameter, name=own, when=when))
            targets[own] = name
            if values is not None:
                values_of[own] = values
    return Reading(Space(tuple(parameters)), targets, values_of)


def _identical(a: tuple[Any, ...] | None, b: tuple[Any, ...] | None) -> bool:
    """Whether two listings hold the same things; labels alone do not tell, and == may be wide."""
    if a is None or b is None:
        return a is b
    return all(_alike(x, y) for x, y in zip(a, b, strict=True))


def _alike(a: object, b: object) -> bool:
    return a is b or (isinstance(a, str | int | float | bool) and type(a) is type(b) and a == b)


def _parameters(
    part: Mapping[str, Any],
) -> tuple[dict[str, tuple[Parameter, tuple[Any, ...] | None]], list[str]]:
    """Each parameter with the objects behind its options (None: they are themselves); faults."""
    found: dict[str, tuple[Parameter, tuple[Any, ...] | None]] = {}
    faults: list[str] = []
    for name, given in part.items():
        try:
            found[name] = _parameter(name, given)
        except SpaceFault as fault:
            faults.append(str(fault))
    return found, faults


def _parameter(name: str, given: Any) -> tuple[Parameter, tuple[Any, ...] | None]:
    if not isinstance(name, str) or not name:
        raise SearchFault(f"a parameter's name is a non-empty text, got {name!r}: correct it")
    if type(given).__module__.startswith("optuna."):
        return _of_optuna(name, given)
    if hasattr(given, "rvs"):
        return _of_scipy(name, given), None
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise SearchFault(
            f"{name!r}: a distribution or a list of values is wanted, got {given!r}: write "
            f"[{given!r}] to hold it fixed"
        )
    if not hasattr(given, "__getitem__") or not hasattr(given, "__len__"):
        raise SearchFault(
            f"{name!r}: a list keeps its order and can be read again, got a "
            f"{type(given).__name__}: write sorted(...) or list(...) of it"
        )
    return _of_list(name, list(given))


def _of_list(name: str, given: list[Any]) -> tuple[Parameter, tuple[Any, ...]]:
    options, values = _labelled(name, given)
    if len(options) > 1 and all(_is_number(value) for value in options):
        ordered = tuple(sorted(options))
        return Ordinal(name, ordered), ordered
    return Categorical(name, options), values


def _labelled(name: str, given: Iterable[Any]) -> tuple[tuple[Scalar, ...], tuple[Any, ...]]:
    """Distinct labels and the values behind them; what a Space can hold is its own label."""
    found: dict[tuple[bool, Scalar], Any] = {}
    for raw in given:
        value = raw.item() if isinstance(raw, np.generic) else raw
        label = value if _plain(value) else _text(value)
        taken = (isinstance(label, bool), label)
        if taken in found and _alike(found[taken], value):
            continue
        count = 1
        while taken in found:  # 1 beside 1.0, None beside 'None', two models of the same settings
            taken = (False, _text(value) + (f" #{count}" if count > 1 else ""))
            count += 1
        found[taken] = value
    if not found:
        raise SearchFault(f"{name!r}: a list holds at least one value, got none: add one")
    return tuple(label for _, label in found), tuple(found.values())


def _plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """A label that is the same in the next process, so that a memory can be read there."""
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return _ADDRESS.sub("", repr(value))


def _of_scipy(name: str, given: Any) -> Parameter:
    """uniform, loguniform (reciprocal) and randint, wherever `loc` and `scale` put them."""
    kind = getattr(getattr(given, "dist", None), "name", type(given).__name__)
    if kind not in ("uniform", "loguniform", "reciprocal", "randint"):
        raise SearchFault(
            f"{name!r}: {_KNOWN} can be read, got {kind}: use one of them, or {_LIST}"
        )
    low, high = (float(edge) for edge in given.support())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SearchFault(
            f"{name!r}: a distribution has finite ends, got [{low:g}, {high:g}] of {kind}: "
            "correct its arguments"
        )
    if kind == "randint":
        return Int(name, int(low), int(high))
    if kind == "uniform":
        return Float(name, low, high)
    if low <= 0 or not math.isclose(float(given.median()), math.sqrt(low * high), rel_tol=1e-6):
        raise SearchFault(
            f"{name!r}: a log scale starts at 0, got {kind} moved to [{low:g}, {high:g}] by `loc`: "
            f"leave `loc` out, or use {_LIST}"
        )
    return Float(name, low, high, log=True)


def _of_optuna(name: str, given: Any) -> tuple[Parameter, tuple[Any, ...] | None]:
    if hasattr(given, "choices"):  # in no order there, even where all of them are numbers
        options, values = _labelled(name, given.choices)
        return Categorical(name, options), values
    low, high, log, step = given.low, given.high, given.log, given.step
    if isinstance(low, int):
        if step == 1:
            return Int(name, low, high, log), None
        return Ordinal(name, tuple(range(low, high + 1, step))), None
    if step is None:
        return Float(name, low, high, log), None
    count = round((high - low) / step) + 1
    return Ordinal(name, tuple(float(f"{low + i * step:.12g}") for i in range(count))), None
