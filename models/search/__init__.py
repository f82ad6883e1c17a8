"""Searchers over a typed space: the controller, the baselines, and the loop that runs them."""

from models.search.base import Pending, Searcher, check_state, key, trial_from_json, trial_to_json
from models.search.loop import Budget, best, search
from models.search.random import RandomSearch

__all__ = [
    "Budget",
    "Pending",
    "RandomSearch",
    "Searcher",
    "best",
    "check_state",
    "key",
    "search",
    "trial_from_json",
    "trial_to_json",
]
