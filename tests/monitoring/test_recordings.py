"""What is stored of a row, since when, and how a reader knows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring import recorded
from monitoring.explain import Told, page, text
from monitoring.recording import Recording, place
from monitoring.recordings import evened
from monitoring.records import Action, Decision, Label, Prediction, Signals, to_dict
from monitoring.telemetry import TelemetryStore

NOW = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def prediction(number: int, at: datetime = NOW) -> Prediction:
    return Prediction(f"p{number}", at, "1", {"x": number}, (0.5, 0.5), 1.0)


def test_a_sample_is_even_nested_and_the_same_everywhere() -> None:
    ids = [f"{n:032x}" for n in range(20_000)]
    kept = {share: {i for i in ids if Recording(share).keeps(i)} for share in (0.01, 0.1, 0.5, 1.0)}
    assert kept[0.01] < kept[0.1] < kept[0.5] < kept[1.0] == set(ids)
    for share, some in kept.items():
        assert len(some) / len(ids) == pytest.approx(share, abs=4 * (share / len(ids)) ** 0.5)
    places = np.sort([place(i) for i in ids])
    assert np.abs(places - np.linspace(0, 1, len(ids))).max() < 1.63 / len(ids) ** 0.5  # KS at 1 %


def test_a_hashed_id_is_the_same_for_the_same_key_alone() -> None:
    one, other = Recording(key=b"k" * 16), Recording(key=b"l" * 16)
    assert Recording().stored_id("id-1") == "id-1"
    assert one.stored_id("id-1") == Recording(key=b"k" * 16).stored_id("id-1")
    assert len({one.stored_id("id-1"), one.stored_id("id-2"), other.stored_id("id-1"), "id-1"}) == 4
    assert one.fingerprint != other.fingerprint != Recording().fingerprint == ""
    assert b"k" * 16 not in one.fingerprint.encode()


def test_a_change_is_noted_once_and_holds_from_its_moment_on(store: TelemetryStore) -> None:
    assert store.recordings() == ()
    assert store.save_recording(Recording(0.5), NOW)
    assert not store.save_recording(Recording(0.5), NOW + DAY)  # another worker, a restart
    assert store.save_recording(Recording(0.1, frozenset({"age"})), NOW + 2 * DAY)
    assert [k.share for k in store.recordings()] == [0.5, 0.1]
    assert [k.share for k in store.recordings(NOW - DAY, NOW)] == [0.5]  # replayed rows, too
    assert [k.share for k in store.recordings(NOW + DAY, NOW + 3 * DAY)] == [0.5, 0.1]
    assert [k.share for k in store.recordings(NOW + 2 * DAY, NOW + 3 * DAY)] == [0.1]


def test_a_store_with_rows_had_all_of_them_before(store: TelemetryStore) -> None:
    store.record([prediction(1, NOW - DAY)])
    store.save_recording(Recording(0.1), NOW)
    assert [k.share for k in store.recordings(NOW - 2 * DAY, NOW)] == [1.0]


def test_a_window_knows_what_its_rows_stand_for_and_tells_it(store: TelemetryStore) -> None:
    store.save_recording(Recording(0.25, frozenset({"age", "name"})), NOW)
    store.record([prediction(n) for n in range(8)])
    store.label([Label(f"p{n}", 1, NOW) for n in range(2)])
    window = store.window("m", None, NOW, NOW + DAY)
    assert (window.rows, window.share, window.not_stored) == (8, 0.25, ("age", "name"))
    assert window.coverage == 0.25  # of the recorded rows: a sample's share is that of all
    decision = Decision(window.id, NOW, Action.KEEP, "none", (), Signals(window, ()))
    assert recorded.decision(to_dict(decision)) == decision
    said = text(page(Told(decision)))
    assert "8 recorded, a share of 0.25 of all" in said
    assert "age, name: no test looks at them" in said
    older = to_dict(decision)
    for name in ("share", "not_stored"):
        del older["signals"]["window"][name]  # as it was stored before there were samples
    assert recorded.decision(older).signals.window.share == 1.0


def test_rows_of_two_shares_are_thinned_to_the_smaller(store: TelemetryStore) -> None:
    """Otherwise the day with the larger share would speak for both."""
    shares = (1.0, 0.2)
    for day, share in enumerate(shares):
        store.save_recording(Recording(share), NOW + day * DAY)
        rows = [prediction(n + day * 10_000, NOW + day * DAY) for n in range(4_000)]
        store.record([r for r in rows if Recording(share).keeps(r.id)])
    frame = store.rows(NOW, NOW + 2 * DAY)
    first = frame["time"] < NOW + DAY
    assert first.mean() > 0.8
    even = evened(frame, store.recordings(NOW, NOW + 2 * DAY))
    assert (even["time"] < NOW + DAY).mean() == pytest.approx(0.5, abs=0.05)
    assert evened(frame, store.recordings(NOW, NOW + DAY)) is frame


def test_an_older_store_kept_all(store: TelemetryStore) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE recordings")
    store.record([prediction(1)])
    window = store.window("m", None, NOW, NOW + DAY)
    assert (window.rows, window.share, window.not_stored) == (1, 1.0, ())
