"""ConfigSpace's JSON as a Space: what SMAC, auto-sklearn, YAHPO Gym and their like write.

Read are format versions 0.1 to 0.4, as ConfigSpace 0.4 to 1.2 wrote them. A Space has the same
configurations as the original, or there is none: what it cannot express is refused.

- uniform numbers, log or not: Float, Int; with a quantum `q` in steps of it from `lower`;
- ordinal, categorical, constant: Ordinal, Categorical, a Categorical of one choice;
- EQ, IN, NEQ, LT, GT, AND: a condition each on a parameter; OR where all are on one parent;
- forbidden EQUALS, IN, comparisons with a value, AND, OR: `Forbidden`; relations of two parameters:
  `Ordered` and `Different`.

Weights of choices, normal and beta distributions say where to look first, not what is allowed: they
are refused unless they are told to be dropped. Defaults are read by `default_of`.

>>> space = from_configspace('''{"hyperparameters": [
...     {"type": "categorical", "name": "kernel", "choices": ["linear", "rbf"]},
...     {"type": "uniform_float", "name": "gamma", "lower": 0.001, "upper": 1.0, "log": true}],
...     "conditions": [{"type": "EQ", "child": "gamma", "parent": "kernel", "value": "rbf"}],
...     "forbiddens": []}''')
>>> space["gamma"]
Float(name='gamma', low=0.001, high=1.0, log=True, when=('kernel', 'rbf'))
"""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from models.constraints import Constraint, Different, Forbidden, Ordered
from models.errors import SpaceFault
from models.parameters import Categorical, Condition, Float, Int, Ordinal, Parameter, among, same
from models.records import Scalar
from models.space import Space

Row = Mapping[str, Any]
_NEWEST = 0.4
_MOST = 1_000  # values that a comparison is written out as
_CLAUSES = 1_000  # that ANDs of ORs may come to
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "NEQ": operator.ne,
}


def from_configspace(source: str | bytes | Row, *, drop_priors: bool = False) -> Space:
    """The space of a ConfigSpace JSON, as text or parsed.

    drop_priors: search evenly where the original has weights, a normal or a beta distribution.
    Raises SpaceFault for what is no such JSON, and for what a Space cannot express.
    """
    content = _content(source)
    rows = _rows(content, "hyperparameters")
    plain = {p.name: p for p in (_parameter(row, drop_priors) for row in rows)}
    if len(plain) < len(rows):
        raise SpaceFault("parameter names are unique; one comes twice: rename one")
    when: dict[str, tuple[Condition, ...]] = {}
    for row in _rows(content, "conditions"):
        child = row.get("child")
        if child not in plain or child in when:
            rule = "a condition has one of the parameters as child, and each child one condition"
            raise SpaceFault(f"{rule}; got {dict(row)!r}: correct it, or join several by AND")
        when[str(child)] = _conditions(row, plain)
    constraints = [c for row in _rows(content, "forbiddens") for c in _forbidden(row, plain)]
    return Space(_sorted(plain, when), constraints)


def default_of(source: str | bytes | Row, space: Space) -> dict[str, Scalar] | None:
    """The default configuration of a ConfigSpace JSON: a known point to try first.

    None when a value is missing or the space refuses it.
    """
    values = {
        row["name"]: row.get("default_value", row.get("default", row.get("value")))
        for row in _rows(_content(source), "hyperparameters")
    }
    params: dict[str, Scalar] = {}
    for parameter in space.parameters:
        if space.is_active(parameter, params):
            value = parameter.repaired(values.get(parameter.name))  # written with few digits
            if value is None:
                return None
            params[parameter.name] = value
    return params if space.allows(params) else None


def _content(source: str | bytes | Row) -> Row:
    if isinstance(source, str | bytes):
        try:
            source = json.loads(source)
        except ValueError as fault:
            raise SpaceFault(f"ConfigSpace's JSON is wanted, got no JSON ({fault})") from None
    if not isinstance(source, Mapping) or "hyperparameters" not in source:
        got = list(source) if isinstance(source, Mapping) else type(source).__name__
        raise SpaceFault(
            f"ConfigSpace's JSON is an object with `hyperparameters`, got {got}: write it with "
            "ConfigSpace's to_json"
        )
    version = source.get("format_version", source.get("json_format_version", _NEWEST))
    if not isinstance(version, int | float) or version > _NEWEST:
        raise SpaceFault(
            f"ConfigSpace's format is known up to version {_NEWEST}, got {version!r}: write it "
            "with ConfigSpace 1.2"
        )
    return source


