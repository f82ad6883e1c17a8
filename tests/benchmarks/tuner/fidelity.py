"""Does stopping hopeless trials pay: the same search with it and without, pair by pair.

Real tables are fitted by everfit's own families and trials; time is the CPU of this process, the
searcher's included, so that what else runs on the machine does not count. Recorded curves are of
such fits (curves.jsonl.gz: random configurations of three families on 10,000 rows or fewer of six
tables): what the searcher asks for is answered by the nearest one not yet asked for. LCBench's
networks are replayed epoch by epoch from the surrogates that the tuning problems come with; time is
what their training is said to take. A pair has the problem and the seed in common; its difference
is taken in percent of the loss without stopping, after the same number of trials and after the same
seconds, which are given or are what the search without stopping took for its trials.
"""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import families
from models.records import Params, Trial
from models.search.base import Searcher
from models.search.controller import Controller
from models.search.fidelity import Judge
from models.search.reward import loss_of
from models.space import Space
from models.training import Split, evaluate_trial, prepare

REAL = ("flights", "elec2", "noaa", "adult")
RECORDED = Path(__file__).with_name("curves.jsonl.gz")
TABLES = ("spambase", "noaa", "elec2", "satimage", "adult", "flights")  # of the recorded fits
EPOCHS = 52  # of LCBench
SHARES = (1 / 8, 1 / 4, 1 / 2)
_VALIDATION = 0.2

# (params, number, judge or None) -> trial, whose seconds are those that count
Evaluate = Callable[[Params, int, "Judge | None"], Trial]


@dataclass(frozen=True)
class Task:
    """A space, what is tried first, and how a trial is made in it."""

    name: str
    space: Space
    known: tuple[Params, ...]
    evaluate: Callable[[int], Evaluate]  # by the run's seed
    clock: Callable[[], float]  # of the searcher's own time
    most: int = 200  # trials of one run


@dataclass(frozen=True)
class Run:
    """After each trial: the seconds so far and the best complete loss (n,), NaN before one."""

    at: NDArray[np.float64]
    loss: NDArray[np.float64]
    stopped: int
    spent_early: float  # seconds in stopped trials

    def after(self, trials: int) -> tuple[float, float]:
        """(seconds, loss) after so many trials, or at the run's end."""
        i = min(trials, len(self.at)) - 1
        return float(self.at[i]), float(self.loss[i])

    def within(self, seconds: float) -> tuple[int, float]:
        """(trials, loss) of those that ended within so many seconds."""
        n = int(np.searchsorted(self.at, seconds, side="right"))
        return n, float(self.loss[n - 1]) if n else math.nan


def play(task: Task, seed: int, *, judged: bool, trials: int, seconds: float) -> Run:
    """One search, on until both the trials and the seconds are spent, or nothing is expected."""
    searcher: Searcher = Controller(task.space, seed=seed)
    evaluate = task.evaluate(seed)
    told: list[Trial] = []
    at, losses, now, best = [], [], 0.0, math.nan
    while (len(told) < trials or now < seconds) and len(told) < task.most and not searcher.done():
        began = task.clock()
        number = len(told)
        params = task.known[number] if number < len(task.known) else searcher.ask()
        now += task.clock() - began
        trial = evaluate(params, number, Judge(params, told) if judged else None)
        began = task.clock()
        searcher.tell(trial)
        now += task.clock() - began + trial.seconds
        told.append(trial)
        if (loss := loss_of(trial)) is not None:
            best = loss if math.isnan(best) else min(best, loss)
        at.append(now)
        losses.append(best)
    early = [t for t in told if t.status == "stopped"]
    return Run(np.array(at), np.array(losses), len(early), sum(t.seconds for t in early))


