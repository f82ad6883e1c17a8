"""Trials on processes, Ray and Dask: the same trials as on threads, wherever they run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.search.controller import Controller
from models.search.cost import Left
from tasks.cluster.extras import lacking
from tasks.config import load
from tasks.journal import ASKS, recorded

if TYPE_CHECKING:
    from models.records import Trial
    from tasks.config import Config

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

NOW = datetime(2013, 1, 7, 6, tzinfo=UTC)
TIMED = ("latency", "throughput", "cpu", "memory", "_s", "cost", "fit")


@pytest.fixture
def configured(tiny_config: Path) -> Callable[..., Config]:
    """`configured(runner=..., ...)`: the tiny config with other keys of its train section."""

    def make(**train: Any) -> Config:
        if lack := lacking(str(train.get("runner"))):
            pytest.skip(lack)
        given = {"trials": 6, "seconds": 600.0, "families": ["logistic", "hgb"], **train}
        return load(tiny_config, **{f"train__{key}": value for key, value in given.items()})

    return make


def searched(config: Config, folder: Path) -> list[Trial]:
    from flows.tune import tune_only

    asyncio.run(tune_only(config, folder, NOW))
    return recorded(folder)


def told(trial: Trial) -> dict[str, Any]:
    """All of a trial but what a clock has measured."""
    row = asdict(trial)
    kept = {"number", "params", "status", "loss", "seed", "fidelity"}
    metrics = {k: v for k, v in row["metrics"].items() if k in ("log_loss", "error", "roc_auc")}
    return {**{key: row[key] for key in kept}, "metrics": metrics}


def asked_again(folder: Path, config: Config) -> None:
    """Each ask of the journal, made again from what had ended and what was under way then."""
    from models import families

    trials = {t.number: t for t in recorded(folder)}
    asks = [json.loads(line) for line in (folder / ASKS).read_text().splitlines()]
    asks = [row for row in asks if row["event"] == "asked"]
    first = len(families.defaults(config.train.families, None))
    space = families.space(config.train.families, None)
    for row in asks[first:]:
        again = Controller(space, seed=config.train.seed)
        for number in row["ended"]:
            again.tell(trials[number])
        pending = [trials[n].params for n in row["pending"]] + row["passed_over"]
        assert again.ask(pending, Left(*row["left"])) == row["params"]
        assert row["number"] == len(row["ended"]) + len(row["pending"])


@pytest.mark.parametrize("runner", ["processes", "dask", "ray"])
def test_every_runner_gives_the_trials_of_threads(configured, tmp_path, runner) -> None:
    here = searched(configured(parallel=1, runner="threads"), tmp_path / "threads")
    there = searched(configured(parallel=1, runner=runner), tmp_path / runner)
    assert [told(t) for t in there] == [told(t) for t in here]
    assert len(here) == 6
    assert {t.status for t in here} == {"complete"}
    assert not (tmp_path / runner / "cluster").exists()
