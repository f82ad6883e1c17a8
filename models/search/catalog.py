"""Every searcher by one word, as the config's `train.tuner` names it.

controller    the reinforcement-learning controller, the only one that remembers
grid          evenly spaced points, in a seeded order, ever finer
random        uniform draws
quasi-random  a scrambled Sobol sequence
tpe           Optuna's tree-structured Parzen estimators
gp            Optuna's Gaussian process (Bayesian optimisation)
cma-es        Optuna's CMA-ES
nsga-ii       Optuna's NSGA-II (evolutionary)

>>> from models.space import Float, Space
>>> searcher("quasi-random", Space((Float("x", 0, 1),)), seed=0).kind
'quasi-random'
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from models.errors import SpaceFault
from models.search.base import Searcher
from models.space import Space

# Optuna and torch load when a word needs them.
_CLASSES = {
    "controller": "controller.Controller",
    "grid": "grid.GridSearch",
    "random": "random.RandomSearch",
    "quasi-random": "quasi_random.QuasiRandomSearch",
    "tpe": "optuna_search.TPESearch",
    "gp": "optuna_search.GPSearch",
    "cma-es": "optuna_search.CMAESSearch",
    "nsga-ii": "optuna_search.NSGA2Search",
}
WORDS = tuple(_CLASSES)


def searcher(
    word: str, space: Space, *, seed: int, memory: Mapping[str, Any] | None = None
) -> Searcher:
    """The searcher called `word`, warm when `memory`, an earlier one's `state_dict`, is given.

    Raises SpaceFault for a word that names none, and for a memory that it cannot read.
    """
    if word not in _CLASSES:
        raise SpaceFault(f"a tuner is one of {', '.join(WORDS)}, got {word!r}: use one of them")
    module, name = _CLASSES[word].split(".")
    cls: type[Searcher] = getattr(import_module(f"models.search.{module}"), name)
    return cls(space, seed=seed) if memory is None else cls.warm(space, memory, seed=seed)
