"""Which searcher a config asks for, what it starts from, and what earlier searches taught it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.errors import SpaceFault
from models.records import Scalar, Trial
from models.search import Searcher, trial_from_json
from models.search.controller import Controller
from models.search.memory import repaired
from tasks import places
from tasks.lineage import CONTROLLER

if TYPE_CHECKING:
    from tasks.config import Config

log = logging.getLogger(__name__)


def budget(config: Config) -> int:
    """Trials of the next search: fewer once there is something to start from."""
    return config.train.warm_trials if memory(config) else config.train.trials


def searcher(
    config: Config, known: dict[str, Any] | None
) -> tuple[Searcher, list[dict[str, Scalar]], bool]:
    """The config's searcher, the configurations to try before it is asked, whether it remembers.

    The controller starts from what earlier retrains learnt, and tries a family's default beside
    the best of it; a cold search tries each family's default first, and then with each way to
    adapt that the config allows.
    """
    from models import families

    asked = config.train
    space = families.space(asked.families, asked.trainer, asked.adapt, shrink=asked.shrinks)
    space = space.override(config.train.space)
    defaults = families.defaults(asked.families, asked.trainer, asked.adapt)
    if known is not None:
        try:
            warm = Controller.warm(space, known, seed=config.train.seed, advised=defaults)
            return warm, [], True
        except SpaceFault as fault:  # written by another version: a memory is a help, not a need
            log.warning("%s: the search starts cold: %s", config.name, fault)
    first = [repaired(params, space) for params in defaults]
    if config.train.tuner == Controller.kind:
        cold: Searcher = Controller(space, seed=config.train.seed)
    else:
        from models.search import catalog

        cold = catalog.searcher(config.train.tuner, space, seed=config.train.seed)
    return cold, [params for params in first if params], False


def memory(config: Config) -> dict[str, Any] | None:
    """What the last retrain's controller had learnt, whether the gate passed its model or not."""
    if config.train.tuner != Controller.kind or not config.train.remember:
        return None
    registry = places.registry(config)
    for release in sorted(registry.versions(), key=lambda r: -int(r.version)):
        path = registry.fetch_file(release.version, CONTROLLER, places.champion_folder(config))
        if path is not None:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if state.get("kind") == Controller.kind:
                return state
    return None


def curves(known: Mapping[str, Any] | None) -> list[Trial]:
    """The trials of the last search that have a learning curve: they teach what curves come to."""
    rows = [row for row in (known or {}).get("trials", ()) if row.get("curve")]
    return [trial_from_json(row) for row in rows]
