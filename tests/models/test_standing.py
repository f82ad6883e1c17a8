"""What stood before stays unless it is certainly behind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.metrics import objective
from models.records import Trial
from models.search import trial_from_json, trial_to_json
from models.search.standing import PARTS, ahead, parts, settled

OLD, NEW = {"x": 0.5}, {"x": 0.9}


def scored(params, number, better, rows, seed=3):
    """A trial whose probabilities of the truth are `better` than a half, in log odds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=rows)
    odds = rng.normal(size=rows) + np.random.default_rng(number).normal(scale=0.5, size=rows)
    truth = 1 / (1 + np.exp(-odds - better))
    proba = np.where(np.arange(2)[None, :] == y[:, None], truth[:, None], 1 - truth[:, None])
    score = objective("log_loss")
    return Trial(number, params, "complete", score(y, proba), 0.1, 0, parts=parts(score, y, proba))


@pytest.mark.parametrize(("rows", "stays"), [(240, True), (60_000, False)])
def test_a_little_better_is_luck_on_few_rows_and_better_on_many(rows, stays):
    old, new = scored(OLD, 0, 0.0, rows), scored(NEW, 1, 0.03, rows)
    new = Trial(**{**trial_to_json(new), "loss": min(new.loss, old.loss - 1e-6)})
    chosen, why = settled(new, [old, new], [OLD])
    assert chosen.number == (0 if stays else 1)
    assert bool(why) is stays
    if stays:
        assert why.startswith("trial 0 stood before and stays: trial 1 is ahead of it by")


def test_a_worse_score_is_not_called_ahead():
    old, new = scored(OLD, 0, 0.5, 240), scored(NEW, 1, 0.0, 240)
    chosen, why = settled(new, [old, new], [OLD])
    assert (chosen, why) == (
        old,
        "trial 0 stood before and stays: trial 1 is not ahead of it",
    )


def test_much_better_is_better_on_few_rows_too():
    old, new = scored(OLD, 0, 0.0, 240), scored(NEW, 1, 1.0, 240)
    assert settled(new, [old, new], [OLD]) == (new, "")


def test_the_error_is_that_of_the_difference():
    """Of 400 pairs that differ by luck alone, about a sixth is ahead by more than its error."""
    ahead_of = 0
    for n in range(400):
        old, new = (scored({"x": float(k)}, 2 * n + k, 0.0, 240, seed=n) for k in (0, 1))
        gain, error = ahead(new, old)
        assert gain == pytest.approx(old.loss - new.loss, abs=1e-6)
        ahead_of += gain > error
    assert 40 < ahead_of < 90  # 64, in the mean


def test_without_parts_the_best_is_chosen():
    old, new = scored(OLD, 0, 0.0, PARTS), scored(NEW, 1, 0.0, PARTS)
    assert old.parts == ()
    assert settled(new, [old, new], [OLD]) == (new, "")
    one_class = np.zeros(600, dtype=np.int64)
    one_class[0] = 1
    assert parts(objective("one_minus_auc"), one_class, np.full((600, 2), 0.5)) == ()


def test_parts_are_kept_with_the_trial():
    trial = scored(OLD, 0, 0.0, 240)
    assert len(trial.parts) == PARTS
    assert trial_from_json(json.loads(json.dumps(trial_to_json(trial)))) == trial
