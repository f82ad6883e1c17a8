"""What starts trials elsewhere and looks after them, with nodes that do as the test tells them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models.records import Trial
from models.search import RandomSearch
from models.search.objectives import Objective
from models.space import Float, Space
from tasks import runners
from tasks.cluster.node import trial as node_trial
from tasks.cluster.remote import Nodes, Remote
from tasks.cluster.store import Ask, ClusterFault, Mark, Store, read, write
from tasks.config import ConfigFault, load
from tasks.fitting import Job
from tasks.journal import KILLED, Journal, recorded
from tasks.records import Snapshot
from tasks.trials import Limits, Search

SPACE = Space((Float("x", 0.0, 1.0),))


class Sent:
    """A future that ends when the test says so."""

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self.told: list[Any] = []

    def result(self, timeout: float | None = None) -> int:
        if self.fault is not None:
            raise self.fault
        return 0

    def add_done_callback(self, callback: Any) -> None:
        self.told.append(callback)

    def end(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        for callback in self.told:
            callback(self)


class World(Nodes):
    """Nodes whose trials end at once, but for those that the test keeps."""

    def __init__(self, folder: Path, kept: dict[int, int] | None = None) -> None:
        self.store = Store(folder)
        self.store.folder.mkdir(parents=True)
        self.kept = kept or {}  # trial -> how many of its tries do not end by themselves
        self.sent: dict[tuple[int, int], Sent] = {}
        self.stopped: list[Any] = []
        self.lost = ""

    def gone(self) -> str:
        return self.lost

    def submit(self, number: int, attempt: int) -> Sent:
        assert self.store.result(number) is None, "what has ended is not tried again"
        sent = self.sent[number, attempt] = Sent()
        if attempt >= self.kept.get(number, 0):
            self.store.put_result(done(self.store, number))
            asyncio.get_running_loop().call_soon(sent.end)
        return sent

    def stop(self, future: Any, mark: Mark | None) -> None:
        self.stopped.append(future)

    def beat(self, number: int, attempt: int, count: int) -> None:
        mark = Mark(attempt, "other", 1, count)
        write(self.store._of(number) / "beat.json", asdict(mark))


def done(store: Store, number: int) -> Trial:
    x = store.ask(number).params["x"]
    return Trial(number, {"x": x}, "complete", x, 1.0, number, {"log_loss": x})


def searched(world: World, act: Any = None, **limits: Any) -> Search:
    """A search on the world's nodes; `act` is called after each turn of it."""
    folder = world.store.retrain
    searcher, journal = RandomSearch(SPACE, seed=1), Journal(folder)
    recovered = runners.recovered(journal)
    journal.replay(searcher, {trial.number for trial in recovered})

    async def run() -> Search:
        remote = Remote(world, world.store, journal, 0, silent=0.3)
        goal = Objective("log_loss")
        bounds = Limits(**{"trials": 6, "seconds": 60.0, "parallel": 2, **limits})
        search = Search(
            searcher, goal, journal, bounds, remote.start, seed=0, care=remote,
            recovered=recovered, tick=0.02,
        )  # fmt: skip

        async def show(_: Search) -> None:
            if act is not None:
                act(world)

        await search.run(show)
        return search

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.cluster.remote._PAUSES", (0.01,))
    monkeypatch.setattr("tasks.cluster.remote._LOOK", 0.01)


def test_a_lost_node_costs_a_try_and_no_trial(tmp_path: Path) -> None:
    def act(world: World) -> None:
        if (sent := world.sent.get((2, 0))) is not None and sent.fault is None:
            sent.end(ConnectionError("the node is gone"))

    search = searched(World(tmp_path, {2: 1}), act)
    assert sorted(t.number for t in search.trials) == list(range(6))
    assert {t.status for t in search.trials} == {"complete"}


def test_a_trial_that_takes_every_node_down_is_a_failed_one(tmp_path: Path) -> None:
    def act(world: World) -> None:
        for (number, _), sent in world.sent.items():
            if number == 2 and sent.fault is None:
                sent.end(ConnectionError("the node is gone"))

    world = World(tmp_path, {2: 9})
    search = searched(world, act)
    (failed,) = [t for t in search.trials if t.status == "failed"]
    assert failed.number == 2
    assert "lost 3 times" in failed.error
    assert "the node is gone" in failed.error
    assert sorted(t.number for t in search.trials) == list(range(6))  # it costs its place
    assert {attempt for number, attempt in world.sent if number == 2} == {0, 1, 2}


def test_a_silent_node_is_lost_and_one_that_beats_is_waited_for(tmp_path: Path) -> None:
    turns = 0

    def act(world: World) -> None:
        nonlocal turns
        turns += 1
        if (0, 0) in world.sent and turns < 40:  # a long trial, with signs of life
            world.beat(0, 0, turns)
        if (0, 0) in world.sent and turns == 40:
            world.store.put_result(done(world.store, 0))
        if (1, 0) in world.sent and (1, 1) not in world.sent and turns == 1:
            world.beat(1, 0, 0)  # one sign, and none after it

    world = World(tmp_path, {0: 1, 1: 1})
    search = searched(world, act)
    assert {t.status for t in search.trials} == {"complete"}
    assert (1, 1) in world.sent
    assert (0, 1) not in world.sent
    assert world.stopped == [world.sent[1, 0]]


