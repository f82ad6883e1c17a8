"""The scoreboard: exact metrics, paired day blocks, and plain words whichever way it goes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from deployments.demo import scoreboard as sb


def board(*, days=20, n=80, frozen=0.2, weekly=1.0, everfit=0.9, seed=0):
    """Rows whose true log odds are x; each model knows the given fraction of it."""
    rng = np.random.default_rng(seed)
    made = sb.Scoreboard(days)
    for day in range(days):
        x = rng.normal(size=n) * 2 + rng.normal() * 0.3
        y = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)
        skill = {sb.FROZEN: frozen, sb.WEEKLY: weekly, sb.EVERFIT: everfit}
        made.add(day, y, {name: 1 / (1 + np.exp(-x * k)) for name, k in skill.items()})
    return made


def test_metrics_equal_scikit_learn_on_the_whole():
    made = board()
    _, y, p = made._all()
    table = made.table(resamples=50)
    for name in sb.NAMES:
        assert table.metrics[name]["log_loss"] == pytest.approx(log_loss(y, p[name]))
        assert table.metrics[name]["roc_auc"] == pytest.approx(roc_auc_score(y, p[name]))
        assert table.metrics[name]["error"] == pytest.approx(np.mean((p[name] >= 0.5) != y))


def test_auc_of_a_resample_of_days_equals_auc_of_the_repeated_rows():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 300).astype(float)
    p = rng.integers(0, 12, 300) / 12 + 0.1 * y  # many ties
    block = np.repeat(np.arange(6), 50)
    weights = rng.multinomial(6, [1 / 6] * 6, size=4).astype(float)
    got = sb._resampled(y, p, block, weights)["roc_auc"]
    for w, auc in zip(weights, got, strict=True):
        take = np.repeat(np.arange(300), w[block].astype(int))
        assert auc == pytest.approx(roc_auc_score(y[take], p[take]))


def test_an_unlabelled_row_is_scored_for_nobody():
    made = board(days=2)
    before = made.loss()
    made.add(1, np.array([np.nan, np.nan]), {name: np.array([0.9, 0.1]) for name in sb.NAMES})
    assert made.loss() == before
    assert made.by_week()[0].rows == 160


def test_interval_widens_when_days_are_dependent():
    """The same rows: blocks of one row understate what blocks of a whole bad day show."""
    rng = np.random.default_rng(5)
    days, n = 30, 50
    y = np.tile([0.0, 1.0], days * n // 2)
    shift = np.repeat(rng.normal(scale=0.3, size=days), n)
    p = {sb.FROZEN: np.full(days * n, 0.5), sb.WEEKLY: np.full(days * n, 0.5)}
    p[sb.EVERFIT] = np.clip(0.5 + np.where(y > 0.5, shift, -shift), 0.05, 0.95)
    by_day, by_row = sb.Scoreboard(days), sb.Scoreboard(days * n)
    for day in range(days):
        rows = slice(day * n, day * n + n)
        by_day.add(day, y[rows], {k: v[rows] for k, v in p.items()})
    for row in range(days * n):
        by_row.add(row, y[row : row + 1], {k: v[row : row + 1] for k, v in p.items()})
    wide, narrow = (
        board.table(resamples=300).difference("log_loss", sb.EVERFIT, sb.WEEKLY)
        for board in (by_day, by_row)
    )
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_share_is_one_when_everfit_answers_as_weekly_does():
    table = board(everfit=1.0).table(resamples=200)
    assert table.gain_share.value == pytest.approx(1.0)
    assert table.gain_share.low == pytest.approx(1.0)
    text = " ".join(sb.headline(table, 3, 12))
    assert "100%" in text
    assert "25% of weekly's 12" in text
    assert "cannot be told apart" in text


def test_the_words_say_so_when_the_loop_loses():
    table = board(frozen=0.9, weekly=1.0, everfit=-0.5).table(resamples=200)
    text = " ".join(sb.headline(table, 1, 12))
    assert "lost to leaving the model alone" in text
    assert "does not beat weekly" in text


def test_no_share_when_weekly_gains_nothing():
    table = board(frozen=1.0, weekly=-0.5, everfit=1.0).table(resamples=100)
    assert table.gain_share.value is None
    text = " ".join(sb.headline(table, 0, 12))
    assert "nothing to win" in text
    assert "beats weekly" in text


@pytest.mark.parametrize(("days", "weeks"), [(7, 1), (3, 1), (10, 1), (11, 2), (337, 48)])
def test_a_short_last_week_joins_the_one_before(days, weeks):
    made = sb.Scoreboard(days)
    assert made.weeks == weeks
    assert made.week_of(days - 1) == weeks


def test_one_class_only_is_a_clear_fault():
    made = sb.Scoreboard(1)
    made.add(0, np.zeros(5), {name: np.full(5, 0.2) for name in sb.NAMES})
    with pytest.raises(ValueError, match="both classes"):
        made.table()
