"""The benchmarks of fronts and of the predictor, small: their tables follow from their trials."""

from __future__ import annotations

import numpy as np

from models.performance import Seen
from tests.benchmarks.objectives import fronts, tables
from tests.benchmarks.predictor import figures
from tests.benchmarks.predictor.measured import Measured


def measured(count: int) -> list[Seen]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        trees = int(rng.integers(20, 400))
        told = {"latency_ms": 0.01 * trees * float(rng.lognormal(sigma=0.02)), "log_loss": 0.4}
        found.append(
            Seen(
                {"family": "hgb", "hgb.max_iter": trees},
                (1_000, 2_000)[number % 2],
                "bench",
                True,
                told,
            )
        )
    return found


def test_the_predictors_table_holds_it_against_the_median_of_the_family():
    trials = measured(60)
    rows = {(r["figure"], r["learnt"]): r for r in figures.table(trials, [16, 40, 99], 2)}
    assert set(rows) == {(name, n) for name in ("latency_ms", "log_loss") for n in (16, 40)}
    row = rows["latency_ms", 40]
    ours, family = (float(row[name].split("%")[0]) for name in ("chosen", "family"))
    assert ours < 5
    assert family > 20
    beyond = {row["figure"]: row for row in figures.beyond(trials, 2)}
    assert beyond["latency_ms"]["foretold on rows"] == "2,000"
    assert float(beyond["latency_ms"]["median error"].split("%")[0]) < 8
    (floor, _) = figures.floor(Measured("x", trials, trials[:5]))
    assert floor == {"figure": "latency_ms", "measured twice": 5, "apart by": "0.0%"}


def test_a_front_grows_with_its_trials_up_to_the_best_that_is_known(monkeypatch):
    monkeypatch.setattr(fronts, "_TREES", 4)
    names = ("everfit, a rule and the front", "Optuna NSGA-II", "random")
    monkeypatch.setattr(fronts, "ARMS", {name: fronts.ARMS[name] for name in names})
    fronts.world.cache_clear()
    rows = fronts.run((4, 9), 2)
    fronts.world.cache_clear()
    assert [row["search by"] for row in rows] == [*names, *names]
    for row in rows:
        few, many = (float(row[f"volume at {mark}"].split()[0]) for mark in (4, 9))
        assert 0 <= few <= many <= 1


def test_changes_are_paired_by_seed_and_efforts_are_factors():
    def one(arm, seed, loss, size):
        values = {"log_loss": loss, "bundle_mb": size}
        return tables.Figures(arm, seed, "hgb", "", "", values)

    found = [one("one metric", s, 0.5 + s, 4.0) for s in range(3)]
    found += [one("front", s, 0.51 + s, 1.0) for s in range(3)]
    (row,) = tables.changes(found)
    assert row["log loss"].startswith("+0.01")
    assert row["model MB"] == "x 0.25"
    means = tables.means(found)
    assert means[0]["chose"] == "hgb 3"
    assert means[1]["model MB"] == "1"
