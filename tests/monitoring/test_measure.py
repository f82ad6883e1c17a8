"""Measuring one window from frames alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring import drift, reports
from monitoring.measure import Evidence, Settings, guarded, lengths_tested, measure
from monitoring.records import Kind, RequestCount, Signal, Window
from monitoring.rules import Rules, Threshold
from monitoring.slices import SliceThreshold

NOW = datetime(2024, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
COLUMNS = {"a": "number", "b": "number", "c": "category"}


def frame(rows: int, seed: int, *, shift: float = 0.0, harm: float = 0.0) -> pd.DataFrame:
    """Rows as the store gives them: the label follows `a`, and the answers know it."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=rows)
    truth = (rng.random(rows) < 1 / (1 + np.exp(-2 * a))).astype(int)
    p = 1 / (1 + np.exp(-2 * a * (1 - 2 * harm)))
    return pd.DataFrame(
        {
            "a": a + shift,
            "b": rng.normal(size=rows) + shift,
            "c": rng.choice(["x", "y"], size=rows),
            "proba": [[1 - x, x] for x in p],
            "label": truth,
            "latency_ms": rng.gamma(4, size=rows),
        }
    )


def window(rows: int = 600) -> Window:
    return Window("w", "m", "1", NOW - DAY, NOW, rows, rows // 2)


def evidence(**changes) -> Evidence:
    given = {
        "reference": frame(800, 1),
        "current": frame(600, 2),
        "matured": frame(600, 3),
        "baseline": {"log_loss": 0.45},
        "new_labels": 600,
        "trained_rows": 800,
        "last_label": NOW,
    }
    return Evidence(**{**given, **changes})


def settings(**changes) -> Settings:
    given = {
        "columns": COLUMNS,
        "classes": (0, 1),
        "thresholds": (
            Threshold("log_loss", worse_by=0.1),
            Threshold("latency_p95_ms", above=500),
        ),
        "rules": Rules(drift_p_value=0.01),
        "permutations": 199,
        "mmd_rows": 300,
    }
    return Settings(**{**given, **changes})


def said(signals, name: str) -> Signal:
    return next(s for s in signals.items if s.name == name)


def test_a_world_that_stands_still_breaches_nothing():
    signals = measure(window(), evidence(), settings(), NOW)
    assert {s.name for s in signals.items} >= {
        "mmd", "evidently", "log_loss", "latency_p95_ms", "labels"
    }  # fmt: skip
    assert not [s for s in signals.items if s.breached]


def test_a_shift_and_a_harm_are_told_apart():
    moved = measure(window(), evidence(current=frame(600, 2, shift=1.0)), settings(), NOW)
    assert said(moved, "mmd").breached
    assert said(moved, "evidently").breached
    assert not said(moved, "log_loss").breached
    harmed = measure(window(), evidence(matured=frame(600, 3, harm=1.0)), settings(), NOW)
    assert not said(harmed, "mmd").breached
    assert said(harmed, "log_loss").breached


def test_a_longer_window_speaks_under_its_own_name_and_level():
    levels = {DAY: 0.02, 7 * DAY: 0.004}
    given = evidence(longer={7 * DAY: frame(900, 9, shift=0.8)})
    found = measure(window(), given, settings(rules=Rules(), levels=levels), NOW)
    assert not said(found, "mmd").breached
    assert said(found, "mmd@7d").breached
    assert said(found, "evidently@7d").breached
    assert said(found, "mmd").detail["level"] == 0.02
    assert said(found, "mmd@7d").detail["level"] == 0.004
    assert lengths_tested(found) == (DAY, 7 * DAY)


def test_a_length_that_is_not_due_is_not_tested():
    given = evidence(longer={7 * DAY: frame(900, 9, shift=0.8)})
    found = measure(window(), given, settings(rules=Rules(), levels={}), NOW)
    assert said(found, "mmd").breached is None
    assert not [s for s in found.items if "@" in s.name]
    assert lengths_tested(found) == ()
    fixed = measure(window(), given, settings(rules=Rules(drift_p_value=0.01), levels={}), NOW)
    assert lengths_tested(fixed) == (DAY, 7 * DAY)  # a fixed level wins over the budget


def test_the_effect_of_drift_stands_beside_its_test():
    moved = measure(window(), evidence(current=frame(600, 2, shift=1.0)), settings(), NOW)
    detail = said(moved, "evidently").detail
    assert detail["effect"] == pytest.approx(0.38, abs=0.08)  # of one deviation
    assert list(detail["distances"])[-1] == "c"
    quiet = measure(window(), evidence(), settings(), NOW)
    assert said(quiet, "evidently").detail["effect"] < 0.1


def test_a_column_that_stays_away_is_a_fault_of_the_schema():
    given = evidence(current=frame(600, 2).drop(columns="b"))
    found = measure(window(), given, settings(), NOW)
    assert said(found, "absent_columns").breached
    assert said(found, "evidently").breached is None


def test_moved_predictions_are_told_where_the_proof_is_known():
    assert not [s for s in measure(window(), evidence(), settings(), NOW).items
                if s.kind is Kind.PREDICTIONS]  # fmt: skip
    same = measure(window(), evidence(proof=frame(600, 5)), settings(), NOW)
    assert said(same, "predictions").breached is False
    harmed = frame(600, 2, harm=0.45)
    other = measure(window(), evidence(proof=frame(600, 5), current=harmed), settings(), NOW)
    assert said(other, "predictions").breached


def test_requests_that_were_not_answered_breach():
    counts = (RequestCount(NOW - DAY / 2, "invocations", "1", 400, 400, 0, 100),)
    limits = (Threshold("error_rate", above=0.05),)
    found = measure(window(), evidence(counts=counts), settings(thresholds=limits), NOW)
    assert said(found, "error_rate").breached
    assert not [s for s in measure(window(), evidence(), settings(thresholds=limits), NOW).items
                if s.kind is Kind.SERVICE]  # fmt: skip


def test_rows_with_times_are_read_by_every_detector():
    def timed(rows: int, seed: int, start: datetime, **changes) -> pd.DataFrame:
        times = pd.date_range(start, NOW, periods=rows, tz="UTC").as_unit("ns")
        return frame(rows, seed, **changes).assign(
            time=times, label_arrived=times + timedelta(hours=1)
        )

    month = NOW - 30 * DAY
    given = {
        "reference": timed(800, 1, month),
        "current": timed(600, 2, NOW - DAY),
        "matured": timed(600, 3, NOW - 7 * DAY),
        "proof": timed(600, 4, month),
    }
    chosen = settings(
        block=timedelta(hours=1),
        performance_block=timedelta(hours=1),
        label_delay=timedelta(hours=2),
        slices=("c",),
    )
    found = measure(window(), evidence(**given), chosen, NOW)
    assert {s.name for s in found.items} >= {
        "label_delay_hours", "label_prior", "log_loss[c=x]", "estimated_log_loss", "predictions"
    }  # fmt: skip
    assert not [s.name for s in found.items if s.breached or s.reason.startswith("it failed")]
    assert said(found, "mmd").breached is False


def test_what_moved_is_told_where_drift_is_seen_or_when_asked():
    still = measure(window(), evidence(), settings(), NOW)
    assert still.moved == ()
    assert not [s for s in still.items if s.name == "domain_classifier"]
    shifted = measure(window(), evidence(current=frame(600, 2, shift=1.0)), settings(), NOW)
    assert {m.partition(":")[0] for m in shifted.moved} == {"a", "b"}
    assert said(shifted, "domain_classifier").breached
    asked = measure(window(), evidence(), settings(explain="always"), NOW)
    assert said(asked, "domain_classifier").breached is False
    moved = evidence(current=frame(600, 2, shift=1.0))
    assert measure(window(), moved, settings(explain="never"), NOW).moved == ()


def test_measuring_is_pure():
    given = evidence()
    before = given.current.copy()
    first = measure(window(), given, settings(), NOW)
    assert measure(window(), given, settings(), NOW) == first
    pd.testing.assert_frame_equal(given.current, before)


@pytest.mark.parametrize(
    ("module", "name", "signal"),
    [(drift, "mmd_signal", "mmd"), (reports, "drift_report", "evidently")],
)
def test_a_detector_that_raises_is_silent_and_the_others_speak(monkeypatch, module, name, signal):
    def broken(*_args, **_options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, name, broken)
    signals = measure(window(), evidence(), settings(), NOW)
    silent = said(signals, signal)
    assert silent.breached is None
    assert silent.kind is Kind.DRIFT
    assert "ZeroDivisionError: a bug" in silent.reason
    assert all(s.breached is False for s in signals.items if s.name in ("log_loss", "labels"))


def test_a_guard_takes_one_signal_or_many():
    one = Signal("x", Kind.DRIFT, False)
    assert guarded("x", Kind.DRIFT, lambda: one) == (one,)
    assert guarded("x", Kind.DRIFT, lambda: [one, one]) == (one, one)


def test_an_empty_window_is_silent_not_quiet():
    nothing = frame(600, 2).iloc[:0]
    signals = measure(window(0), evidence(current=nothing, matured=nothing), settings(), NOW)
    silent = {s.name for s in signals.items if s.breached is None}
    assert {"mmd", "evidently", "log_loss", "latency_p95_ms"} <= silent
    assert all(s.reason for s in signals.items if s.breached is None)


def test_rows_without_the_columns_of_an_answer_are_silent():
    bare = frame(600, 2)[["a", "b", "c"]]
    signals = measure(window(), evidence(current=bare, matured=bare), settings(), NOW)
    assert said(signals, "latency_p95_ms").breached is None
    assert said(signals, "performance").breached is None
    assert said(signals, "mmd").breached is False


def test_performance_is_held_to_the_gates_rows_and_to_blocks_of_time():
    def timed(seed, **options):
        times = NOW - DAY * 7 + np.arange(600) / 600 * 7 * DAY
        return frame(600, seed, **options).assign(time=times)

    limits = (Threshold("log_loss", worse_by=0.1),)
    given = evidence(matured=timed(3, harm=1.0), proof=timed(4))
    free = said(measure(window(), given, settings(), NOW), "log_loss")
    assert free.breached
    assert free.detail["change_low"] > 0.1
    column = next(iter(COLUMNS))
    blocks = settings(
        performance_block=DAY,
        thresholds=limits,
        slice_thresholds=(SliceThreshold(metric="error", above=0.9, slice=column),),
    )
    found = measure(window(), given, blocks, NOW)
    assert said(found, "log_loss").detail["blocks"] == 7
    assert said(found, "log_loss").low != free.low
    assert all(s.low is not None for s in found.items if s.name.startswith("error["))


def test_an_estimate_learns_from_the_labels_that_have_come():
    """Answers that have become too sure since the gate are no longer taken at their word."""
    rng = np.random.default_rng(0)

    def answered(rows, right, seed):
        made = frame(rows, seed)
        return made.assign(label=rng.random(rows) < right, proba=[(0.1, 0.9)] * rows).astype(
            {"label": object}
        )

    proof, matured = answered(1_000, 0.9, 4), answered(4_500, 0.6, 3)
    given = evidence(proof=proof, matured=matured, current=answered(600, 0.6, 2))
    chosen = settings(classes=(False, True))
    found = said(measure(window(), given, chosen, NOW), "estimated_accuracy")
    assert 0.55 < found.value < 0.7
    late = evidence(proof=proof, matured=matured.head(0), current=answered(600, 0.6, 2))
    before = said(measure(window(), late, chosen, NOW), "estimated_accuracy")
    assert 0.85 < before.value < 0.95
