"""Searchers over a typed space: the controller, the baselines, and the loop that runs them."""

from typing import TYPE_CHECKING, Any

from models.search.base import Pending, Searcher, check_state, key, trial_from_json, trial_to_json
from models.search.loop import Budget, best, search
from models.search.random import RandomSearch
from models.space_formats import from_configspace, from_optuna, to_optuna

if TYPE_CHECKING:
    from models.search.controller import Controller
    from models.search.sampler import ControllerSampler
    from models.search.search_cv import RLSearchCV

__all__ = [
    "Budget",
    "Controller",
    "ControllerSampler",
    "Pending",
    "RLSearchCV",
    "RandomSearch",
    "Searcher",
    "best",
    "check_state",
    "from_configspace",
    "from_optuna",
    "key",
    "search",
    "to_optuna",
    "trial_from_json",
    "trial_to_json",
]

# torch, Optuna and scikit-learn load when their class is asked for.
_LATER = {"Controller": "controller", "ControllerSampler": "sampler", "RLSearchCV": "search_cv"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
