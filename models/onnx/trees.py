"""Trees as ONNX's TreeEnsembleRegressor, in float64 throughout.

A feature is float32 widened to float64 and a threshold is the tree's own float64, so that a value
that lies exactly on a threshold goes the way it goes in scikit-learn; no rounding is involved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from models.onnx.export import NoForm
from models.onnx.graph import Graph

NODES = 1_500_000  # beyond, drawing takes 2 GB of memory, and a server loads for over 5 s


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of m nodes; node 0 is the root, and `left` is for values up to the threshold.

    `weights` (m, t) are added to the targets from `target` on; only the leaves' rows count.
    """

    leaf: NDArray[np.bool_]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    weights: NDArray[np.float64]
    target: int = 0


def ensemble(graph: Graph, features: str, trees: Sequence[Tree], targets: int) -> str:
    """Sums of the leaves that rows reach: float64 (n, targets), of `features` float64 (n, d)."""
    sizes = [len(tree.leaf) for tree in trees]
    if sum(sizes) > NODES:
        raise NoForm(f"its ONNX form may have {NODES:,} nodes of trees, it has {sum(sizes):,}")
    leaf = _joined([tree.leaf for tree in trees])

    def inner(parts: list[NDArray[Any]]) -> NDArray[Any]:
        return np.where(leaf, 0, _joined(parts))

    numbers = np.arange(len(trees))
    places = [np.arange(size) for size in sizes]
    columns = [tree.weights.shape[1] for tree in trees]
    leaves = [np.flatnonzero(tree.leaf) for tree in trees]
    made = helper.make_node(
        "TreeEnsembleRegressor",
        [features],
        ["sums"],
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function="SUM",
        post_transform="NONE",
    )
    _integers(made, "nodes_treeids", np.repeat(numbers, sizes))
    _integers(made, "nodes_nodeids", _joined(places))
    _integers(made, "nodes_featureids", inner([tree.feature for tree in trees]))
    _integers(made, "nodes_truenodeids", inner([tree.left for tree in trees]))
    _integers(made, "nodes_falsenodeids", inner([tree.right for tree in trees]))
    _integers(made, "nodes_missing_value_tracks_true", inner([tree.missing_left for tree in trees]))
    modes = AttributeProto(name="nodes_modes", type=AttributeProto.STRINGS)
    modes.strings.extend([b"LEAF" if end else b"BRANCH_LEQ" for end in leaf.tolist()])
    made.attribute.append(modes)
    _doubles(made, "nodes_values_as_tensor", inner([tree.threshold for tree in trees]))
    _integers(
        made,
        "target_treeids",
        np.repeat(numbers, [len(a) * b for a, b in zip(leaves, columns, strict=True)]),
    )
    _integers(
        made,
        "target_nodeids",
        _joined([np.repeat(a, b) for a, b in zip(leaves, columns, strict=True)]),
    )
    _integers(
        made,
        "target_ids",
        _joined(
            [
                np.tile(np.arange(t.target, t.target + b), len(a))
                for t, a, b in zip(trees, leaves, columns, strict=True)
            ]
        ),
    )
    _doubles(
        made,
        "target_weights_as_tensor",
        _joined([tree.weights[a].ravel() for tree, a in zip(trees, leaves, strict=True)]),
    )
    return graph.cast(graph.add(made), np.float64)


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts)


def _integers(node: NodeProto, name: str, values: NDArray[Any]) -> None:
    # helper.make_attribute looks at every item; forests have a million of them
    made = AttributeProto(name=name, type=AttributeProto.INTS)
    made.ints.extend(values.astype(np.int64).tolist())
    node.attribute.append(made)


def _doubles(node: NodeProto, name: str, values: NDArray[Any]) -> None:
    tensor = numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float64), name)
    node.attribute.append(helper.make_attribute(name, tensor))
