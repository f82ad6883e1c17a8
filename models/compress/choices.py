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


def left_out(space: Space, named: Iterable[str] = ()) -> Space:
    """A joined space in which models stay as they are, where no parameter of compression is named.

    >>> joined = Space(SHRINKING).prefixed("mlp")
    >>> len(joined), len(left_out(joined)), len(left_out(joined, ["mlp.sparsity"]))
    (5, 1, 5)
    """
    asked = {name.rpartition(".")[0] for name in named if _own(name)}
    fixed = {
        parameter.name: {"value": "none"}
        for parameter in space.parameters
        if parameter.name.endswith(".compress")
        and parameter.name.removesuffix(".compress") not in asked
    }
    return space.override(fixed) if fixed else space


def _own(name: str) -> bool:
    return name.rpartition(".")[2] in {parameter.name for parameter in SHRINKING}