def _rows(content: Row, field: str) -> Sequence[Row]:
    rows = content.get(field) or []
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) and "type" in r for r in rows):
        raise SpaceFault(f"`{field}` is a list of objects with a `type`, got {rows!r:.80}")
    return rows


def _parameter(row: Row, drop_priors: bool) -> Parameter:
    name, kind = row.get("name"), str(row["type"])
    try:
        family, _, number = kind.partition("_")
        if number in ("float", "int") and family in ("uniform", "normal", "beta"):
            if family != "uniform":
                _prior(name, f"a {family} distribution", drop_priors)
            return _number(row, Float if number == "float" else Int)
        if kind == "categorical":
            weights = row.get("weights", row.get("probabilities"))
            if weights is not None and len(set(weights)) > 1:
                _prior(name, f"weights {weights}", drop_priors)
            return Categorical(str(name), tuple(row["choices"]))
        if kind == "ordinal":
            return Ordinal(str(name), tuple(row["sequence"]))
        if kind in ("constant", "unparametrized"):
            return Categorical(str(name), (row["value"],))
    except KeyError as missing:
        raise SpaceFault(f"{name!r}: a {kind} has {missing}, got {dict(row)!r}: add it") from None
    raise SpaceFault(
        f"{name!r}: a parameter is uniform_float, uniform_int, ordinal, categorical or constant, "
        f"got {kind!r}: make it one of them"
    )


def _prior(name: Any, what: str, drop: bool) -> None:
    if not drop:
        raise SpaceFault(
            f"{name!r}: a space has no priors, got {what}: pass drop_priors=True to search it "
            "evenly, or make it uniform"
        )


def _number(row: Row, kind: type[Float | Int]) -> Float | Int:
    name, low, high, q = str(row["name"]), row["lower"], row["upper"], row.get("q")
    if low is None or high is None:
        raise SpaceFault(f"{name!r}: a number has bounds, got [{low}, {high}]: give both")
    log = bool(row.get("log", False))
    if q is not None and log:
        raise SpaceFault(
            f"{name!r}: a log scale has no quantum, got q={q}: drop one of them, or list the "
            "values as an ordinal"
        )
    if q is not None and not math.isclose((high - low) / q, round((high - low) / q), abs_tol=1e-9):
        raise SpaceFault(
            f"{name!r}: upper - lower is a multiple of q, got [{low}, {high}] and {q}: correct one "
            "of them"
        )
    return kind(name, low, high, log, step=q)


def _conditions(row: Row, plain: Mapping[str, Parameter]) -> tuple[Condition, ...]:
    """All that must hold, one condition for each parent."""
    kind = row["type"]
    if kind in ("AND", "OR"):
        parts = [_conditions(part, plain) for part in _rows(row, "conditions")]
        if kind == "AND":
            return _met(itertools.chain.from_iterable(parts), row)
        parents = {parent for part in parts for parent, _ in part}
        if len(parents) != 1 or any(len(part) != 1 for part in parts):
            raise SpaceFault(
                f"an OR is on one parent, got {sorted(parents)} for {row.get('child')!r}: write "
                "the parameter once for each alternative, under a name of its own"
            )
        values = [value for ((_, wanted),) in parts for value in _tuple(wanted)]
        return ((parents.pop(), _distinct(values)),)
    parent = row.get("parent")
    if parent not in plain:
        raise SpaceFault(
            f"a condition's parent is one of {list(plain)}, got {parent!r}: correct it"
        )
    if kind == "EQ":
        return ((str(parent), row["value"]),)
    return ((str(parent), _values(row, kind, plain[str(parent)])),)


def _met(conditions: Iterable[Condition], row: Row) -> tuple[Condition, ...]:
    """One condition a parent: the values that all of those on it allow."""
    found: dict[str, Scalar | tuple[Scalar, ...]] = {}
    for parent, wanted in conditions:
        if parent in found:
            both = among((parent, found[parent]))
            wanted = tuple(v for v in both if any(same(v, w) for w in _tuple(wanted)))  # noqa: PLW2901
            if not wanted:
                raise SpaceFault(
                    f"{row.get('child')!r} is never active: its conditions on {parent!r} have no "
                    "value in common: correct them"
                )
        found[parent] = wanted
    return tuple(found.items())


def _forbidden(row: Row, plain: Mapping[str, Parameter]) -> list[Constraint]:
    kind = str(row["type"])
    if kind.startswith("RELATION"):
        return [_relation(row, kind)]
    return [Forbidden(clause) for clause in _clauses(row, plain)]


