"""The two small models that say whether newer rows teach better."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.recency import recency_signals
from monitoring.records import Label, Prediction
from tasks import places, recency
from tasks.config import load

START, DAY = datetime(2013, 2, 1, tzinfo=UTC), timedelta(days=1)


def losses(tiny_config, make_frame, *, rows=2_000, flip=False):
    config = load(tiny_config)
    served = make_frame(rows, seed=5, start=START.isoformat())
    predictions, labels = [], []
    for i, row in enumerate(served.to_dict("records")):
        when = row["due"].to_pydatetime()
        features = {n: None if row[n] != row[n] else row[n] for n in config.data.columns}
        truth = row["late"]
        if flip:
            truth = "late" if truth == "on time" else "on time"
        predictions.append(Prediction(str(i), when, "1", features, (0.5, 0.5), 1.0))
        labels.append(Label(str(i), truth, when + timedelta(hours=1)))
    with places.telemetry(config) as store:
        store.record(predictions)
        store.label(labels)
        now = START + timedelta(days=60)
        return recency.losses(config, store, make_frame(800, seed=9), START - DAY, now)


@pytest.mark.parametrize("flip", [False, True])
def test_newer_rows_teach_better_only_where_the_world_has_moved(tiny_config, make_frame, flip):
    older, newer = losses(tiny_config, make_frame, flip=flip)
    assert older.shape == newer.shape == (1_000,)
    gain, expected = recency_signals(older, newer)
    assert gain.breached is flip
    assert expected.breached is flip
    assert bool(expected.detail.get("fine")) is not flip


def test_too_few_new_rows_teach_nothing(tiny_config, make_frame):
    assert losses(tiny_config, make_frame, rows=300) is None
