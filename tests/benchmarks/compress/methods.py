"""A full-size network and the ways to make it smaller, each a fitted model of the family."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.compress.baselines import Gradual, Once

FULL: dict[str, Any] = {
    "width": 256,
    "depth": 2,
    "dropout": 0.1,
    "learning_rate": 6e-3,
    "weight_decay": 1e-2,
    "epochs": 21,
    "batch": 256,
}
FIXED = 0.6  # of the weights, in magnitude pruning as it is mostly done


@dataclass(frozen=True)
class Made:
    """A fitted model; `left` of the `total` weights of the full-size network are not zero."""

    method: str
    fitted: Any
    left: int
    total: int
    family: str = "mlp"


FULL_OF_TEXTS: dict[str, Any] = {"width": 64, "epochs": 9, "compress": "none"}


ALL = ("once", "gradual", "sparse", "units", "student")


def texts(data: Any, seed: int, share: float, wanted: Collection[str] = ALL) -> Iterator[Made]:
    """As `tables`, of `textnet`: words and phrases, and a bag of embeddings."""
    from models.compress import texts as small
    from models.families import get
    from models.families.textnet import FittedTextNetwork, tokenised

    family = get("textnet")
    full = {**(family.default or {}), **FULL_OF_TEXTS}
    tokenizer, ids = tokenised(data.encoded, full)
    told = small.Told(data, tokenizer, ids, seed)
    plain = family.fit(data, full, seed=seed)
    total = small.left(plain.net)

    def made(method: str, net: Any, steps: Any) -> Made:
        fitted = FittedTextNetwork(net, tokenizer, steps)
        return Made(method, fitted, small.left(net), total, "textnet")

    def magnitude(kind: Callable[..., Any], part: float) -> tuple[Any, Any]:
        def hook(net: Any, steps: int) -> Any:
            return kind(list(small.matrices(net).values()), part, steps)

        less = {**full, "dropout": (1 - part) * full["dropout"]}  # as everfit does
        return told.train(less, hook=hook), {}

    def ours(kind: str) -> tuple[Any, Any]:
        own = {**full, "epochs": round(full["epochs"] / small.LONGER), "sparsity": share}
        return small.pruned(told, own, kind), {}

    def student() -> tuple[Any, Any]:
        more = {"compress": "student", "student": 8, "temperature": 2.0}
        return small.fit(told, {**full, **more})

    yield Made("full size", plain, total, total, "textnet")
    yield made("full size, int8", *small.on_grid(plain.net))
    for name, make in _ways(share, wanted, magnitude, ours, student):
        net, steps = make()
        yield made(name, net, steps)
        if name.startswith("everfit"):
            yield made(f"{name}, int8", *small.on_grid(net))


def tables(data: Any, seed: int, share: float, wanted: Collection[str] = ALL) -> Iterator[Made]:
    """The full-size `mlp`, magnitude pruning, and everfit's ways at `share`.

    All are trained for the same epochs; what is in eight bits is not trained anew.
    """
    from models.compress import perceptron, units
    from models.families import get, network
    from models.families.mlp import FittedMLP

    plain = get("mlp").fit(data, {**FULL, "compress": "none"}, seed=seed)
    total = units.left(plain.module)[1]

    def made(method: str, found: perceptron.Compressed) -> Made:
        fitted = FittedMLP(found.net, found.steps)
        return Made(method, fitted, units.left(found.net)[0], total)

    def magnitude(kind: Callable[..., Any], part: float) -> perceptron.Compressed:
        def hook(net: Any, steps: int) -> Any:
            return kind([*net.weights, *net.embeddings], part, steps)

        less = {**FULL, "dropout": (1 - part) * FULL["dropout"]}  # as everfit does
        net = network.train(data, less, seed=seed, seconds=None, hook=hook)
        return perceptron.Compressed(net, {})

    def ours(kind: str) -> perceptron.Compressed:
        # a training in which weights go is longer by itself; here it has the epochs of the others
        own = {**FULL, "epochs": round(FULL["epochs"] / perceptron.LONGER), "sparsity": share}
        return perceptron.fit(data, {**own, "compress": kind}, seed=seed)

    def student() -> perceptron.Compressed:
        more = {"compress": "student", "student": 32, "temperature": 2.0}
        return perceptron.fit(data, {**FULL, **more}, seed=seed)

    yield Made("full size", plain, total, total)
    yield made("full size, int8", perceptron.on_grid(units.compacted(plain.module)))
    for name, make in _ways(share, wanted, magnitude, ours, student):
        found = make()
        yield made(name, found)
        if name.startswith("everfit"):
            yield made(f"{name}, int8", perceptron.on_grid(found.net))


def _ways(
    share: float,
    wanted: Collection[str],
    magnitude: Callable[[Any, float], Any],
    ours: Callable[[str], Any],
    student: Callable[[], Any],
) -> Iterator[tuple[str, Callable[[], Any]]]:
    if "once" in wanted:
        yield f"magnitude, {FIXED:.0%}", lambda: magnitude(Once, FIXED)
        yield f"magnitude, {share:.0%}", lambda: magnitude(Once, share)
    if "gradual" in wanted:
        yield f"gradual magnitude, {share:.0%}", lambda: magnitude(Gradual, share)
    if "sparse" in wanted:
        yield f"everfit sparse, {share:.0%}", lambda: ours("sparse")
    if "units" in wanted:
        yield f"everfit units, {share:.0%}", lambda: ours("units")
    if "student" in wanted:
        yield "everfit student", student