def _relation(row: Row, kind: str) -> Constraint:
    """What must hold, so that the forbidden relation of left and right does not."""
    how = str(row["lambda"]) if kind == "RELATION" else kind.removeprefix("RELATION_")
    left, right = row["left"], row["right"]
    allowed: dict[str, Constraint] = {
        "LT": Ordered(right, left),
        "LE": Ordered(right, left, strict=True),
        "GT": Ordered(left, right),
        "GE": Ordered(left, right, strict=True),
        "EQ": Different(left, right),
    }
    if how not in allowed:
        raise SpaceFault(f"a relation is one of {list(allowed)}, got {how!r}: correct it")
    return allowed[how]


def _clauses(row: Row, plain: Mapping[str, Parameter]) -> list[dict[str, tuple[Scalar, ...]]]:
    """What is forbidden as alternatives, each of them {name: values} at once."""
    kind = str(row["type"])
    if kind in ("AND", "OR"):
        parts = [_clauses(part, plain) for part in _rows(row, "clauses")]
        if kind == "OR":
            return [clause for part in parts for clause in part]
        if math.prod(map(len, parts)) > _CLAUSES:
            raise SpaceFault(
                f"a forbidden AND comes to at most {_CLAUSES} clauses, got "
                f"{math.prod(map(len, parts))}: split it"
            )
        joined = (_joined(clauses) for clauses in itertools.product(*parts))
        return [clause for clause in joined if clause]
    name = row.get("name")
    if name not in plain:
        raise SpaceFault(
            f"a forbidden clause names one of {list(plain)}, or is an AND or OR of such; got "
            f"{dict(row)!r}: correct it"
        )
    if kind == "EQUALS":
        return [{str(name): (row["value"],)}]
    return [{str(name): _values(row, kind.removeprefix("CLAUSE_"), plain[str(name)])}]


def _joined(
    clauses: Iterable[Mapping[str, tuple[Scalar, ...]]],
) -> dict[str, tuple[Scalar, ...]] | None:
    """All clauses at once; None when two of them want different values of one parameter."""
    out: dict[str, tuple[Scalar, ...]] = {}
    for clause in clauses:
        for name, values in clause.items():
            left = [v for v in values if any(same(v, w) for w in out.get(name, values))]
            if not left:
                return None
            out[name] = tuple(left)
    return out


def _values(row: Row, kind: str, parameter: Parameter) -> tuple[Scalar, ...]:
    """The values of a parameter for which a comparison holds."""
    if kind == "IN":
        return _distinct(row["values"])
    if kind not in _COMPARE:
        raise SpaceFault(
            f"{parameter.name!r} is compared by EQ, IN, {', '.join(_COMPARE)}, got {kind!r}: use "
            "one of them"
        )
    if parameter.size() > _MOST:
        raise SpaceFault(
            f"a comparison is written out as values, at most {_MOST} of them; got {kind} "
            f"{row['value']!r} of {parameter!r}: make it an ordinal"
        )
    options = [parameter.option(i) for i in range(int(parameter.size()))]
    order: Sequence[Any] = range(len(options)) if isinstance(parameter, Ordinal) else options
    pivot = row["value"]
    if isinstance(parameter, Ordinal):  # the order of the sequence
        pivot = parameter.place(pivot)
    elif isinstance(parameter, Categorical) and kind != "NEQ":
        raise SpaceFault(f"{parameter.name!r} has no order, got {kind}: make it an ordinal")
    found = tuple(
        option
        for option, rank in zip(options, order, strict=True)
        if pivot is not None and _COMPARE[kind](rank, pivot)
    )
    if not found:
        raise SpaceFault(f"{parameter.name!r} is never {kind} {row['value']!r}: correct or drop it")
    return found


def _sorted(
    plain: Mapping[str, Parameter], when: Mapping[str, tuple[Condition, ...]]
) -> list[Parameter]:
    """Parents before their children, otherwise in the order given."""
    out: dict[str, Parameter] = {}
    left = dict(plain)
    while left:
        ready = [n for n in left if all(parent in out for parent, _ in when.get(n, ()))]
        if not ready:
            raise SpaceFault(f"conditions go in a circle among {list(left)}: cut it")
        name = ready[0]
        parameter = left.pop(name)
        first, *also = when.get(name, (None,))
        out[name] = replace(parameter, when=first, also=tuple(c for c in also if c))
    return list(out.values())


def _tuple(wanted: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _distinct(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    out: list[Scalar] = []
    for value in values:
        if not any(same(value, other) for other in out):
            out.append(value)
    return tuple(out)
