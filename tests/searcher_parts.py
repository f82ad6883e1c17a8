"""What the contract tests of the searchers share: the searchers themselves, a space, a loop."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import models.search
from models.records import Params, Trial
from models.search import Searcher
from models.space import Categorical, Float, Int, Ordinal, Space

_DERIVES = re.compile(r"^class \w+\([^)]*Search(er)?\b", re.MULTILINE)
SLOW = frozenset({"gp"})  # tens to hundreds of milliseconds a trial, after ten random ones


def discovered() -> list[type[Searcher]]:
    """Every searcher under models/search/, through bases that they share."""
    for path in sorted(Path(next(iter(models.search.__path__))).glob("*.py")):
        if _DERIVES.search(path.read_text(encoding="utf-8")):
            importlib.import_module(f"models.search.{path.stem}")
    return sorted(_below(Searcher), key=lambda cls: cls.kind)


def _below(base: type[Searcher]) -> Iterator[type[Searcher]]:
    for cls in base.__subclasses__():
        # a base of several has no kind of its own
        if "kind" in vars(cls) and cls.__module__.startswith("models."):
            yield cls
        yield from _below(cls)


def few(searcher: type[Searcher], trials: int) -> int:
    """How many trials a test affords of a searcher."""
    return max(3, trials // 3) if searcher.kind in SLOW else trials


MIXED = Space(
    (
        Float("rate", 1e-4, 1.0, log=True),
        Int("leaves", 2, 128, log=True),
        Ordinal("width", (16, 32, 64, 128)),
        Categorical("kernel", ("linear", "rbf", "poly")),
        Float("gamma", 0.0, 2.0, when=("kernel", ("rbf", "poly"))),
        Int("degree", 2, 5, when=("kernel", "poly")),
    )
)


def loss(params: Params) -> float:
    """Smallest at rate 0.01, leaves 16, width 32, rbf, gamma 0.5."""
    value = (math.log10(float(params["rate"])) + 2) ** 2
    value += 0.3 * (math.log2(float(params["leaves"])) - 4) ** 2
    value += 0.2 * abs(math.log2(float(params["width"])) - 5)
    value += {"rbf": 0.0, "poly": 0.5}.get(str(params["kernel"]), 1.0)
    return value + abs(float(params.get("gamma", 0.5)) - 0.5)


def complete(number: int, params: Params, value: float) -> Trial:
    return Trial(number, params, "complete", value, 0.01, 0)


def failed(number: int, params: Params) -> Trial:
    return Trial(number, params, "failed", None, 0.1, 0, error="out of memory")


def advance(one: Searcher, trials: int) -> list[Params]:
    """Ask, score by `loss` and tell so many times; what was asked."""
    asked = []
    for _ in range(trials):
        number, params = len(one.history), one.ask()
        asked.append(params)
        one.tell(complete(number, params, loss(params)))
    return asked
