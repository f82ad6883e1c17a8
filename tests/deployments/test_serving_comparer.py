"""Comparisons off the path of the request: bounded, dropped when busy, and all of it counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from deployments.serving import comparer as module
from deployments.serving.comparer import Comparer
from deployments.serving.rows import Rows, check
from deployments.serving.slots import Slot, Slots
from models.records import Release
from monitoring.errors import StoreFault

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def parts(serving_double):
    slots, seen, stored, counted = Slots(), Counter(), [], []
    slots.swap(Slot(Release("tiny", "1", "", "", ""), serving_double()))
    slots.try_out(Slot(Release("tiny", "2", "", "", ""), serving_double(bias=1.0)))
    made = Comparer(
        slots,
        SimpleNamespace(count=lambda *what: counted.append(what)),
        SimpleNamespace(compared=lambda result, rows: seen.update({result: rows})),
        stored.extend,
        rows_per_second=20,
        stored_id=lambda id_: f"hashed {id_}",
        clock=lambda: NOW,
    )
    return SimpleNamespace(comparer=made, slots=slots, seen=seen, stored=stored, counted=counted)


def rows(slot, count, first=0):
    columns = {"hour": [7] * count, "wind": [1.0] * count, "carrier": ["UA"] * count}
    ids = [f"r{first + number}" for number in range(count)]
    return check(Rows(columns, count, ids=ids), slot.columns, "due")


def test_the_other_version_answers_and_its_answers_are_kept_under_the_stored_id(parts):
    champion, challenger = parts.slots.current, parts.slots.challenger
    asked = rows(champion, 2)
    parts.comparer.offer(champion, asked, NOW.timestamp())
    parts.comparer.offer(challenger, rows(challenger, 1, 5), [NOW])  # and the other way round
    parts.comparer.turn(0.05)
    assert [(a.id, a.version, a.time) for a in parts.stored] == [
        ("hashed r0", "2", NOW), ("hashed r1", "2", NOW), ("hashed r5", "1", NOW)
    ]  # fmt: skip
    expected = challenger.answer(asked).probabilities[0]
    assert parts.stored[0].probabilities == pytest.approx(expected.tolist())
    assert parts.counted == [(NOW, "shadow", "2", 200, 2), (NOW, "shadow", "1", 200, 1)]
    assert parts.seen == {"compared": 3}


def test_more_than_its_share_is_skipped_and_a_full_queue_drops(parts, monkeypatch):
    champion = parts.slots.current
    parts.comparer.offer(champion, rows(champion, 50), 0.0)  # 20 of them in the first second
    for _ in range(3):
        parts.comparer.offer(champion, rows(champion, 1), 0.0)
    parts.comparer.turn(0.05)
    assert len(parts.stored) == 20
    assert parts.seen == {"compared": 20, "skipped": 33}
    parts.comparer.offer(champion, rows(champion, 9), 0.0)  # the bucket has filled by one row
    parts.comparer.turn(10.0)
    assert len(parts.stored) == 21
    monkeypatch.setattr(module, "_WAITING", 2)
    for _ in range(4):
        parts.comparer.offer(champion, rows(champion, 1), 0.0)
    parts.comparer.turn(0.0)
    assert parts.seen["dropped"] == 2


def test_a_shadow_that_cannot_answer_is_counted_and_nobody_else_suffers(parts):
    champion, challenger = parts.slots.current, parts.slots.challenger

    def broken(*_):
        raise RuntimeError("the shadow breaks")

    challenger.model.predict_rows = broken
    parts.comparer.offer(champion, rows(champion, 2), 0.0)
    parts.comparer.turn(0.05)
    assert parts.counted == [(NOW, "shadow", "2", 500)]
    assert parts.seen == {"failed": 2}
    del challenger.model.predict_rows
    challenger.order = (*challenger.order, "another")  # a model with other columns
    parts.comparer.offer(champion, rows(champion, 1), 0.0)
    parts.comparer.turn(0.05)
    assert parts.seen == {"failed": 3}
    parts.slots.try_out(None)
    parts.comparer.offer(champion, rows(champion, 1), 0.0)
    parts.comparer.turn(0.05)
    assert parts.stored == []


def test_a_store_that_is_down_costs_the_comparisons_and_no_more(parts):
    def down(_batch):
        raise StoreFault("the store is down")

    parts.comparer._sink = down
    champion = parts.slots.current
    parts.comparer.offer(champion, rows(champion, 3), 0.0)
    parts.comparer.turn(0.05)
    assert parts.seen == {"dropped": 3}
