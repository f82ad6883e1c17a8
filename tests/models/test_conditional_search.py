"""A space with conditions is searched in the parameters that count, not in all that there are."""

from __future__ import annotations

import numpy as np
import pytest

from models.search.acquisition import neighbours
from models.search.policy_net import Layout
from models.search.surrogate import Surrogate
from models.space import Categorical, Float, Space

BRANCHES = tuple("abcdefgh")
SPACE = Space(
    (
        Categorical("branch", BRANCHES),
        *(Float(f"{b}{i}", 0.0, 1.0, when=("branch", b)) for b in BRANCHES for i in range(3)),
    )
)
CHOICES = np.array([isinstance(p, Categorical) for p in SPACE.parameters])
COUNTS = np.where(CHOICES, len(BRANCHES), 1)


def test_neighbours_change_what_counts_and_draw_the_rest_anew():
    centre = SPACE.encode({"branch": "c", "c0": 0.2, "c1": 0.5, "c2": 0.7})[None]
    active = SPACE.canonical_many(centre)[1]
    rng = np.random.default_rng(0)
    points = neighbours(centre, CHOICES, COUNTS, 2_000, 0.1, rng, active)
    assert points.shape == (2_000, len(SPACE))
    assert ((points >= 0) & (points <= 1)).all()
    snapped, counts = SPACE.canonical_many(points)
    stayed = snapped[:, 0] == centre[0, 0]
    # of those that stay in the branch, each is another configuration, by about two parameters
    moved = (snapped != centre)[stayed][:, active[0]].sum(axis=1)
    assert (moved == 0).mean() < 0.05  # the branch drawn anew, and it is the same
    assert 1.4 < moved.mean() < 2.4
    assert not (snapped != centre)[stayed][:, ~active[0]].any()
    # a branch that is entered is entered anywhere, not in its middle
    entered = snapped[~stayed][counts[~stayed] & ~active]
    assert entered.std() == pytest.approx(np.sqrt(1 / 12), rel=0.1)


def test_neighbours_without_a_condition_are_as_they_were():
    centres = np.full((1, 3), 0.5)
    flat = (centres, np.zeros(3, dtype=bool), np.ones(3, dtype=np.int64), 500, 0.1)
    points = neighbours(*flat, np.random.default_rng(1))
    assert (points != centres).any(axis=1).all()


def test_what_counts_together_is_the_mean_of_uniform_draws():
    assert Layout(SPACE).together == pytest.approx(4.0)  # the branch and its three
    half = Space((Categorical("on", (False, True)), Float("x", 0.0, 1.0, when=("on", True))))
    assert Layout(half).together == pytest.approx(1.5, abs=0.1)
    flat = Layout(Space(SPACE.parameters[:1]))
    assert (flat.conditional, flat.together) == (False, 1.0)


def test_a_branch_seldom_asked_is_not_believed_to_be_flat():
    """Two of its trials say little of its corner: less than they would by the count of all 25."""
    rows = [{"branch": "a", "a0": 0.5, "a1": x, "a2": 0.5} for x in (0.4, 0.6)]
    points = SPACE.encode_many(rows)
    corner = SPACE.encode({"branch": "a", "a0": 1.0, "a1": 1.0, "a2": 1.0})[None]

    def doubt(together: float) -> float:
        process = Surrogate(points, np.array([0.5, 0.6]), CHOICES, together=together)
        return float(process.predict(corner)[1][0])

    assert doubt(Layout(SPACE).together) > 1.5 * doubt(float(len(SPACE)))
