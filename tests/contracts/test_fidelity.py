"""What every family promises of its learning curve, and every search of a trial stopped early."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import families
from models.encoding import Encoded
from models.families import Family, TrainingData
from models.families import base as family_base
from models.families.custom import Custom
from models.metrics import log_loss
from models.records import Trial
from models.search import Searcher, best, trial_from_json, trial_to_json
from models.search.controller import Controller
from models.search.fidelity import CHANCE, Judge
from models.search.objectives import Objective
from models.search.random import RandomSearch
from models.search.reward import losses_of
from models.space import Categorical, Float, Space
from models.training import Split, evaluate_trial
from models.watched import Hopeless, Watched
from tasks.journal import ASKS, TRIALS, Journal, recorded
from tasks.trials import Limits, Search

PARAMS = {
    "hgb": {"max_iter": 160, "max_leaf_nodes": 6, "learning_rate": 0.05},
    "forest": {"n_estimators": 80, "max_depth": 5},
    "mlp": {"epochs": 8, "width": 16},
    "logistic": {},
    "tfidf": {},
    "textnet": {"epochs": 8},
}


class Trainer:
    """A user's own, which knows of no curve."""

    space = Space((Float("C", 0.01, 1.0, log=True),))
    default = {"C": 1.0}  # noqa: RUF012 - as a user writes it

    def fit(self, X, y, params, seed):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=params["C"]).fit(X, y)


class Notes:
    """A Watch that keeps what it is told."""

    def __init__(self, valid: Encoded) -> None:
        self.valid, self.reports = valid, []

    def report(self, fidelity, proba):
        self.reports.append((fidelity, proba))


