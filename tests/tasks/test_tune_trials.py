"""The asynchronous search under a clock of its own: order, budgets, failures, restarts."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models.performance import seen
from models.performance.screen import Screen
from models.records import Trial
from models.search import RandomSearch
from models.search.controller import Controller
from models.search.cost import Left
from models.search.frontier import Frontier
from models.search.objectives import Limit, Objective
from models.search.pareto import front
from models.space import Categorical, Float, Space
from tasks.journal import ASKS, KILLED, TRIALS, Journal, ends, recorded
from tasks.trials import Limits, Search, predicted

SPACE = Space((Categorical("family", ("quick", "slow")), Float("x", 0.0, 1.0)))
LOSS = Objective("log_loss")


@dataclass
class World:
    """Trials that end when they are told to, in a time that passes only then."""

    take: dict[str, float] = field(default_factory=lambda: {"quick": 1.0, "slow": 10.0})
    stubborn: tuple[int, ...] = ()  # trials that no limit stops
    order: tuple[int, ...] = ()  # which of those that run ends next, counted by start; then by time
    now: float = 100.0
    under_way: dict[int, tuple[dict, float, float, object]] = field(default_factory=dict)

    def start(self, params, number, seconds, finished):
        self.under_way[number] = (params, self.now, seconds, finished)

    async def show(self, search):
        """End one trial, as a thread would."""
        free = [n for n in self.under_way if n not in self.stubborn]
        if not free:
            self.now += 1.0
            return
        if self.order:
            place, *rest = self.order
            self.order = tuple(rest)
            number = sorted(free)[place % len(free)]
        else:
            number = min(free, key=lambda n: self._end(*self.under_way[n][:3])[0])
        params, began, seconds, finished = self.under_way.pop(number)
        end, spent, ok = self._end(params, began, seconds)
        self.now = max(self.now, end)
        outcome = Trial(number, params, "complete", None, spent, number)
        if ok:
            loss = (params["x"] - 0.3) ** 2 + 0.1
            latency = 100.0 * params["x"] + 1.0
            metrics = {"log_loss": loss, "latency_ms": latency}
            finished(replace(outcome, loss=loss, metrics=metrics))
        else:
            finished(replace(outcome, status="failed", error="FitTimeout: stopped"))

    def _end(self, params, began, seconds):
        spent = min(self.take[params["family"]], seconds)
        return began + spent, spent, self.take[params["family"]] <= seconds


def search(folder, world, *, searcher=None, goal=LOSS, more=None, **limits):
    searcher = searcher or Controller(SPACE, seed=3)
    journal = Journal(folder)
    journal.replay(searcher)
    made = Search(
        searcher,
        goal,
        journal,
        Limits(**{"trials": 12, "seconds": 1_000.0, "parallel": 3, **limits}),
        world.start,
        seed=5,
        clock=lambda: world.now,
        tick=0.001,
        **(more or {}),
    )
    return made, asyncio.run(made.run(world.show))


@pytest.mark.parametrize("kind", [Controller, RandomSearch])
def test_the_order_of_the_ends_and_the_seed_give_the_trials(tmp_path, kind):
    order = (2, 0, 1, 1, 2, 0, 0, 2, 1, 0, 0, 0)
    runs = []
    for name, take in (("a", {"quick": 1.0, "slow": 10.0}), ("b", {"quick": 3.0, "slow": 0.5})):
        folder = tmp_path / name
        folder.mkdir()
        made, _ = search(folder, World(take=take, order=order), searcher=kind(SPACE, seed=3))
        runs.append([(t.number, dict(t.params)) for t in made.trials])
    assert runs[0] == runs[1]
    assert [number for number, _ in runs[0]] != list(range(12))  # they did not end in order


def test_each_ask_can_be_made_again_from_the_journal(tmp_path):
    search(tmp_path, World(order=(2, 1, 0, 2, 2, 1, 0, 1, 2, 1, 0, 0)))
    trials = {t.number: t for t in recorded(tmp_path)}
    asks = [json.loads(line) for line in (tmp_path / ASKS).read_text().splitlines()]
    asks = [row for row in asks if row["event"] == "asked"]
    assert len(asks) == 12
    assert max(len(row["pending"]) for row in asks) == 2
    for row in asks:
        again = Controller(SPACE, seed=3)
        for number in row["ended"]:
            again.tell(trials[number])
        pending = [trials[n].params for n in row["pending"]] + row["passed_over"]
        assert again.ask(pending, Left(*row["left"])) == row["params"]
        assert row["number"] == len(row["ended"]) + len(row["pending"])


def test_the_next_trial_starts_when_one_ends_and_not_when_all_have(tmp_path):
    made, stopped = search(tmp_path, World(), trials=10, parallel=2)
    assert stopped == "all 10 trials spent"
    slow = [t for t in made.trials if t.params["family"] == "slow"]
    quick = [t for t in made.trials if t.params["family"] == "quick"]
    assert len(slow) > 1
    assert len(quick) > 1
    work = 10.0 * len(slow) + len(quick)
    assert made.seconds <= work / 2 + 10.0  # both places were kept busy
    assert sorted(t.number for t in made.trials) == list(range(10))


@pytest.mark.parametrize("seconds", [15.0, 33.0, 47.0])
def test_the_seconds_are_kept_and_used(tmp_path, seconds):
    made, stopped = search(tmp_path, World(), trials=500, seconds=seconds, parallel=2)
    assert made.seconds <= 1.05 * seconds
    assert made.seconds >= seconds - 1.5  # quick trials are passed over to, to the end
    assert "s" in stopped
    late = [t for t in made.trials if "FitTimeout" in t.error]
    assert len(late) <= 2  # those started before anything was known of their family


def test_a_trial_that_cannot_be_stopped_is_given_up_and_nobody_waits(tmp_path):
    world = World(take={"quick": 1.0, "slow": 1.0}, stubborn=(1,))
    made, stopped = search(tmp_path, world, trials=6, seconds=60.0, parallel=2, trial_seconds=5.0)
    (given_up,) = [t for t in made.trials if t.status == "failed"]
    assert given_up.number == 1
    assert "could not be stopped" in given_up.error
    assert stopped == "all 6 trials spent"
    assert made.seconds < 20
    world = World(take={"quick": 1.0, "slow": 1.0}, stubborn=(0, 1))
    folder = tmp_path / "all"
    folder.mkdir()
    made, stopped = search(folder, world, trials=6, seconds=20.0, parallel=2)
    assert made.seconds <= 1.05 * 20.0 + 2.0  # a tick of this clock is a second
    assert {t.status for t in made.trials} == {"failed"}


def test_what_died_with_its_process_failed_and_costs_nothing_of_the_budget(tmp_path):
    class Died(Exception):
        pass

    class Mortal(World):
        async def show(self, search):
            if len(search.trials) == 4:
                raise Died
            await super().show(search)

    with pytest.raises(Died):
        search(tmp_path, Mortal(), trials=8)
    before = recorded(tmp_path)
    spent = max(ends(tmp_path).values())
    with (tmp_path / TRIALS).open("a", encoding="utf-8") as file:
        file.write('{"number": 9, "par')  # torn
    made, stopped = search(tmp_path, World(), trials=8)
    assert made.trials[:4] == before
    lost = [t for t in made.trials if t.error == KILLED]
    assert len(lost) == 3
    assert all(t.status == "failed" for t in lost)
    assert len(made.trials) == 8 + 3
    assert stopped == "all 8 trials spent"
    assert recorded(tmp_path) == made.trials
    assert made.seconds >= spent
    tried = [json.dumps(dict(t.params), sort_keys=True) for t in made.trials]
    assert len(set(tried)) == len(tried)  # what was lost is not tried again


def test_an_exhausted_space_ends_the_search(tmp_path):
    space = Space((Categorical("family", ("quick", "slow")),))

    class Flat(World):
        def start(self, params, number, seconds, finished):
            super().start({**params, "x": 0.5}, number, seconds, lambda t: finished(
                replace(t, params={"family": t.params["family"]})
            ))  # fmt: skip

    made, stopped = search(tmp_path, Flat(), searcher=RandomSearch(space, seed=0), parallel=4)
    assert len(made.trials) == 2
    assert "have been tried" in stopped


def test_trials_beyond_a_limit_are_told_behind_the_others(tmp_path):
    goal = Objective("log_loss", {"latency_ms": 0.01}, (Limit("latency_ms", 40.0),))
    made, _ = search(tmp_path, World(), goal=goal, trials=20)
    within = [t.loss for t in made.trials if t.metrics["latency_ms"] <= 40.0]
    beyond = [t.loss for t in made.trials if t.metrics["latency_ms"] > 40.0]
    assert within
    assert beyond
    assert max(within) < min(beyond)
    assert made.searcher.history[0].loss == next(t.loss for t in made.trials if t.number == 0)


def past(count: int) -> list:
    """What earlier searches have measured in this world."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        params = SPACE.decode(rng.random(2))
        metrics = {"log_loss": (params["x"] - 0.3) ** 2 + 0.1, "latency_ms": 100 * params["x"] + 1}
        found.append(Trial(number, params, "complete", 0.1, 1.0, 0, metrics))
    return seen(found, "earlier")


