"""What the soak counts, on notes made up so that the right answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.benchmarks.soak.client import BROKEN, OK, REFUSED, UNANSWERED, WRONG, Asked, Customers
from tests.benchmarks.soak.verdict import Notes, failures, telemetry

PLAN = {"port": 1, "rows": [{"x": 1}, {"x": 2}], "right": {"1": [0.25, 0.5]}, "seed": 0}
PLAN |= {"rate": 0.0, "seconds": 1.0, "prefix": "s", "label_every": 2}


def answer(number, probability, version="1"):
    said = {"model_version": version, "predictions": [{"probability_late": probability}]}
    return json.dumps(said | {"ids": [f"s-{number}"]}).encode()


@pytest.fixture
def customers(tmp_path):
    made = Customers(PLAN | {"out": str(tmp_path / "out")})
    for _ in range(6):
        made._ask(0.0)
    made.line.clear()
    return made


def test_every_answer_is_held_against_what_its_version_must_say(customers, tmp_path):
    customers.done(Asked(0, 0.0), 200, answer(0, 0.25))
    customers.done(Asked(1, 0.0), 200, answer(1, 0.25))  # the other row's
    customers.done(Asked(2, 0.0), 200, answer(1, 0.25))  # another request's
    customers.done(Asked(3, 0.0), 503, b"{}")
    customers.broken(Asked(4, 0.0))
    assert customers.outcome == [OK, WRONG, WRONG, REFUSED, BROKEN, UNANSWERED]
    assert [asked.number for asked in customers.line] == [0, 2]  # every second one is labelled
    customers.done(Asked(0, 0.0, label=True), 200, b"{}")
    customers.done(Asked(2, 0.0, label=True), 503, b"{}")
    customers.write()
    notes = Notes(tmp_path / "out")
    assert (notes.labels, notes.label_failures, notes.right) == ({"s-0": "on time"}, 1, 1)


@pytest.fixture
def notes():
    made = Notes.__new__(Notes)
    made.outcome = np.array([OK, OK, OK, BROKEN, REFUSED, OK, WRONG], dtype=np.int8)
    made.answered = np.array([1.0, 9.5, 9.95, 10.0, 20.0, 21.0, 22.0])
    made.seconds = np.full(7, 0.01)
    made.labels = {"s-0": "late", "s-1": "late", "s-5": "on time"}
    made.label_failures = 0
    return made


def test_a_failure_is_a_kills_where_one_was(notes):
    found = failures(notes, [10.0])
    assert (found["wrong"], found["failed from kills"], found["failed else"]) == (1, 1, 1)
    assert failures(notes, [])["failed else"] == 2


def test_a_lost_row_is_excused_by_a_kill_shortly_after_it_and_a_lost_label_by_nothing(notes):
    stored = {"s-0", "s-5"}
    labels = {"s-0": "late", "s-5": "late"}
    found = telemetry(notes, [10.0], stored, labels, "s", promise=0.2)
    assert found["rows lost within the promise"] == 1  # s-2, answered 50 ms before
    assert found["rows lost beyond it"] == 1  # s-1, half a second before
    assert (found["labels"], found["labels lost"]) == (3, 2)  # one is gone, one is another's value
    assert telemetry(notes, [10.0], stored, labels, "s", promise=1.0)["rows lost beyond it"] == 0
