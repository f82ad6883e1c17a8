"""A digest tells what is stored, draws what there is, and is safe to open."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.digest import drawing, facts, front, page
from monitoring.records import (
    Action,
    Decision,
    Kind,
    Label,
    Prediction,
    Signal,
    Signals,
    Window,
)
from monitoring.telemetry import TelemetryStore

START = datetime(2013, 2, 4, tzinfo=UTC)
UNTIL = START + timedelta(days=7)


FRONT = facts.Front(
    ("log_loss", "latency_ms"), ((0.3, 9.0), (0.35, 1.0), (0.4, 0.1)), 1, "best <log_loss> with"
)


def decision(day, action, value, *, reasons=("all within",)):
    when = START + timedelta(days=day, hours=6)
    window = Window(f"w{day}", "m", "1", when - timedelta(days=1), when, 40, 30)
    signals = (
        Signal("log_loss", Kind.PERFORMANCE, value > 0.5, value, None, value - 0.1, value + 0.1),
        Signal("mmd", Kind.DRIFT, value > 0.5, 0.1, 10 ** (-4 * value), threshold="p <= 0.01"),
    )
    return Decision(f"w{day}", when, action, "rule", reasons, Signals(window, signals))


@pytest.fixture
def digest(tmp_path):
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        for day in range(-1, 8):
            when = START + timedelta(days=day, hours=3)
            store.record(
                [
                    Prediction(f"p{day}-{i}", when, "1", {"x": 1.0}, (0.5, 0.5), 1.0)
                    for i in range(8)
                ]
            )
            store.label([Label(f"p{day}-{i}", 1, when + timedelta(hours=1)) for i in range(6)])
            bad = day == 3
            told = ("<b>worse</b> & worse | by far",) if bad else ("all within",)
            action = Action.RETRAIN if bad else Action.KEEP
            store.save_decision(decision(day, action, 0.6 if bad else 0.4, reasons=told))
        made = [
            facts.Made(
                "2",
                START + timedelta(days=3, hours=7),
                "w3",
                "better",
                True,
                "champion",
                6,
                front=FRONT,
                foretold=("latency_ms: R2 0.97, median error 6% on 12 held-out trials",),
            ),
            facts.Made("3", START + timedelta(days=5), "by-hand", "worse", False, "refused"),
            facts.Made("1", START - timedelta(days=30), "first", "better", True, "promoted"),
        ]
        return facts.gather(store, "m", START, UNTIL, metric="log_loss", made=made, champion="2")


def test_only_what_lies_in_its_days_is_told(digest):
    assert [d.window_id for d in digest.decisions] == [f"w{day}" for day in range(7)]
    assert [made.version for made in digest.made] == ["2", "3"]
    assert [(day.rows, day.labelled) for day in digest.days] == [(8, 6)] * 7
    assert digest.coverage == 0.75
    assert digest.headline == [
        "7 checks: 6 kept the model, 1 retrain.",
        "2 retrains: 1 passed the gate, 1 refused.",
        "Version 2 serves; 56 predictions, 75% labelled by now.",
    ]
    assert [d.window_id for d in digest.acted] == ["w3"]


def test_the_picture_has_a_mark_for_each_check_each_day_and_each_retrain(digest):
    root = ET.fromstring(drawing.draw(digest))
    marks = [element.get("class", "") for element in root.iter()]
    assert marks.count("realised") + marks.count("realised breached") >= 7
    assert marks.count("calm") == 6
    assert marks.count("alarmed") == 1
    assert marks.count("day") == 7
    assert [m for m in marks if m.startswith("retrain ")] == ["retrain passed", "retrain refused"]


def test_the_front_of_a_search_is_drawn_with_what_was_chosen(digest, tmp_path):
    root = ET.fromstring(front.draw(FRONT))
    marks = [element.get("class", "") for element in root.iter()]
    assert (marks.count("ahead"), marks.count("chosen"), marks.count("estimated")) == (3, 1, 1)
    told = [element.text for element in root.iter() if element.text]
    assert "log_loss 0.35, latency_ms 1, chosen" in told
    assert "latency_ms (logarithmic)" in told
    text = page.write(digest, tmp_path / "digest.html").read_text(encoding="utf-8")
    assert "The front of version 2" in text
    assert "best &lt;log_loss&gt; with." in text
    assert "latency_ms: R2 0.97, median error 6% on 12 held-out trials." in text
    one = facts.Front(("log_loss", "size_mb", "latency_ms"), ((0.3, 1.0, 2.0),), None, "")
    alone = ET.fromstring(front.draw(one))  # of one trial, and of three metrics
    assert [e.get("class") for e in alone.iter()].count("ahead") == 2


def test_the_page_escapes_what_it_tells_and_the_markdown_keeps_its_tables(digest, tmp_path):
    path = page.write(digest, tmp_path / "pages" / "digest.html")
    text = path.read_text(encoding="utf-8")
    assert "&lt;b&gt;worse&lt;/b&gt; &amp; worse" in text
    assert "<b>worse" not in text
    assert 'id="version-2"' in text
    assert list(path.parent.iterdir()) == [path]
    told = page.markdown(digest)
    row = next(line for line in told.splitlines() if "Thu 07 Feb" in line)
    assert row.replace("\\|", "").count("|") == 5


def test_a_week_in_which_nothing_happened_is_a_page_too(tmp_path):
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        empty = facts.gather(store, "m", START, UNTIL, metric="log_loss")
    text = page.write(empty, tmp_path / "digest.html").read_text(encoding="utf-8")
    assert "No check has decided anything" in text
    assert "nothing was asked" in text
    assert empty.coverage is None
