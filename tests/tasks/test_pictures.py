"""What is drawn of a window that raised an alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitoring.records import Action, Decision, Prediction, Signals, Window
from tasks import pictures, places
from tasks.config import load

NOW = datetime(2013, 2, 8, 6, tzinfo=UTC)
DAY = timedelta(days=1)
NOWHERE = Path("no such page")


@pytest.fixture
def quiet_day(tiny_config, make_frame, monkeypatch):
    """A config whose last day nobody asked, after a week in which the wind had moved."""
    config = load(tiny_config)
    columns = list(config.data.columns)
    monkeypatch.setattr(pictures, "champion_of", lambda _config: None)
    monkeypatch.setattr(
        pictures, "reference_of", lambda _config, _champion: make_frame(300)[columns]
    )
    moved = make_frame(300, seed=1, start=(NOW - 5 * DAY).isoformat(), shift=30.0)
    moved = moved[moved["due"] < NOW - DAY]
    with places.telemetry(config) as store:
        store.record(
            Prediction(
                str(number),
                row["due"].to_pydatetime(),
                "1",
                {name: None if row[name] != row[name] else row[name] for name in columns},
                (0.5, 0.5),
                1.0,
            )
            for number, row in enumerate(moved.to_dict("records"))
        )
    return config


def test_an_alarm_of_a_longer_window_is_drawn_where_the_check_s_own_has_no_rows(
    quiet_day, caplog, monkeypatch
):
    reported = []  # tests/monitoring/test_reports.py has the page itself
    monkeypatch.setattr(pictures, "_report", lambda _c, _d, rows: reported.append(rows) or NOWHERE)
    window = Window("w", "tiny", "1", NOW - DAY, NOW, 0, 0)
    decision = Decision("w", NOW, Action.KEEP, "watched", (), Signals(window, ()))
    signals = pictures.drawn(quiet_day, decision, NOW)
    assert signals.picture is not None
    assert len(reported[0].current) > 200
    assert signals.moved[0].startswith("wind: median")
    assert signals.window == window
    assert not caplog.records
