"""Trials on processes, Ray and Dask: the same trials as on threads, wherever they run."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.search.controller import Controller
from models.search.cost import Left
from tasks.cluster.extras import lacking
from tasks.cluster.store import ClusterFault, Store
from tasks.config import load
from tasks.journal import ASKS, KILLED, recorded
from tests.engines import clusters

if TYPE_CHECKING:
    from models.records import Trial
    from tasks.config import Config

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(400)]

NOW = datetime(2013, 1, 7, 6, tzinfo=UTC)
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@pytest.fixture
def configured(tiny_config: Path) -> Callable[..., Config]:
    """`configured(runner=..., ...)`: the tiny config with other keys of its train section."""

    def make(**train: Any) -> Config:
        if lack := lacking(str(train.get("runner"))):
            pytest.skip(lack)
        given = {"trials": 6, "seconds": 3600.0, "families": ["logistic", "hgb"], **train}
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


TRAINER = """
import os, time
from sklearn.linear_model import LogisticRegression
from models.space import Float, Space

class Trainer:
    space = Space((Float("C", 0.01, 10.0, log=True),))

    def fit(self, X, y, params, seed):
        {body}
        return LogisticRegression(C=params["C"]).fit(X, y)

trainer = Trainer()
"""


def trained(folder: Path, body: str) -> dict[str, Any]:
    """Keys for the train section: a trainer of one's own, in a file that nothing else imports."""
    name = f"trainer_{uuid.uuid4().hex}"
    (folder / f"{name}.py").write_text(TRAINER.format(body=body), encoding="utf-8")
    return {"families": ["custom"], "trainer": f"{name}:trainer"}


def asked_again(folder: Path, config: Config) -> None:
    """Each ask of the journal, made again from what had ended and what was under way then."""
    from models import families

    trials = {t.number: t for t in recorded(folder)}
    asks = [json.loads(line) for line in (folder / ASKS).read_text().splitlines()]
    asks = [row for row in asks if row["event"] == "asked"]
    train = config.train
    first = len(families.defaults(train.families, train.trainer))
    space = families.space(train.families, train.trainer)
    for row in asks[first:]:
        again = Controller(space, seed=train.seed)
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


HOSTILE = """if seed == 2: os.kill(os.getpid(), 9)
        if seed == 4: time.sleep(60)  # in C: no limit reaches it"""


@pytest.mark.parametrize("runner", ["processes", "dask", "ray"])
def test_a_trial_that_kills_its_process_or_cannot_be_stopped_is_a_failed_one(
    configured, tmp_path, runner
) -> None:
    train = trained(tmp_path, HOSTILE)
    config = configured(runner=runner, parallel=2, trials=8, trial_seconds=4.0, **train)
    trials = {t.number: t for t in searched(config, tmp_path / "search")}
    assert sorted(trials) == list(range(8))
    assert {n for n, t in trials.items() if t.status == "failed"} == {2, 4}
    assert "could not be stopped" in trials[4].error
    tries = "" if runner == "processes" else "its node was lost 3 times"
    assert tries in trials[2].error
    asked_again(tmp_path / "search", config)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_node_killed_while_its_trial_runs_loses_nothing(
    configured, tmp_path, monkeypatch, runner
) -> None:
    monkeypatch.setattr("tasks.cluster.remote.SILENT", 6.0)
    train = trained(tmp_path, "time.sleep(1.5)")
    folder = tmp_path / "search"
    with getattr(clusters, runner)(2) as cluster:
        config = configured(
            runner=runner, cluster=cluster.address, parallel=2, trials=8, warm_trials=8, **train
        )
        killed: dict[str, Any] = {}

        async def killing() -> None:
            """As soon as the third trial runs, its node is no more."""
            store = Store(folder)
            while (mark := store.mark(2)) is None:
                await asyncio.sleep(0.02)
            (node,) = [node for node in cluster.nodes if mark.pid in node.pids()]
            killed["finished"] = [told(t) for t in recorded(folder)]
            node.kill()
            killed["at"] = time.monotonic()

        async def both() -> None:
            from flows.tune import tune_only

            await asyncio.gather(tune_only(config, folder, NOW), killing())

        asyncio.run(both())
        trials = recorded(folder)
    assert {t.status for t in trials} == {"complete"}, [t.error for t in trials]
    assert sorted(t.number for t in trials) == list(range(8))  # the budget, no more and no less
    finished = killed["finished"]
    assert [told(t) for t in trials][: len(finished)] == finished
    assert 2 not in [row["number"] for row in finished]
    asked_again(folder, config)