def test_what_past_trials_say_cannot_keep_a_limit_is_passed_over_untried(tmp_path):
    goal = Objective("log_loss", limits=(Limit("latency_ms", 15.0),))
    found = {}
    for name, known in (("alone", None), ("screened", Screen(goal, past(60)))):
        folder = tmp_path / name
        folder.mkdir()
        random = RandomSearch(SPACE, seed=1)
        more = {"screen": known}
        made, _ = search(folder, World(), searcher=random, goal=goal, more=more, trials=14)
        found[name] = [t.metrics["latency_ms"] for t in made.trials]
        assert bool(made.screened) is (known is not None)
    kept = {name: sum(ms <= 15.0 for ms in values) for name, values in found.items()}
    assert kept["screened"] > 2 * kept["alone"]
    assert len(found["screened"]) == 14  # a search goes on even where all is hopeless


def test_every_second_trial_widens_the_front_and_the_journal_tells_which(tmp_path):
    goal = Objective("log_loss", limits=(Limit("latency_ms", 90.0),))
    frontier = Frontier(SPACE, goal, seed=2, past=past(30))
    made, _ = search(tmp_path, World(), goal=goal, more={"frontier": frontier}, trials=14)
    trials = {t.number: t for t in made.trials}
    asks = [json.loads(line) for line in (tmp_path / ASKS).read_text().splitlines()]
    widening = [row for row in asks if row.get("frontier")]
    assert {row["number"] % 2 for row in widening} == {1}
    assert len(widening) >= 5
    for row in widening:
        ended = [trials[number] for number in row["ended"]]
        pending = [trials[n].params for n in row["pending"]] + row["passed_over"]
        assert frontier.propose(ended, pending) == row["params"]
    ahead = {t.number for t in front(made.trials, goal.named)}
    assert len(ahead & {row["number"] for row in widening}) >= 2


