"""How tuners are run, kept and compared; the problems here are made up, so no extra is needed."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from models.search import RandomSearch
from models.search.proposing import Settings
from models.space import Categorical, Float, Space
from tests.benchmarks.tuner import problems, results, tables, tuners, warm
from tests.benchmarks.tuner.results import Row

SPACE = Space((Categorical("kind", ("a", "b")), Float("x", 0.0, 1.0, when=("kind", "a"))))


class Source:
    """Loss x for kind a, 0.5 for b; the noise makes some draws look better than they are."""

    def true(self, params):
        return params.get("x", 0.5)

    def noisy(self, params, rng):
        return self.true(params) + rng.normal(scale=0.05)


class Noted(Source):
    def __init__(self, asked):
        self.asked = asked

    def noisy(self, params, rng):
        self.asked.append(dict(params))
        return super().noisy(params, rng)


@pytest.fixture
def toy():
    return problems.Problem("toy-1", SPACE, 0.0, 0.5, Source())


def row(tuner, problem, seed, trial, regret, **more):
    base = Row("cold", tuner, "1", problem, seed, trial, regret, math.nan, 10.0 * trial)
    return replace(base, **more)


def test_the_lists_share_no_problem_and_dev_is_as_large_as_test():
    every = [name for each in problems.LISTS.values() for name in each]
    assert len(every) == len(set(every))
    assert len(problems.LISTS["dev"]) >= len(problems.LISTS["test"]) == 12
    with pytest.raises(SystemExit, match="no problem is called like 'nothing'"):
        problems.names("nothing")


def test_regret_is_of_the_best_noisy_loss_and_of_the_champion(toy):
    class Chooses(RandomSearch):
        def champion(self):
            return min(self.history, key=lambda t: t.params.get("x", 0.5))

    run = problems.run_one(toy, Chooses(SPACE, seed=3), 30, 3, champion_at=(10, 30))
    seen = [trial.params.get("x", 0.5) for trial in _replayed(toy, 30, 3)]
    assert run.champions[29] == pytest.approx(2 * min(seen))
    assert np.isnan(run.champions[20])
    assert run.champions[9] <= run.regrets[9] + 1e-12
    assert set(np.round(run.regrets / 2, 9)) <= set(np.round(seen, 9))
    assert (run.cpu_ms >= 0).all()


def _replayed(toy, trials, seed):
    searcher = RandomSearch(SPACE, seed=seed)
    problems.run_one(toy, searcher, trials, seed)
    return searcher.history


def test_a_run_is_made_once_and_a_longer_one_again(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    made = []

    def make(space, seed, trials):
        made.append((seed, trials))
        return RandomSearch(space, seed=seed)

    path = tmp_path / "sub" / "rows.csv"
    for trials, seeds in ((6, 2), (6, 3), (4, 3), (8, 1)):
        results.fill(path, "cold", "random", make, [toy], seeds=seeds, trials=trials)
    assert made == [(0, 6), (1, 6), (2, 6), (0, 8)]
    rows = results.read(path)
    assert len(rows) == 3 * 6 + 8
    assert {r.trial for r in results.thin(rows)} == {1, 2, 3, 4, 5, 6, 7, 8}
    spent = [r.cpu_ms for r in rows if r.seed == 1]
    assert spent == sorted(spent)


def test_a_line_cut_short_is_not_a_result(tmp_path):
    path = tmp_path / "rows.csv"
    results.append(path, [row("random", "a", 0, 1, 0.25), row("random", "a", 0, 2, 0.125)])
    path.write_text(path.read_text()[:-25])
    assert [(r.trial, r.regret) for r in results.read(path)] == [(1, 0.25)]


def test_figures_of_the_controller_are_of_todays_source_and_a_peers_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    path = tmp_path / "rows.csv"
    results.append(path, [row(t, "toy-1", 0, 9, 0.1) for t in ("controller", "tpe")])
    toy = problems.Problem("toy-1", SPACE, 0.0, 0.5, Source())
    left = {t: list(results.missing(path, "cold", t, [toy], seeds=1, trials=9))
            for t in ("controller", "tpe")}  # fmt: skip
    assert left == {"controller": [(0, toy)], "tpe": []}


def test_a_table_means_over_problems_and_tests_in_pairs():
    rng = np.random.default_rng(0)
    rows = []
    for p, level in (("a", 0.1), ("b", 0.3)):
        for seed in range(10):
            rows.append(row("controller", p, seed, 25, level + rng.uniform(0, 0.01)))
            rows.append(row("tpe", p, seed, 25, level + 0.05 + rng.uniform(0, 0.01)))
    rows += [row("gp", "a", seed, 25, 0.1) for seed in range(3)]  # not on every problem
    rows.insert(0, row("tpe", "a", 0, 25, 9.0, version="0"))  # of an older release
    found = {r["tuner"]: r for r in tables.table(rows, ["a", "b"], marks=(25, 50))}
    assert found["controller"]["regret"] == pytest.approx(0.205, abs=0.003)
    assert found["tpe"]["gain"] == pytest.approx(-0.05, abs=0.004)
    assert found["tpe"]["p"] < 1e-4
    assert found["tpe"]["pairs"] == 20
    assert (found["controller"]["rank"], found["tpe"]["rank"], found["gp"]["rank"]) == (1, 2, None)
    assert found["gp"]["pairs"] == 3
    assert found["tpe"]["cpu_ms"] == pytest.approx(10.0)


def test_what_a_tuner_would_choose_counts_only_when_asked_for():
    rows = [row("controller", "a", s, 25, 0.4, champion=0.1) for s in range(3)]
    by = {
        b: tables.table(rows, ["a"], marks=(25,), by=b)[0]["regret"] for b in ("best", "champion")
    }
    assert by == {"best": pytest.approx(0.4), "champion": pytest.approx(0.1)}


def test_a_moved_task_is_like_the_task_and_a_turned_one_is_not(toy):
    rng = np.random.default_rng(5)
    draws = [{"kind": "a", "x": float(x)} for x in rng.uniform(size=200)]
    true = [toy.true(p) for p in draws]
    moved = [_rank(true, [m.true(p) for p in draws]) for m in warm.earlier(toy, "shifted", 0)]
    assert len(moved) == warm.EARLIER
    assert np.mean(moved) > 0.6
    again = warm.earlier(toy, "shifted", 0)[0].true(draws[0])
    assert again == warm.earlier(toy, "shifted", 0)[0].true(draws[0])
    assert again != warm.earlier(toy, "shifted", 1)[0].true(draws[0])
    turned = warm.Turned(toy, np.array([0.0, 0.5]))
    assert turned.turn({"kind": "a", "x": 0.9}) == {"kind": "a", "x": pytest.approx(0.4)}


def test_a_search_after_longer_earlier_ones_is_kept_apart(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    path = tmp_path / "rows.csv"
    wanted = {"settings": Settings(predictor=False, steps=0), "seeds": 1, "trials": 2}
    for earlier in (warm.TRIALS, 5, 5):
        results.fill_warm(path, "shifted", "controller", [toy], earlier=earlier, **wanted)
    rows = results.read(path)
    assert [r.mode for r in rows] == ["shifted", "shifted", "shifted-5", "shifted-5"]
    found = {r["tuner"] for r in tables.table(rows, ["toy-1"], marks=(2,))}
    assert found == {"controller shifted", "controller shifted-5"}
    few = warm.memory(toy, "shifted", 0, wanted["settings"], trials=5)
    assert len(few["evidence"]) == warm.EARLIER * 5


def _rank(a, b):
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("word", ["tpe", "gp", "nsga-ii", "random"])
def test_tuners_set_active_parameters_only(toy, word):
    pytest.importorskip("optuna")
    searcher = tuners.tuner(word)(SPACE, 0, 12)
    asked = []
    noted = replace(toy, source=Noted(asked))
    problems.run_one(noted, searcher, 12, 0)
    for params in asked:
        SPACE.validate(params)
    assert {params["kind"] for params in asked} == {"a", "b"}


def test_settings_by_word_and_what_is_none():
    name = fields(Settings)[0].name
    assert getattr(tuners.settings_of(f"controller:{name}=3"), name) == 3
    with pytest.raises(SystemExit, match="got \\['speed'\\]"):
        tuners.tuner("controller:speed=1")
    with pytest.raises(SystemExit, match="no tuner is called 'grit'"):
        tuners.tuner("grit")