def rows(n: int, seed: int) -> tuple[Encoded, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    codes = rng.integers(1, 5, (n, 1))
    y = (x[:, 0] + 0.5 * (codes[:, 0] > 2) + rng.normal(size=n) > 0.3).astype(np.int64)
    texts = np.array([[f"grade{3 * value:.0f}"] for value in x[:, 0]], dtype=object)
    return Encoded(x, codes, texts), y


TRAIN = TrainingData(*rows(600, 0), 2, (5,))
VALID, Y_VALID = rows(300, 1)


@pytest.fixture(params=[*PARAMS, "custom"])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.setattr(family_base, "MANY", 500)
    if request.param == "custom":
        custom = Custom(None)
        custom._trainer = Trainer()
        return custom
    return families.get(request.param)


def params(family: Family) -> dict:
    return {**(family.default or {}), **PARAMS.get(family.name, {})}


def test_a_curve_is_told_in_order_and_changes_nothing(family: Family) -> None:
    watch = Notes(VALID)
    watched = family.fit(TRAIN, params(family), seed=3, watch=watch)
    alone = family.fit(TRAIN, params(family), seed=3)
    tolerance = 2e-3 if family.name == "logistic" else 0.0  # of its optimiser
    np.testing.assert_allclose(
        watched.predict_proba(VALID), alone.predict_proba(VALID), atol=tolerance
    )
    shares = [share for share, _ in watch.reports]
    assert len(shares) >= 2
    assert shares == sorted(set(shares))
    assert 0 < shares[0] < shares[-1] < 1
    for _, proba in watch.reports:
        assert math.isfinite(log_loss(Y_VALID, proba))
    losses = [log_loss(Y_VALID, proba) for _, proba in watch.reports]
    end = log_loss(Y_VALID, alone.predict_proba(VALID))
    assert abs(losses[-1] - end) < abs(losses[0] - end) + 0.02  # it leads to the end


def test_a_fit_ends_where_its_watch_says(family: Family) -> None:
    class Enough(Notes):
        def report(self, fidelity, proba):
            super().report(fidelity, proba)
            raise Hopeless.__new__(Hopeless)

    watch = Enough(VALID)
    with pytest.raises(Hopeless):
        family.fit(TRAIN, params(family), seed=3, watch=watch)
    assert len(watch.reports) == 1


def test_a_small_table_is_not_fitted_in_parts() -> None:
    watch = Notes(VALID)
    logistic = families.get("logistic")
    logistic.fit(TRAIN, params(logistic), seed=3, watch=watch)
    assert not watch.reports


# ---- the judge


def curve(number: int, *losses: float, family: str = "a", **fields) -> Trial:
    points = tuple((2.0 ** (i + 1 - len(losses)), x) for i, x in enumerate(losses))
    trial = Trial(number, {"family": family}, "complete", losses[-1], 1.0, 0, curve=points[:-1])
    return replace(trial, **fields)


FINISHED = [curve(i, 0.6 + x, 0.5 + x, 0.45 + x) for i, x in enumerate((0.0, 0.03, 0.08, 0.2))]


def test_the_far_behind_is_hopeless_and_the_near_is_not() -> None:
    judge = Judge({"family": "a"}, FINISHED)
    behind, near = judge.forecast([(0.25, 1.2), (0.5, 1.1)]), judge.forecast([(0.25, 0.61)])
    assert behind is not None
    assert behind.hopeless
    assert behind.loss == pytest.approx(1.05, abs=0.15)
    assert "stopped at 50%" in str(behind)
    assert near is not None
    assert near.chance > CHANCE
    # a fit that still falls steeply may win yet
    steep = judge.forecast([(0.25, 2.0), (0.5, 1.1)])
    assert steep is not None
    assert steep.chance > behind.chance


def test_nothing_is_said_without_evidence() -> None:
    point = [(0.5, 9.0)]
    family = {"family": "a"}
    assert Judge(family, FINISHED[:1]).forecast(point) is None
    assert Judge({"family": "b"}, FINISHED).forecast(point) is None
    assert Judge(family, FINISHED).forecast([]) is None
    assert Judge(family, FINISHED).forecast([(0.5, math.nan)]) is None
    assert Judge(family, [replace(t, curve=()) for t in FINISHED]).forecast(point) is None
    # nor by trials that were stopped or failed: they have no end
    for status in ("stopped", "failed"):
        told = [replace(t, status=status) for t in FINISHED]
        assert Judge(family, told).forecast(point) is None
    # earlier searches teach curves; that there is something to beat, this one's trials say
    assert Judge(family, [], FINISHED).forecast(point) is None
    other = curve(0, 0.5, family="b")
    assert Judge(family, [other], FINISHED).forecast(point).hopeless  # type: ignore[union-attr]


def test_curves_with_nan_zero_and_constant_losses_are_judged() -> None:
    odd = [
        replace(FINISHED[0], curve=((0.25, math.nan), (0.5, 0.5))),
        curve(1, 0.0, 0.0, 0.0),
        curve(2, 0.4, 0.4, 0.4),
    ]
    found = Judge({"family": "a"}, odd).forecast([(0.5, 0.4)])
    assert found is not None
    assert 0 <= found.chance <= 1
    assert math.isfinite(found.loss)


def test_few_of_the_stopped_would_have_won() -> None:
    """Power-law curves of every steepness, harder to foretell than those of fits are."""
    rng = np.random.default_rng(0)
    lost = stops = 0
    for _ in range(20):
        finished: list[Trial] = []
        for number in range(20):
            floor, size, power = rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.3), rng.uniform(0.3, 2)
            losses = [
                float(floor + size * (f * 8) ** -power * math.exp(0.02 * rng.normal()))
                for f in (1 / 8, 1 / 4, 1 / 2, 1)
            ]
            trial = curve(number, *losses)
            judge = Judge({"family": "a"}, finished)
            told = [judge.forecast(trial.curve[: m + 1]) for m in range(3)]
            stopped = any(f is not None and f.hopeless for f in told)
            ahead = bool(finished) and trial.loss < best(finished).loss
            lost += ahead and stopped
            stops += stopped
            if not stopped:
                finished.append(trial)
    assert lost <= 0.06 * stops
    assert stops > 0.4 * 20 * 20


# ---- one trial


def split() -> Split:
    return Split(TRAIN, VALID, Y_VALID)


def evaluated(judge: Judge | None, *, name: str = "forest", **own) -> Trial:
    given = {**(families.get(name).default or {}), **PARAMS[name], **own}
    joined = families.joined(name, given)
    return evaluate_trial(
        None, None, None, joined, number=4, seed=0, objective="log_loss", split=split(),  # type: ignore[arg-type]
        judge=judge, seconds=20.0, footprint_seconds=0.0,
    )  # fmt: skip