CHILD = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from deployments import environment
environment.prepare()
from tasks.config import load
from flows.tune import tune_only

if __name__ == "__main__":
    train = {f"train__{k}": v for k, v in (p.split("=") for p in sys.argv[3:])}
    config = load(sys.argv[1], **train)
    asyncio.run(tune_only(config, Path(sys.argv[2]), datetime(2013, 1, 7, 6, tzinfo=UTC)))
"""


@pytest.mark.parametrize("runner", ["processes", "dask", "ray"])
def test_what_was_started_here_ends_with_the_search_however_that_ends(
    configured, tiny_config, tmp_path, runner
) -> None:
    from prefect.settings import PREFECT_API_URL

    configured(runner=runner)  # skips what is not installed
    folder, child = tmp_path / "search", tmp_path / "child.py"
    child.write_text(CHILD, encoding="utf-8")
    train = {**trained(tmp_path, "time.sleep(2)"), "runner": runner, "trials": 6, "parallel": 2}
    told_trainer = train.pop("trainer")
    train.pop("families")
    text = tiny_config.read_text(encoding="utf-8")
    tiny_config.write_text(
        text.replace("families: [logistic]", f"families: [custom]\n  trainer: {told_trainer}", 1)
    )
    node = clusters.start(
        [sys.executable, str(child), str(tiny_config), str(folder)]
        + [f"{key}={value}" for key, value in train.items()],
        PREFECT_API_URL=str(PREFECT_API_URL.value()),
        PYTHONPATH=str(clusters.ROOT),
    )
    store = Store(folder)
    clusters.until(lambda: len(recorded(folder)) >= 1 and store.mark(2) is not None, node, 200)
    pids = set(node.pids())
    finished = recorded(folder)
    assert len(pids) > 2
    node.process.kill()  # the search alone: nobody tells the others
    node.process.wait()
    clusters.until(lambda: not [pid for pid in pids if alive(pid)], seconds=60.0)
    node.log.unlink()
    config = load(tiny_config, train__trials=6, train__parallel=2)
    trials = searched(config, folder)
    assert trials[: len(finished)] == finished
    killed = [t for t in trials if t.error == KILLED]
    assert len(killed) <= 2
    assert len(trials) == 6 + len(killed)


def alive(pid: int) -> bool:
    """But for two agents of Ray, which do no trials, and notice in about a minute."""
    try:
        if Path(f"/proc/{pid}/cmdline").read_text().startswith(AGENTS):
            return False
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_a_node_lacks_ends_the_search_and_says_so(configured, tmp_path, monkeypatch) -> None:
    with clusters.dask(1) as cluster:
        here = configured(runner="dask", cluster=cluster.address)
        monkeypatch.setattr("tasks.runners.PREFECT_API_URL", Url("http://127.0.0.1:9/api"))
        with pytest.raises(ClusterFault, match=r"does not reach http://127\.0\.0\.1:9/api"):
            searched(here, tmp_path / "api")
        monkeypatch.undo()
        monkeypatch.setattr(Store, "open", lambda *_: None)  # as a folder that is not shared
        with pytest.raises(ClusterFault, match=r"must see the folder.*mount"):
            searched(here, tmp_path / "folder")
        monkeypatch.undo()
    with pytest.raises(ClusterFault, match="does not answer"):
        searched(here, tmp_path / "scheduler")


def test_a_lost_scheduler_ends_the_search_and_keeps_what_had_finished(configured, tmp_path) -> None:
    folder = tmp_path / "search"
    with clusters.dask(2) as cluster:
        given = trained(tmp_path, "time.sleep(1)")
        config = configured(runner="dask", cluster=cluster.address, parallel=2, trials=30, **given)

        async def both() -> None:
            from flows.tune import tune_only

            search = asyncio.create_task(tune_only(config, folder, NOW))
            while len(recorded(folder)) < 3 and not search.done():
                await asyncio.sleep(0.05)
            cluster.head.kill()
            await search

        with pytest.raises(ClusterFault, match="is gone"):
            asyncio.run(both())
    trials = recorded(folder)
    assert 3 <= len(trials) < 30
    assert {t.status for t in trials} == {"complete"}


class Url:
    def __init__(self, url: str) -> None:
        self.value = lambda: url