def real(name: str, names: Sequence[str], rows: int) -> Task:
    """A table of ../shared/data (or the flights), fitted by the families of those names."""
    split = _split(name, rows)

    def evaluate(seed: int) -> Evaluate:
        def one(params: Params, number: int, judge: Judge | None) -> Trial:
            began = time.process_time()
            trial = evaluate_trial(
                None, None, None, params, number=number, seed=seed + number, split=split,  # type: ignore[arg-type]
                objective="log_loss", judge=judge,
            )  # fmt: skip
            return replace(trial, seconds=time.process_time() - began)

        return one

    space = families.space(names)
    known = tuple(families.defaults(names))
    return Task(f"{name} ({', '.join(names)})", space, known, evaluate, time.process_time)


def recorded(name: str) -> Task:
    """The recorded fits on the table of that name. Watching boosted trees costs a tenth more."""
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["data"] == name]
    names = sorted({row["family"] for row in rows})
    space = families.space(names)
    # fits that were recorded before models could be made smaller are of models as they are
    as_is = {f: {"compress": "none"} for f in names if f"{f}.compress" in space.index}
    listed = [
        families.joined(row["family"], {**as_is.get(row["family"], {}), **row["params"]})
        for row in rows
    ]
    units = space.encode_many(listed)

    def evaluate(_: int) -> Evaluate:
        free = set(range(len(rows)))

        def one(params: Params, number: int, judge: Judge | None) -> Trial:
            alike = [i for i in free if rows[i]["family"] == params["family"]] or list(free)
            there = space.encode(params)
            chosen = min(alike, key=lambda i: (float(np.abs(units[i] - there).sum()), i))
            free.discard(chosen)
            row = rows[chosen]
            *way, (_, end, whole) = row["curve"]
            more = 1.1 if judge is not None and way and row["family"] == "hgb" else 1.0
            for reached in range(1, len(way) + 1 if judge is not None else 0):
                curve = tuple((f, loss) for f, loss, _ in way[:reached])
                forecast = judge.forecast(curve) if judge is not None else None
                if forecast is not None and forecast.hopeless:
                    share, _, spent = way[reached - 1]
                    return Trial(number, listed[chosen], "stopped", forecast.loss, more * spent, 0,
                                 fidelity=share, curve=curve)  # fmt: skip
            curve = tuple((f, loss) for f, loss, _ in way) if judge is not None else ()
            return Trial(number, listed[chosen], "complete", end, more * whole, 0, curve=curve)

        return one

    return Task(f"{name}, recorded", space, (), evaluate, lambda: 0.0, len(rows) // 2)


def lcbench(instance: str) -> Task:
    """Networks of LCBench on one data set, their epochs replayed by YAHPO Gym's surrogate."""
    from tests.benchmarks.tuner.problems import _module, to_space

    made = _module().Yahpo
    sources = {f: made("lcbench", instance, refs=False, epoch=round(f * EPOCHS))
               for f in (*SHARES, 1.0)}  # fmt: skip
    space = to_space(sources[1.0])
    time_at = sources[1.0].m["y"].index("time")

    def evaluate(_: int) -> Evaluate:
        def one(params: Params, number: int, judge: Judge | None) -> Trial:
            curve: list[tuple[float, float]] = []
            told: Mapping[str, Any] = {}
            for share, source in sources.items():
                values = source.all([dict(params)])[0]
                loss = max(1 + float(source.batch([dict(params)])[0]) / 100, 1e-4)
                spent = max(float(values[time_at]), 1e-3)
                if share == 1.0:
                    return Trial(number, params, "complete", loss, spent, 0, **told)
                curve.append((share, loss))
                told = {"curve": tuple(curve)}
                forecast = judge.forecast(curve) if judge is not None else None
                if forecast is not None and forecast.hopeless:
                    end = forecast.loss
                    return Trial(number, params, "stopped", end, spent, 0, fidelity=share, **told)
            raise AssertionError

        return one

    return Task(f"lcbench-{instance}", space, (), evaluate, lambda: 0.0)


@dataclass(frozen=True)
class Pair:
    """A problem and a seed, without stopping and with it."""

    name: str
    seed: int
    off: Run
    on: Run


def pairs(
    tasks: Sequence[Task],
    *,
    seeds: int,
    trials: int,
    seconds: float | None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Pair]:
    """Every task with every seed. seconds: of the equal budget; None: what the first run takes."""
    found = []
    for task in tasks:
        for seed in range(seeds):
            off = play(task, seed, judged=False, trials=trials, seconds=seconds or 0.0)
            until = seconds or off.after(trials)[0]
            on = play(task, seed, judged=True, trials=trials, seconds=until)
            found.append(Pair(task.name, seed, off, on))
            say(f"{task.name} seed {seed}: {off.at[-1]:.1f} s off, {on.at[-1]:.1f} s on")
    return found


def table(found: Sequence[Pair], *, trials: int, seconds: float | None) -> list[dict[str, Any]]:
    """One row per problem and one of all: losses, seconds and trials in the mean over seeds."""
    names = list(dict.fromkeys(pair.name for pair in found))
    groups = [(name, [p for p in found if p.name == name]) for name in names]
    if len(groups) > 1:
        groups.append(("all", list(found)))
    return [_row(name, group, trials, seconds) for name, group in groups]


def _row(name: str, group: Sequence[Pair], trials: int, seconds: float | None) -> dict[str, Any]:
    after = [(p.off.after(trials), p.on.after(trials)) for p in group]
    within = []
    for p in group:
        budget = seconds or p.off.after(trials)[0]
        within.append((p.off.within(budget), p.on.within(budget)))
    saved = [100 * (1 - on[0] / off[0]) for off, on in after]
    worse = [100 * (on[1] / off[1] - 1) for off, on in after]
    anytime = [100 * (on[1] / off[1] - 1) for off, on in within]
    mean = {
        "s off": np.mean([off[0] for off, _ in after]), "s on": np.mean([on[0] for _, on in after]),
    }  # fmt: skip
    return {
        "problem": name,
        "pairs": len(group),
        "stopped": f"{np.mean([p.on.stopped / len(p.on.at) for p in group]):.0%}",
        **{key: float(value) for key, value in mean.items()},
        f"saved % at {trials} trials": interval(saved),
        "loss % there": interval(worse),
        "trials off": float(np.mean([off[0] for off, _ in within])),
        "trials on": float(np.mean([on[0] for _, on in within])),
        f"loss % at {f'{seconds:g} s' if seconds else 'the same s'}": interval(anytime),
    }


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval of paired differences, by the bootstrap over pairs."""
    known = np.array([v for v in values if math.isfinite(v)])
    if not len(known):
        return ""
    draws = np.random.default_rng(0).choice(known, (4_000, len(known))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{known.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def _split(name: str, rows: int) -> Split:
    """The first 80 % of the rows and the rest, of each at most `rows` and half as many."""
    from models.data import read_table
    from models.schema import infer
    from tests.benchmarks.tuner.problems import folder

    if name == "flights":
        from tests.benchmarks.loop.streams import demo

        stream = demo("flights")
        frame, schema = stream.frame, stream.schema
    else:
        data = folder().parent.parent / "data"
        there = [data / f"{name}.csv.gz", data / f"{name}_weather.csv.gz",
                 data / "cc18" / f"{name}.csv.gz"]  # fmt: skip
        path = next((p for p in there if p.exists()), None)
        if path is None:
            raise SystemExit(f"a table is flights or a file of {data}, got {name!r}: name one")
        frame = read_table(path).drop(columns="timestamp_approx", errors="ignore")
        if path.parent.name == "cc18":  # in no order of time
            frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
        schema, _ = infer(frame, "target", None)
    cut = round((1 - _VALIDATION) * len(frame))
    parts = [frame.iloc[:cut], frame.iloc[cut:]]
    parts = [
        part.sample(limit, random_state=0).sort_index() if len(part) > limit else part
        for part, limit in zip(parts, (rows, rows // 2), strict=True)
    ]
    return prepare(parts[0], parts[1], schema)