def test_a_trial_keeps_its_curve_and_ends_early_when_it_cannot_win() -> None:
    whole = evaluated(Judge({"family": "forest"}, []))
    assert whole.status == "complete"
    assert whole.fidelity == 1.0
    assert [f for f, _ in whole.curve] == [0.125, 0.25, 0.5]
    assert list(whole.curve_seconds) == sorted(whole.curve_seconds)
    assert whole.curve_seconds[-1] < whole.seconds
    assert evaluated(None).curve == ()
    assert evaluated(None).loss == whole.loss
    unbeatable = [
        replace(whole, number=i, loss=0.01, curve=tuple((f, 0.011) for f, _ in whole.curve))
        for i in range(3)
    ]
    stopped = evaluated(Judge({"family": "forest"}, unbeatable))
    assert stopped.status == "stopped"
    assert stopped.fidelity == 0.125
    assert len(stopped.curve) == 1
    assert stopped.loss is not None
    assert stopped.loss > 0.01
    assert "stopped at 13%" in stopped.error
    back = trial_from_json(json.loads(json.dumps(trial_to_json(stopped), allow_nan=False)))
    assert back == replace(stopped, params=dict(stopped.params))


def test_a_failure_in_the_middle_keeps_the_curve_so_far(monkeypatch) -> None:
    calls, told = [], Watched.report

    def report(self, fidelity, proba):
        calls.append(fidelity)
        told(self, fidelity, proba)
        if len(calls) == 2:
            raise MemoryError("no more")

    monkeypatch.setattr(Watched, "report", report)
    failed = evaluated(Judge({"family": "forest"}, []))
    assert failed.status == "failed"
    assert failed.loss is None
    assert "MemoryError" in failed.error
    assert [f for f, _ in failed.curve] == [0.125, 0.25]
    assert failed.fidelity == 0.25


def test_what_has_no_loss_on_the_way_decides_nothing() -> None:
    judge = Judge({"family": "a"}, FINISHED)
    watched = Watched(VALID, Y_VALID, log_loss, judge, 0.0)
    watched.report(0.25, np.full((300, 2), np.nan))
    assert watched.told["curve"] == ()
    infinite = Watched(VALID, Y_VALID, lambda *_: math.inf, judge, 0.0)
    infinite.report(0.25, np.full((300, 2), 0.5))
    assert infinite.told == {"curve": (), "curve_seconds": (), "fidelity": 1.0}


# ---- a search

SPACE = Space((Categorical("family", ("a", "b")), Float("x", 0.0, 1.0)))
SHARES = (1 / 8, 1 / 4, 1 / 2)


class World:
    """Trials with power-law curves that end in a given order and are judged as the real ones are.

    die: after so many ends, the process does. sick: the numbers of trials that fail half-way.
    """

    def __init__(self, order=(), die: int | None = None, sick=(), judged=True) -> None:
        self.order, self.die, self.sick, self.judged = list(order), die, sick, judged
        self.now, self.under_way, self.journal = 0.0, {}, None

    def start(self, params, number, seconds, finished):
        judge = Judge(params, self.journal.trials) if self.judged else None
        self.under_way[number] = (self._trial(params, number, judge), self.now, finished)

    def _trial(self, params, number, judge) -> Trial:
        end = 0.3 + 2 * (params["x"] - 0.35) ** 2
        length = 4.0 if params["family"] == "a" else 1.0
        curve = []
        for share in SHARES:
            curve.append((share, end * (1 + 0.2 * (1 / share - 1) / 7)))
            told = {"curve": tuple(curve), "fidelity": share}
            spent = length * share
            if number in self.sick and share == 1 / 4:
                return Trial(number, params, "failed", None, spent, 0, error="MemoryError", **told)
            forecast = judge.forecast(curve) if judge else None
            if forecast is not None and forecast.hopeless:
                return Trial(number, params, "stopped", forecast.loss, spent, 0, **told)
        metrics = {"log_loss": end}
        return Trial(number, params, "complete", end, length, 0, metrics, curve=tuple(curve))

    async def show(self, search):
        if self.die is not None and len(search.trials) >= self.die:
            raise RuntimeError("killed")
        running = sorted(self.under_way)
        if not running:
            self.now += 0.1
            return
        place = self.order.pop(0) if self.order else None
        number = (
            running[place % len(running)]
            if place is not None
            else min(running, key=lambda n: self.under_way[n][1] + self.under_way[n][0].seconds)
        )
        trial, began, finished = self.under_way.pop(number)
        self.now = max(self.now, began + trial.seconds)
        finished(trial)


def searched(
    folder: Path, world: World, searcher: Searcher | None = None, **limits
) -> tuple[Search, str]:
    folder.mkdir(exist_ok=True)
    searcher = searcher or Controller(SPACE, seed=3)
    world.journal = Journal(folder)
    world.journal.replay(searcher)
    search = Search(
        searcher, Objective("log_loss"), world.journal,
        Limits(**{"trials": 24, "seconds": 1_000.0, "parallel": 3, **limits}),
        world.start, seed=5, clock=lambda: world.now, tick=0.001,
    )  # fmt: skip
    return search, asyncio.run(search.run(world.show))


