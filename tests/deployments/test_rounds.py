"""Rounds: who is checked, in which order, what is left, and what is remembered."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from deployments.rounds import book, flow
from deployments.rounds.order import Entry, ordered
from deployments.rounds.pool import Done
from monitoring.news import LATE, News, news
from monitoring.records import Decision, Label, Prediction
from monitoring.telemetry import TelemetryStore

NOON = datetime(2013, 2, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class FakePool:
    """Ends each job as `ends` says of its config, and takes `step` of the clock for it."""

    ends: ClassVar[dict[str, str]] = {}
    seen: ClassVar[list[str]] = []
    now = NOON
    step = timedelta(seconds=1)

    def __init__(self, work, size, preload, around, limits, on_told):
        assert (work, around) == ("deployments.rounds.checks:check",
                                  "deployments.rounds.checks:connected")  # fmt: skip
        FakePool.size = size
        self.on_told = on_told

    def run(self, jobs):
        for job in jobs:
            FakePool.now += self.step
            self.seen.append(job["config"])
            fault = self.ends.get(job["config"], "")
            self.on_told(job, f"run of {job['config']}")
            if fault == "killed":  # with the whole round
                raise KeyboardInterrupt
            if fault == "quiet":
                yield Done(job, {"did": "skipped"}, cpu_seconds=0.02)
            elif fault:
                yield Done(job, None, fault, f"run of {job['config']}", crashed="process" in fault)
            else:
                yield Done(job, {"did": "checked", "action": "keep"}, "", cpu_seconds=0.3)


@pytest.fixture
def round_of(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "Pool", FakePool)
    FakePool.ends, FakePool.seen, FakePool.now = {}, [], NOON
    FakePool.step = timedelta(seconds=1)

    def run(configs, **options):
        FakePool.seen.clear()
        return flow.checked(configs, tmp_path / "book.json", clock=lambda: FakePool.now, **options)

    return run


def test_one_failing_model_is_told_and_the_others_are_checked(round_of):
    FakePool.ends = {"b": "ended its process (SIGKILL)", "c": "StoreFault: locked", "d": "quiet"}
    told = []
    made = round_of(["a", "b", "c", "d", "e"], crashed=lambda *said: told.append(said), workers=9)
    assert made.did == Counter(checked=2, failed=2, skipped=1)
    assert made.faults == {"b": FakePool.ends["b"], "c": FakePool.ends["c"]}
    assert told == [("run of b", FakePool.ends["b"])]  # one that ended by itself has told Prefect
    assert FakePool.size == 5  # no more processes than models
    assert "5 models" in str(made)
    assert "c: StoreFault: locked" in str(made)
    round_of(["a", "b", "c", "d", "e"])
    assert FakePool.seen == ["a", "d", "e", "b", "c"]  # those that failed come last


def test_what_a_round_has_no_time_for_comes_first_in_the_next(round_of):
    names = [f"m{i}" for i in range(8)]
    FakePool.step = timedelta(minutes=10)
    made = round_of(names, period=HOUR)
    assert FakePool.seen == names[:6]
    assert made.left == 2
    assert "2 left for the next round" in str(made)
    FakePool.now = NOON + HOUR
    round_of(names, period=HOUR)
    assert FakePool.seen[:2] == ["m6", "m7"]
    # a round that starts late still ends before the next one is due
    FakePool.now = NOON + 2 * HOUR + timedelta(minutes=50)
    assert round_of(names, period=HOUR, due=NOON + 2 * HOUR).left == 7


def test_a_round_that_is_ended_leaves_no_check_running(round_of, tmp_path):
    told, place = [], tmp_path / "book.json"
    FakePool.ends = {"b": "killed"}
    with pytest.raises(KeyboardInterrupt):
        round_of(["a", "b", "c"], crashed=lambda *said: told.append(said))
    assert told == [("run of b", "was ended with its round")]
    assert book.running(place) == {}
    assert set(book.read(place)) == {"a"}  # and what was done is remembered
    book.note_running(place, {"b": "run of b"})  # as after kill -9: the next round tells it
    assert book.running(place) == {"b": "run of b"}


def test_a_damaged_book_costs_the_order_alone(round_of, tmp_path):
    (tmp_path / "book.json").write_text("{half")
    assert round_of(["a", "b"]).did["checked"] == 2
    kept = book.read(tmp_path / "book.json")
    assert set(kept) == {"a", "b"}
    assert kept["a"].checked == NOON + timedelta(seconds=1)
    made = ordered(["b", "a", "new"], kept, NOON + HOUR, HOUR)
    assert made == ["new", "b", "a"]
    assert ordered(["a", "b"], {"b": Entry(NOON - 5 * HOUR)}, NOON, HOUR) == ["a", "b"]


def test_configs_are_files_patterns_and_lists_of_them(tmp_path):
    for name in ("b.yaml", "a.yaml", "c.yml"):
        (tmp_path / name).write_text("")
    (tmp_path / "all").write_text(f"{tmp_path}/*.yaml\n\n{tmp_path}/c.yml\n")
    every = [str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.yml")]
    assert flow.found([f"@{tmp_path}/all", every[0]]) == every


def test_a_round_takes_the_models_of_its_schedule(tiny_config, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: 7")
    paths = [str(tiny_config), str(broken)]
    assert flow.scheduled(paths, "0 6 * * *") == paths  # the broken one's check says why
    assert flow.scheduled(paths, "0 * * * *") == [str(broken)]


def test_news_of_a_store(tmp_path):
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        assert news(store.database) == News(None, "", None)
        assert news(store.database).since(NOON, HOUR) == "it was never checked"
        store.record([Prediction("1", NOON - HOUR, "1", {"x": 1}, [0.5, 0.5], 1.0)])
        window = store.window("m", "1", NOON - 2 * HOUR, NOON)
        assert news(store.database).newest == NOON - HOUR
        _decided(store, window, NOON)
        known = news(store.database)
        assert (known.decided, known.action) == (NOON, "keep")
        assert known.since(NOON + HOUR, timedelta(days=1)) == ""
        store.label([Label("1", 0, NOON - LATE)])  # it may have reached the store just after
        assert "something came" in news(store.database).since(NOON + HOUR, timedelta(days=1))
        assert "old" in known.since(NOON + timedelta(days=1), timedelta(days=1))


def _decided(store, window, now):
    from monitoring.records import Action, Signals

    decision = Decision(
        action=Action.KEEP,
        window_id=window.id,
        time=now,
        rule="nothing",
        reasons=("quiet",),
        signals=Signals(window, ()),
    )
    assert store.save_decision(decision)
