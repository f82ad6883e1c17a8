"""`everfit explain`: one decision for a person, from the stores alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from deployments.cli import main
from monitoring.explain import Told, page, text
from monitoring.policy import PolicyState, decide, observe
from monitoring.records import Kind, Prediction, Signal, Signals, Window
from monitoring.rules import Rules
from tasks import lineage, places
from tasks.config import load

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = Rules(maximum_age=None, confirmations=1)


def signals(day: int) -> Signals:
    end = START + day * DAY
    window = Window(f"tiny-v1-2024-01-{day:02d}", "tiny", "1", end - DAY, end, 1_200, 600)
    return Signals(
        window,
        (
            Signal("mmd", Kind.DRIFT, True, p_value=1e-5, threshold="p <= 1e-05", rows=500),
            Signal("evidently", Kind.DRIFT, day > 1, value=0.28, threshold="drifted share >= 0.3"),
            Signal("log_loss", Kind.PERFORMANCE, None, reason="3 labelled rows; 200 are needed"),
            Signal("labels", Kind.LABELS, False, detail={"new_labels": 900, "growth": 0.5}),
        ),
        moved=("wind: median 9.1 -> 34.2",),
    )


@pytest.fixture
def config(tiny_config):
    """A store with two decisions, the second of which led to a retrain."""
    loaded, state = load(tiny_config), PolicyState(champion_since=START)
    with places.telemetry(loaded) as store:
        for day in (1, 2):
            seen, now = signals(day), START + day * DAY
            state = observe(state, seen, now, RULES)
            store.save_decision(decide(seen, state, now, RULES))
        store.record([Prediction("p-1", START + DAY, "2", {"hour": 7}, (0.25, 0.75), 1.5)])
    outcome = {
        "window_id": "tiny-v1-2024-01-02", "version": "2", "passed": True,
        "reason": "challenger better by 0.01", "trials": 2, "seconds": 1.25, "finished": "",
    }  # fmt: skip
    with places.claims(loaded) as book:
        book.claim("tiny-v1-2024-01-02", "me", START + 2 * DAY, model="tiny")
        book.finish("tiny-v1-2024-01-02", outcome, START + 2 * DAY, owner="me")
    return tiny_config


def asked(*words) -> str:
    result = CliRunner().invoke(main, ["explain", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_without_a_window_the_last_decision_is_told(config):
    said = asked(config)
    assert said.startswith("tiny: retrain (drift)\n")
    for line in (
        "1,200, 50% labelled by then",
        "mmd        breached  p = 1e-05  p <= 1e-05            500 rows",
        "silent",
        "3 labelled rows; 200 are needed",
        "wind: median 9.1 -> 34.2",
        "version  2",
        "verdict  passed",
        "2 trials, 1.2 s of training",
    ):
        assert line in said, said
    assert "\x1b[" not in said  # a pipe gets no colours


def test_rules_that_nearly_fired_stand_on_the_page(config):
    said = asked(config, "2024-01-01")
    assert said.startswith("tiny: keep (watched)\n")
    assert "rules that nearly fired\n  drift  Evidently 0.28 of 0.30" in said
    assert "what it led to" not in said


@pytest.mark.parametrize("part", ["tiny-v1-2024-01-02", "tiny-v1-2024-01-02"[:18], "01-02"])
def test_part_of_an_id_is_enough_where_no_other_has_it(config, part):
    assert asked(config, part).startswith("tiny: retrain")


@pytest.mark.parametrize(
    ("part", "told"),
    [("tiny-v1", "write more of it"), ("%", "the last are"), ("2025", "tiny-v1-2024-01-02")],
)
def test_a_part_that_names_no_single_window_is_refused(config, part, told):
    result = CliRunner().invoke(main, ["explain", str(config), part])
    assert result.exit_code == 1
    assert told in result.output


@pytest.mark.parametrize("when", ["2024-01-03", "20240103", "2024-01-03T00:00"])
def test_a_day_or_a_minute_is_that_of_the_decision(config, when):
    assert asked(config, when).startswith("tiny: retrain (drift)\n  decided      2024-01-03 00:00")


def test_a_check_tells_what_moved_what_nearly_fired_and_what_its_retrain_came_to():
    from deployments.commands.watch import lines

    state, passed = PolicyState(champion_since=START), {"passed": False, "version": "2"}
    first = decide(signals(1), observe(state, signals(1), START + DAY, RULES), START + DAY, RULES)
    said = "\n".join(lines(first, None))
    assert "  moved wind: median 9.1 -> 34.2" in said
    assert "  nearly drift: Evidently 0.28 of 0.30" in said
    assert "retrained" not in said
    twice = replace(RULES, confirmations=2)
    once = decide(signals(2), observe(PolicyState(), signals(2), START, twice), START, twice)
    assert [near.rule for near in once.nearly] == ["drift"]
    assert "drift seen in 1 window so far; 2 are needed" in "\n".join(lines(once, None))
    assert "nearly" not in "\n".join(lines(once, None))
    waiting = replace(RULES, cooldown=30 * DAY)
    state = replace(observe(state, signals(2), START + DAY, waiting), last_attempt=START)
    held = decide(signals(2), state, START + 2 * DAY, waiting)
    assert sum("cool-down lasts" in line for line in lines(held, None)) == 1
    due = decide(signals(2), replace(state, last_attempt=None), START + 2 * DAY, RULES)
    assert any("--no-act" in line for line in lines(due, None))
    ended = "\n".join(lines(due, passed | {"reason": "worse by 0.01"}))
    assert "  retrained: version 2 was refused: worse by 0.01" in ended


def test_before_the_first_check_there_is_nothing_to_explain(tiny_config):
    result = CliRunner().invoke(main, ["explain", str(tiny_config)])
    assert result.exit_code == 1
    assert "everfit watch" in result.output


def test_as_json_it_is_the_stored_record(config):
    record = json.loads(asked(config, "--json"))
    assert record["decision"]["rule"] == "drift"
    assert record["decision"]["thresholds"]["rules"]["cooldown"] == "7d"
    assert record["outcome"]["version"] == "2"


@pytest.mark.parametrize("window", ["tiny-v1-2024-01-02", "by-hand"])
def test_a_prediction_is_traced_to_the_decision_that_caused_its_version(
    config, monkeypatch, window
):
    made = SimpleNamespace(
        made=START, rows=4_000, trained_through=START, baseline={"log_loss": 0.4}, params={},
        verdict=SimpleNamespace(reason="better by 0.02"), window_id=window,
    )  # fmt: skip
    going = {"mode": "done", "step": 2, "share": 0.0, "since": "", "started": "", "opponent": "1"}
    tags = {"rollout": json.dumps({**going, "decision_id": window, "why": "it has baked"})}
    release = SimpleNamespace(version="2", tags=tags)
    registry = SimpleNamespace(version=lambda _: release)
    monkeypatch.setattr(places, "registry", lambda _: registry)
    monkeypatch.setattr(lineage, "read", lambda *_: made)
    said = asked(config, "--prediction", "p-1")
    assert "answered  late 0.750, on time 0.250" in said
    assert "learnt       4,000 rows, the newest of 2024-01-01 00:00 UTC" in said
    assert f"window {window}" in said
    assert ("tiny: retrain (drift)" in said) == (window != "by-hand")
    assert ("asked for by hand" in said) == (window == "by-hand")
    record = json.loads(asked(config, "--prediction", "p-1", "--json"))
    assert record["version"]["window_id"] == window
    assert (record["decision"] is None) == (window == "by-hand")


def test_an_unknown_prediction_is_refused(config):
    result = CliRunner().invoke(main, ["explain", str(config), "--prediction", "nobody"])
    assert result.exit_code == 1
    assert "no prediction 'nobody'" in result.output


def test_a_page_has_columns_that_line_up():
    state = observe(PolicyState(champion_since=START), signals(1), START + DAY, RULES)
    decision = decide(signals(1), state, START + DAY, RULES)
    lines = text(page(Told(decision))).splitlines()
    two = [line for line in lines if line.startswith(("  mmd  ", "  evidently  "))]
    places = [max(line.find("breached  "), line.find("fine  ")) for line in two]
    assert len(set(places)) == 1
    assert not any(line != line.rstrip() for line in lines)


def test_how_far_a_roll_out_has_come_is_told():
    state = observe(PolicyState(champion_since=START), signals(1), START + DAY, RULES)
    decision = decide(signals(1), state, START + DAY, RULES)
    outcome = {"version": "2", "passed": True, "reason": "better", "trials": 4, "seconds": 1.0}
    going = {"mode": "rolled back", "stage": "rolled back", "why": "error rate 0.2"}
    lines = text(page(Told(decision, {**outcome, "rollout": going}))).split()
    assert "roll-out rolled back: error rate 0.2" in " ".join(lines)
    assert "roll-out" not in text(page(Told(decision, {**outcome, "rollout": None})))
