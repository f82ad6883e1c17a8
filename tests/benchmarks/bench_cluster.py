"""Trials on threads, processes, Dask and Ray: speed-up by workers, and what a trial costs besides.

    everfit bench cluster [--runners dask,ray] [--workers 1,2,4,8] [--work sleep,fit] [--json PATH]

Each row is one search of random configurations, in a flow, beside a real Prefect server. `start_s`
is what the cluster takes before the search begins. `overhead_ms` is worker time a trial beyond its
work: workers x seconds / trials - work. Work is a sleep of fixed length, which needs no core, or a
real fit of boosted trees, which needs one: its speed-up ends where the cores do, and the seconds of
a fit are those with one worker on threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command

RUNNERS = ("threads", "processes", "dask", "ray")
TRAINER = """
import time
from sklearn.linear_model import LogisticRegression
from models.space import Float, Space

class Trainer:
    space = Space((Float("C", 0.01, 10.0, log=True),))

    def fit(self, X, y, params, seed):
        time.sleep({seconds})
        return LogisticRegression(C=params["C"]).fit(X, y)

trainer = Trainer()
"""
CONFIG = """\
name: cluster
data: {source: rows.csv, target: y, columns: {a: number, b: number, c: number}, classes: [0, 1]}
train: {families: [logistic], tuner: random, seconds: 3600}
"""


def rows(folder: Path, count: int) -> Path:
    """A table on which fits take their time; the config beside it."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(count, 3)), columns=["a", "b", "c"])
    odds = frame["a"] * frame["b"] + np.sin(3 * frame["c"])
    frame["y"] = (odds + rng.normal(size=count) > 0).astype(int)
    frame.to_csv(folder / "rows.csv", index=False)
    path = folder / "cluster.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def searched(path: Path, out: Path, runner: str, workers: int, train: dict[str, Any]) -> Any:
    """(what the search found, seconds of it, seconds of all)."""
    from flows.tune import tune_only
    from tasks.config import load

    given = {**train, "runner": runner, "parallel": workers}
    config = load(path, **{f"train__{key}": value for key, value in given.items()})
    began = time.perf_counter()
    tuned = asyncio.run(tune_only(config, out))
    return tuned, tuned.wall_seconds, time.perf_counter() - began


def optuna_threads(seconds: float, workers: int, trials: int) -> float:
    """Seconds of Optuna's own parallel run, on threads with storage in memory."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        time.sleep(seconds)
        return trial.suggest_float("C", 0.01, 10.0, log=True)

    began = time.perf_counter()
    study.optimize(objective, n_trials=trials, n_jobs=workers)
    return time.perf_counter() - began


@click.command(cls=Command)
@click.option("--runners", default=",".join(RUNNERS), show_default=True)
@click.option("--workers", default="1,2,4", show_default=True)
@click.option("--work", default="sleep,fit", show_default=True)
@click.option("--trials", default=16, show_default=True, help="A worker has at least four.")
@click.option("--seconds", default=1.0, show_default=True, help="Of a trial that sleeps.")
@click.option("--rows", "count", default=60_000, show_default=True, help="That a fit learns from.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    runners: str,
    workers: str,
    work: str,
    trials: int,
    seconds: float,
    count: int,
    json_path: Path | None,
) -> None:
    """Speed-up, efficiency and overhead a trial of each runner."""
    from deployments import environment
    from deployments.commands.bench import show, write
    from deployments.stack import prefect_server

    environment.prepare()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="everfit-cluster-") as place:
        folder = Path(place)
        path = rows(folder, count)
        (folder / "sleeping_trainer.py").write_text(TRAINER.format(seconds=seconds))
        with prefect_server(folder / "prefect"):
            for kind in work.split(","):
                single: float | None = None  # of a fit
                for runner in runners.split(","):
                    base: float | None = None
                    for number in map(int, workers.split(",")):
                        budget = max(trials, 4 * number)
                        train = _train(kind, budget)
                        out = folder / f"{kind}-{runner}-{number}"
                        tuned, spent, whole = searched(path, out, runner, number, train)
                        each = seconds if kind == "sleep" else tuned.seconds / tuned.trials
                        single = single or each
                        each = seconds if kind == "sleep" else single
                        found.append(_row(kind, runner, number, budget, spent, each, base))
                        found[-1]["start_s"] = round(whole - spent, 1)
                        found[-1]["failed"] = tuned.failed
                        base = base or number * spent / budget
                        found[-1].setdefault("base", base)
                        click.echo(_said(found[-1]), err=True)
                if kind == "sleep":
                    base = None
                    for number in map(int, workers.split(",")):
                        budget = max(trials, 4 * number)
                        spent = optuna_threads(seconds, number, budget)
                        found.append(
                            _row(kind, "optuna n_jobs", number, budget, spent, seconds, base)
                        )
                        base = base or number * spent / budget
    for row in found:
        row.pop("base", None)
    click.echo(
        f"{os.cpu_count()} cores; load: of the machine in the last minute, all else included"
    )
    show(found)
    if json_path is not None:
        write(found, json_path)


def _train(kind: str, budget: int) -> dict[str, Any]:
    if kind == "sleep":
        return {"trials": budget, "families": ["custom"], "trainer": "sleeping_trainer:trainer"}
    narrow = {"hgb.max_iter": {"low": 150, "high": 151}}
    return {"trials": budget, "families": ["hgb"], "space": narrow}


def _row(
    kind: str, runner: str, number: int, budget: int, spent: float, each: float, base: float | None
) -> dict[str, Any]:
    """base: seconds a trial with one worker."""
    share = base if base is not None else number * spent / budget
    speed = budget * share / spent
    return {
        "work": kind,
        "runner": runner,
        "workers": number,
        "trials": budget,
        "seconds": round(spent, 2),
        "speed_up": round(speed, 2),
        "efficiency": f"{speed / number:.0%}",
        "overhead_ms": round(1_000 * (number * spent / budget - each)),
        "load": round(os.getloadavg()[0], 1),
    }


def _said(row: dict[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in row.items() if key != "base")


if __name__ == "__main__":
    sys.exit(command())