def test_the_seconds_of_earlier_searches_keep_a_trial_from_starting_too_late(tmp_path):
    goal_seconds = {"quick": 1.0, "slow": 10.0}
    more = {"expect": lambda params: goal_seconds[params["family"]]}
    made, _ = search(tmp_path, World(), trials=400, seconds=12.0, parallel=1, more=more)
    assert not [t for t in made.trials if t.status == "failed" and t.number > 1]


def test_a_trial_without_the_goals_metric_failed(tmp_path):
    made, _ = search(tmp_path, World(), goal=Objective("roc_auc"), trials=3)
    assert {t.status for t in made.trials} == {"failed"}
    assert "roc_auc" in made.trials[0].error


def test_the_prediction_is_of_the_family_and_takes_no_single_outlier():
    def told(family, seconds):
        return [Trial(i, {"family": family}, "complete", 0.1, s, 0) for i, s in enumerate(seconds)]

    trials = [*told("quick", [1.0] * 30 + [90.0]), *told("slow", [10.0])]
    assert predicted({"family": "quick"}, trials) == 1.0
    assert predicted({"family": "slow"}, trials) == 10.0
    assert predicted({"family": "new"}, trials) is None


def test_a_searcher_that_weighs_seconds_is_told_what_is_left_and_the_journal_keeps_it(tmp_path):
    told = []

    class Thrifty(RandomSearch):
        budgeted = True

        def ask(self, pending=0, left=None):
            told.append(left)
            return super().ask(pending)

    made, _ = search(tmp_path, World(), searcher=Thrifty(SPACE, seed=3), seconds=400.0)
    asks = [json.loads(line) for line in (tmp_path / ASKS).read_text().splitlines()]
    kept = [Left(*row["left"]) for row in asks if row["event"] == "asked"]
    assert len(kept) == len(made.trials) == 12
    assert set(kept) <= set(told)
    assert [left.trials for left in kept] == list(range(12, 0, -1))
    assert kept[0] == Left(400.0, 12, 1.0)
    assert all(a.seconds >= b.seconds for a, b in itertools.pairwise(kept))
    assert kept[-1].share == pytest.approx(kept[-1].seconds / 400.0, abs=1e-6)
