"""Model families by name, their joined search space and their starting points.

A family's module imports scikit-learn or torch only when it fits or loads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from models.compress.choices import left_out
from models.errors import SpaceFault
from models.families.base import Family, Fitted, TrainingData
from models.families.custom import Custom
from models.families.forest import Forest
from models.families.hgb import HGB
from models.families.logistic import Logistic
from models.families.mlp import MLP
from models.families.sentence import Sentence
from models.families.textnet import TextNetwork
from models.families.tfidf import Tfidf
from models.records import Params, Scalar
from models.space import Space, join
from models.transfer.adapt import CHOICE, NONE, STRENGTH, USUAL, offered, widened

__all__ = [
    "NAMES",
    "Family",
    "Fitted",
    "TrainingData",
    "adapting",
    "defaults",
    "get",
    "joined",
    "reading",
    "space",
    "split",
]

_ALL: tuple[Family, ...] = (Logistic(), HGB(), Forest(), MLP(), Tfidf(), TextNetwork(), Sentence())
_BUILT_IN = {family.name: family for family in _ALL}
NAMES: tuple[str, ...] = (*_BUILT_IN, "custom")


def get(name: str, trainer: str | None = None) -> Family:
    """The family of that name; `trainer` (module:attribute) is what 'custom' fits with."""
    if name == "custom":
        return Custom(trainer)
    try:
        return _BUILT_IN[name]
    except KeyError:
        raise SpaceFault(
            f"a family is one of {', '.join(NAMES)}, got {name!r}: use one of them"
        ) from None


def reading(kind: str) -> tuple[str, ...]:
    """Names of the families that learn from columns of that kind.

    >>> "hgb" in reading("number")
    True
    """
    return tuple(name for name in NAMES if kind in get(name).reads)


def adapting(way: str) -> tuple[str, ...]:
    """Names of the families that can be adapted in that way (`models.transfer.adapt`).

    >>> "mlp" in adapting("mmd")
    True
    """
    return tuple(name for name in NAMES if way in get(name).adapts)


def _families(names: Sequence[str], trainer: str | None) -> list[Family]:
    # naming a trainer is asking for it: 'custom' need not be listed as well
    wanted = list(dict.fromkeys([*names, *(["custom"] if trainer else [])]))
    return [get(name, trainer) for name in wanted]


def space(
    names: Sequence[str],
    trainer: str | None = None,
    adapt: Collection[str] = (),
    *,
    shrink: bool = False,
) -> Space:
    """The joined space: a categorical 'family', then 'family.parameter' under it.

    With ways to `adapt` (`models.transfer.adapt`), each family that can be given one has them as
    parameters too. Only with `shrink` may a model be made smaller (`models.compress.choices`).

    >>> space(["logistic"]).decode(space(["logistic"]).encode(defaults(["logistic"])[0]))["family"]
    'logistic'
    """
    found = join({family.name: widened(family, adapt) for family in _families(names, trainer)})
    return found if shrink else left_out(found)


def defaults(
    names: Sequence[str], trainer: str | None = None, adapt: Collection[str] = ()
) -> list[dict[str, Scalar]]:
    """One sane configuration per family that has one, in the joined names: to be tried first.

    With ways to `adapt`, the families' own come first, then each with each of the ways.
    """
    known = [f for f in _families(names, trainer) if f.default is not None]
    ways = {family.name: offered(family, adapt) for family in known}
    plain = [
        joined(f.name, {**(f.default or {}), **({CHOICE: NONE} if ways[f.name] else {})})
        for f in known
    ]
    return plain + [
        joined(f.name, {**(f.default or {}), CHOICE: way, STRENGTH: USUAL[way]})
        for f in known
        for way in ways[f.name]
    ]


def joined(name: str, params: Params) -> dict[str, Scalar]:
    """A family's own parameters under the names of the joined space."""
    return {"family": name, **{f"{name}.{key}": value for key, value in params.items()}}


def split(params: Params) -> tuple[str, dict[str, Scalar]]:
    """(family, its own parameters) of a configuration of the joined space.

    >>> split({"family": "hgb", "hgb.max_iter": 50})
    ('hgb', {'max_iter': 50})
    """
    if "family" not in params:
        raise SpaceFault(
            f"a configuration names its family, got {dict(params)}: add family, one of "
            f"{', '.join(NAMES)}"
        )
    name = str(params["family"])
    prefix = f"{name}."
    if foreign := [key for key in params if key != "family" and not key.startswith(prefix)]:
        raise SpaceFault(
            f"a configuration of {name!r} holds parameters of it alone, got {foreign}: remove them"
        )
    return name, {k.removeprefix(prefix): v for k, v in params.items() if k != "family"}
