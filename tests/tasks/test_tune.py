"""What a trial fits on and is scored on, and what a resumed search believes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd

from models.records import Release, Trial
from models.search import RandomSearch, trial_to_json
from models.search.controller import Controller
from models.space import Float, Space
from tasks import fitting, runners, searchers, tune
from tasks.config import load
from tasks.fitting import Job, fit, split
from tasks.journal import Journal
from tasks.records import Snapshot
from tasks.rows import TIME


def snapshot(config, folder, rows=1_000) -> Snapshot:
    folder.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "hour": np.arange(rows, dtype=float),
            TIME: pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC"),
        }
    )
    found = Snapshot(folder, rows, 0, "digest")
    frame.to_parquet(found.training)
    return found


def narrowed(config, **changes):
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def test_trials_are_scored_on_the_newest_share(tiny_config, tmp_path):
    config = load(tiny_config)
    earlier, newest = split(Job.of(config, snapshot(config, tmp_path / "s")))
    assert (len(earlier), len(newest)) == (800, 200)
    assert earlier["hour"].max() < newest["hour"].min()
    assert TIME not in earlier


def test_a_large_table_is_sampled_from_all_of_both_parts(tiny_config, tmp_path):
    config = narrowed(load(tiny_config), trial_rows=100)
    rows = snapshot(config, tmp_path / "s")
    earlier, newest = split(Job.of(config, rows))
    assert (len(earlier), len(newest)) == (100, 50)
    assert earlier["hour"].min() < 100
    assert earlier["hour"].max() < 800 <= newest["hour"].min()
    assert newest["hour"].max() - newest["hour"].min() > 150  # not the last few rows only
    again, _ = split(Job.of(config, rows))
    assert earlier.equals(again)


def test_a_resumed_search_keeps_whole_trials_and_drops_a_torn_line(tmp_path):
    journal = Journal(tmp_path)
    line = {
        "number": 0,
        "params": {"x": 0.5},
        "status": "complete",
        "loss": 0.3,
        "seconds": 0.1,
        "seed": 0,
        "metrics": {},
        "error": "",
        "fidelity": 1.0,
        "curve": [],
        "curve_seconds": [],
        "parts": [],
    }
    text = json.dumps(line) + "\n" + '{"number": 1, "par'
    journal.path.write_text(text, encoding="utf-8")
    controller = Controller(Space((Float("x", 0.0, 1.0),)), seed=0)
    journal.replay(controller)
    assert [t.loss for t in journal.trials] == [0.3]
    assert len(controller.history) == 1
    assert journal.path.read_text(encoding="utf-8") == json.dumps(line) + "\n"


def trial(number, loss, **metrics):
    return Trial(number, {"x": number / 10}, "complete", loss, 0.1, 0, metrics)


TRIALS = [
    trial(0, 0.30, log_loss=0.3, accuracy=0.90, latency_ms=30.0),
    trial(1, 0.35, log_loss=0.35, accuracy=0.85, latency_ms=10.0),
    trial(2, 0.40, log_loss=0.4, accuracy=0.80, latency_ms=5.0),
]


class Believer(RandomSearch):
    """Believes in one trial, whatever the scores."""

    believes = 1

    def champion(self):
        return TRIALS[self.believes]


def test_the_champion_is_chosen_not_the_luckiest_score(tiny_config):
    config = load(tiny_config)
    space = Space((Float("x", 0.0, 1.0),))
    plain, believer = RandomSearch(space, seed=0), Believer(space, seed=0)
    assert tune.choose(config, plain, TRIALS)[0].number == 0
    assert tune.choose(config, believer, TRIALS)[0].number == 1
    # Ahead of what stood before by less than its own standard error: that is luck.
    level = [replace(t, parts=(t.loss - 0.2, t.loss + 0.2) * 15) for t in TRIALS]
    level[1] = replace(
        level[1],
        loss=0.29,
        parts=tuple(level[0].parts[i] - 0.2 + 0.38 * (i % 2) for i in range(30)),
    )
    chosen, why = tune.choose(config, plain, level, [TRIALS[0].params])
    assert chosen.number == 0
    assert "stood before and stays" in why
    assert tune.choose(config, plain, level)[0].number == 1


def test_a_rule_picks_and_a_limit_overrules_the_champion(tiny_config):
    space = Space((Float("x", 0.0, 1.0),))
    believer = Believer(space, seed=0)
    ruled = narrowed(load(tiny_config), pareto="best accuracy with latency_ms <= 20")
    chosen, why = tune.choose(ruled, believer, TRIALS)
    assert chosen.number == 1
    assert why.startswith("best accuracy with latency_ms <= 20")
    limited = narrowed(load(tiny_config), limits={"latency_ms": 7.0})
    told = [replace(t, loss=t.loss if t.number == 2 else 11.0) for t in TRIALS]
    assert tune.choose(limited, believer, told)[0].number == 2


def test_a_fit_out_of_memory_is_a_failed_trial(tiny_config, tmp_path, monkeypatch):
    config = load(tiny_config)
    rows = snapshot(config, tmp_path / "s")

    def hungry(*_args, **_options):
        raise MemoryError("Unable to allocate 8 PiB")

    from models import training

    frame = pd.read_csv(config.data.source)
    monkeypatch.setattr(fitting, "split", lambda *_: (frame[:400], frame[400:]))
    job = Job.of(config, rows)
    params = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    assert fit(job, params, 0).status == "complete"
    monkeypatch.setattr(training, "_fit", hungry)
    failed = fit(job, params, 0)
    assert (failed.status, failed.error) == ("failed", "MemoryError: Unable to allocate 8 PiB")


def test_trials_are_judged_by_one_metric_alone_and_only_when_asked_for(tiny_config):
    config = load(tiny_config)
    assert not config.train.judged
    assert narrowed(config, fidelity="auto").train.judged
    for more in ({"weights": {"micro": 0.1}}, {"limits": {"latency_ms": 5.0}}):
        assert not narrowed(config, fidelity="auto", **more).train.judged
    pareto = narrowed(config, fidelity="auto", pareto="best accuracy")
    assert not pareto.train.judged


def test_a_search_judges_by_the_curves_of_the_last_one(tiny_config, tmp_path, monkeypatch):
    """What ended and what was remembered when a trial is asked for reaches the trial."""
    config = narrowed(load(tiny_config), fidelity="auto")
    params = {"family": "forest", "forest.n_estimators": 80}
    curve = ((0.25, 0.011), (0.5, 0.011))
    past = [Trial(i, params, "complete", 0.01, 1.0, 0, curve=curve) for i in range(3)]
    memory = {"trials": [json.loads(json.dumps(trial_to_json(t))) for t in past]}
    earlier = searchers.curves(memory)
    assert earlier == past
    assert (
        searchers.curves(None) == searchers.curves({"trials": [trial_to_json(trial(0, 0.3))]}) == []
    )
    judges = []

    class Sent:
        def add_done_callback(self, _):
            pass

    monkeypatch.setattr(runners.trial, "submit", lambda *given: judges.append(given[-1]) or Sent())
    journal = Journal(tmp_path)
    job = Job.of(config, snapshot(config, tmp_path / "s"))
    runners.on_threads(config, job, journal, earlier)(params, 0, 9.0, print)
    journal.trials.append(trial(0, 0.01))
    runners.on_threads(config, job, journal, earlier)(params, 1, 9.0, print)
    off = narrowed(config, fidelity="off")
    runners.on_threads(off, job, journal, earlier)(params, 2, 9.0, print)
    assert judges[0].forecast([(0.25, 0.9)]) is None  # nothing of this search to beat
    assert judges[1].forecast([(0.25, 0.9)]).hopeless
    assert judges[2] is None


def test_a_search_forgets_where_it_is_told_to(tiny_config, tmp_path, monkeypatch):
    config = load(tiny_config)
    state = Controller(Space((Float("x", 0.0, 1.0),)), seed=0).state_dict()
    path = tmp_path / "controller.json"
    path.write_text(json.dumps(state), encoding="utf-8")

    class Kept:
        def versions(self):
            return [Release("tiny", "3", "", "", "")]

        def fetch_file(self, version, name, folder):
            return path

    monkeypatch.setattr(searchers.places, "registry", lambda _: Kept())
    assert tune.budget(config) == config.train.warm_trials
    assert tune.budget(narrowed(config, remember=False)) == config.train.trials