@pytest.mark.parametrize("kind", [Controller, RandomSearch])
def test_a_stopped_trial_is_learnt_from_and_never_chosen(tmp_path: Path, kind) -> None:
    search, _ = searched(tmp_path, World(), kind(SPACE, seed=3), trials=30)
    stopped = [t for t in search.trials if t.status == "stopped"]
    assert len(stopped) >= 3
    assert not np.isnan(losses_of(stopped)).any()
    chosen = getattr(search.searcher, "champion", lambda: best(search.trials))()
    assert chosen.status == "complete"
    assert best(search.trials).status == "complete"
    # even where its predicted loss is below every other
    lucky = [replace(t, loss=0.0) if t.status == "stopped" else t for t in search.trials]
    again = kind(SPACE, seed=3)
    for trial in lucky:
        again.tell(trial)
    chosen = getattr(again, "champion", lambda: best(again.history))()
    assert chosen.status == "complete"
    state = json.loads(json.dumps(search.searcher.state_dict(), allow_nan=False))
    restored = kind(SPACE, seed=0)
    restored.load_state_dict(state)
    assert restored.ask() == search.searcher.ask()
    assert [t.status for t in restored.history] == [t.status for t in search.searcher.history]


def test_the_order_of_the_ends_gives_the_decisions_and_the_journal_tells_them_again(
    tmp_path: Path,
) -> None:
    order = (2, 0, 1, 1, 2, 0, 0, 2, 1, 0, 0, 2, 1, 1, 0, 2, 0, 1, 2, 0, 0, 1, 1, 0)
    runs = []
    for name in ("one", "two"):
        search, _ = searched(tmp_path / name, World(order), RandomSearch(SPACE, seed=3))
        runs.append([(t.number, dict(t.params), t.status, t.fidelity) for t in search.trials])
    assert runs[0] == runs[1]
    assert [number for number, *_ in runs[0]] != sorted(number for number, *_ in runs[0])
    trials = {t.number: t for t in recorded(tmp_path / "one")}
    events = [json.loads(line) for line in (tmp_path / "one" / ASKS).read_text().splitlines()]
    decided = 0
    for ask in (e for e in events if e["event"] == "asked"):
        trial = trials[ask["number"]]
        judge = Judge(trial.params, [trials[n] for n in ask["ended"]])
        told = [judge.forecast(trial.curve[: m + 1]) for m in range(len(trial.curve))]
        hopeless = [f is not None and f.hopeless for f in told]
        assert any(hopeless) == (trial.status == "stopped")
        if trial.status == "stopped":
            decided += 1
            assert hopeless.index(True) == len(hopeless) - 1
            assert told[-1].loss == trial.loss  # type: ignore[union-attr]
    assert decided >= 3


def test_a_killed_search_goes_on_with_the_same_knowledge(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        searched(tmp_path, World(die=12))
    before = recorded(tmp_path)
    assert any(t.status == "stopped" for t in before)
    with (tmp_path / TRIALS).open("a", encoding="utf-8") as file:
        file.write('{"number": 30, "st')
    search, stopped = searched(tmp_path, World())
    assert search.trials[: len(before)] == before
    assert stopped == "all 24 trials spent"
    assert best(search.trials).status == "complete"


def test_failures_half_way_are_no_evidence_of_an_end(tmp_path: Path) -> None:
    search, _ = searched(tmp_path, World(sick=range(0, 24, 3)))
    failed = [t for t in search.trials if t.status == "failed"]
    assert len(failed) >= 4
    assert all(t.curve and t.fidelity <= 0.25 for t in failed)
    assert best(search.trials).loss < 0.33


@pytest.mark.parametrize("seconds", [25.0, 45.0])
def test_the_budget_is_kept_and_goes_further(tmp_path: Path, seconds: float) -> None:
    runs = []
    for judged in (False, True):
        searcher = RandomSearch(SPACE, seed=1)
        folder, world = tmp_path / str(judged), World(judged=judged)
        runs.append(searched(folder, world, searcher, seconds=seconds, trials=500)[0])
    full, early = runs
    assert early.seconds <= 1.05 * seconds
    assert full.seconds <= 1.05 * seconds
    assert len(early.trials) > len(full.trials)
    assert best(early.trials).loss <= best(full.trials).loss
