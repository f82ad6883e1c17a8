"""Compression as parameters of a search: what a family of torch models adds to its space.

A trial that shrinks its model is scored as any other, so whether it is worth it is for the
objective to say (`train.weights`, `limits`, `pareto`).
"""

from __future__ import annotations

from collections.abc import Iterable

from models.records import Params, Scalar
from models.space import Categorical, Float, Ordinal, Space

SMALL = "model.npz"  # the file of a model that was made small

_SPARSE = ("sparse", "units")

SHRINKING = (
    # sparse: weights go one by one; units: with whole units, so that answers are faster too;
    # student: a smaller network learns from one of the full size
    Categorical("compress", ("none", "sparse", "units", "student")),
    Float("sparsity", 0.5, 0.97, when=("compress", _SPARSE)),  # share of the weights that go
    Ordinal("student", (8, 16, 32, 64), when=("compress", "student")),  # units of a layer
    Float("temperature", 1.0, 8.0, log=True, when=("compress", "student")),
    # int8: weights of eight bits and a step a row, in the file; the answers are the same
    Categorical("precision", ("float32", "int8"), when=("compress", (*_SPARSE, "student"))),
)
AS_IS: dict[str, Scalar] = {"compress": "none"}


def shrinks(params: Params) -> bool:
    """Whether the configuration asks for a smaller model."""
    return params.get("compress", "none") != "none"


def left_out(space: Space) -> Space:
    """A joined space in which models stay as they are.

    >>> joined = Space(SHRINKING).prefixed("mlp")
    >>> len(joined), len(left_out(joined))
    (5, 1)
    """
    names = [p.name for p in space.parameters if p.name.endswith(".compress")]
    return space.override({name: {"value": "none"} for name in names}) if names else space


def named(names: Iterable[str]) -> bool:
    """Whether one of the names of a joined space is a parameter of compression.

    >>> named(["mlp.width"]), named(["mlp.width", "mlp.sparsity"])
    (False, True)
    """
    own = {parameter.name for parameter in SHRINKING}
    return any(name.rpartition(".")[2] in own for name in names)