def test_a_record_counts_though_the_scheduler_never_says_so(tmp_path: Path) -> None:
    def act(world: World) -> None:
        if (3, 0) in world.sent and world.store.result(3) is None:
            world.store.put_result(done(world.store, 3))

    search = searched(World(tmp_path, {3: 1}), act)
    assert {t.status for t in search.trials} == {"complete"}


def test_a_trial_waits_for_a_node_untimed_and_the_search_ends_in_time(tmp_path: Path) -> None:
    world = World(tmp_path, {0: 1})
    search = searched(world, trials=2, seconds=1.0, parallel=2, trial_seconds=0.2)
    (late,) = [t for t in search.trials if t.status == "failed"]
    assert late.number == 0
    assert late.seconds > 0.9  # not at its own limit, which counts from when it runs
    assert search.seconds < 1.5
    assert world.stopped == [world.sent[0, 0]]


def test_a_node_that_lacks_something_ends_the_search_and_the_next_goes_on(tmp_path: Path) -> None:
    def act(world: World) -> None:
        if (sent := world.sent.get((3, 0))) is not None:
            sent.end(ClusterFault("mount it"))

    world = World(tmp_path, {3: 1})
    with pytest.raises(ClusterFault, match="mount it"):
        searched(world, act)
    finished = recorded(tmp_path)
    assert {0, 1, 2} >= {t.number for t in finished}
    lost = Journal(tmp_path).unended()
    assert 3 in lost
    # what a node had finished meanwhile is no loss
    world.store.put_result(done(world.store, 3))
    again = searched(world)
    assert KILLED not in [t.error for t in again.trials if t.number == 3]
    assert sorted(t.number for t in again.trials) == list(range(again.allowed))
    assert again.allowed == 6 + len([t for t in again.trials if t.error == KILLED])
    assert [t for t in again.trials if t in finished] == finished


def test_a_lost_scheduler_ends_the_search_and_is_no_trials_fault(tmp_path: Path) -> None:
    def act(world: World) -> None:
        if (sent := world.sent.get((3, 0))) is not None:
            world.lost = "the scheduler is gone"
            sent.end(ConnectionError("cancelled"))

    with pytest.raises(ClusterFault, match="the scheduler is gone"):
        searched(World(tmp_path, {3: 1}), act)
    assert {t.status for t in recorded(tmp_path)} == {"complete"}


def test_a_record_is_whole_or_absent_and_tells_exactly_what_was_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.folder.mkdir()
    params = {"family": "hgb", "hgb.learning_rate": 0.1 + 0.2, "hgb.max_iter": 7}
    store.put_ask(Ask(4, params, 3.5, judged=2))
    assert store.ask(4) == Ask(4, params, 3.5, judged=2)
    trial = Trial(
        4, params, "stopped", 0.1 + 0.2, 1.5, 9, {"x": 1e-300}, "why", 0.5, ((0.5, 0.3),), (1.0,)
    )
    store.put_result(trial)
    assert store.result(4) == trial
    path = store._of(4) / "trial.json"
    path.write_text(path.read_text()[:-9])
    assert store.result(4) is None
    assert read(tmp_path / "nothing") is None
    with pytest.raises(ClusterFault, match=r"has no ask\.json"):
        store.ask(5)


def test_a_node_reads_its_trial_and_writes_it_back(tiny_config: Path, tmp_path: Path) -> None:
    import pandas as pd

    from tasks.rows import TIME

    config = load(tiny_config)
    snapshot = Snapshot(tmp_path / "retrain", 600, 0, "digest")
    snapshot.folder.mkdir()
    frame = pd.read_csv(config.data.source)
    frame.assign(**{TIME: pd.to_datetime(frame["due"])}).to_parquet(snapshot.training)
    store, job = Store(snapshot.folder), Job.of(config, snapshot)
    store.open(job, "token", [])
    params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    store.put_ask(Ask(0, params, 20.0))
    assert node_trial.fn(str(snapshot.folder), "token", 0, 0) == 0
    found = store.result(0)
    assert found is not None
    assert found.status == "complete"
    assert store.mark(0).pid > 0
    with pytest.raises(ClusterFault, match=r"sees an older search there.*mount"):
        node_trial.fn(str(snapshot.folder), "another", 0, 0)
    snapshot.training.unlink()
    with pytest.raises(ClusterFault, match="see the training rows"):
        node_trial.fn(str(snapshot.folder), "token", 0, 0)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"runner": "threads", "cluster": "tcp://head:8786"}, "set train.runner to ray or dask"),
        ({"runner": "dask", "cluster": "ray://head:10001"}, "write it as tcp://head:8786"),
        ({"runner": "ray", "cluster": "auto"}, "write it as ray://head:10001"),
        ({"runner": "rays"}, "did you mean 'ray'"),
    ],
)
def test_a_cluster_that_does_not_suit_the_runner_is_refused(tiny_config, train, told) -> None:
    with pytest.raises(ConfigFault, match=told):
        load(tiny_config, **{f"train__{key}": value for key, value in train.items()})
    assert load(tiny_config, train__runner="dask", train__cluster="tls://[::1]:8786")
    assert load(tiny_config, train__runner="ray", train__cluster="head.example:6379")
