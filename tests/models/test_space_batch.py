"""Many points at once: the same answers as one by one, and much faster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SpaceFault
from models.space import Categorical, Float, Int, Ordinal, Space, join

MIXED = Space(
    (
        Categorical("kernel", ("linear", "rbf", "poly", True, 1)),
        Float("gamma", 1e-3, 1.0, log=True, when=("kernel", ("rbf", "poly"))),
        Float("shift", -1.0, 3.0),
        Float("point", 2.0, 2.0),
        Float("edge", 0.0, 1.0),
        Int("at_edge", 1, 3, when=("edge", (0.0, 1))),
        Int("degree", 2, 5, when=("kernel", "poly")),
        Int("rounds", 1, 4, log=True),
        Int("many", 1, 100_000, log=True),
        Int("depth", 1, 9, when=("rounds", (1, 2))),
        Ordinal("scale", (0.5, 1, 2), when=("degree", (4, 5))),
        Ordinal("flag", (True, 1, "x"), when=("scale", 1)),
    )
)
WIDE = join({str(i): MIXED for i in range(3)})
UNITS = st.lists(
    st.lists(
        st.one_of(st.floats(-0.2, 1.2), st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0))),
        min_size=len(MIXED),
        max_size=len(MIXED),
    ),
    max_size=8,
).map(lambda rows: np.array(rows).reshape(-1, len(MIXED)))


def discrete(space: Space) -> list[int]:
    return [j for j, p in enumerate(space.parameters) if not isinstance(p, Float)]


@settings(max_examples=200, deadline=None)
@given(UNITS)
def test_many_are_as_one_by_one(units) -> None:
    decoded = [MIXED.decode(row) for row in units]
    assert MIXED.decode_many(units) == decoded
    assert [[type(v) for v in c.values()] for c in MIXED.decode_many(units)] == [
        [type(v) for v in c.values()] for c in decoded
    ]
    encoded = np.array([MIXED.encode(c) for c in decoded]).reshape(-1, len(MIXED))
    assert np.array_equal(MIXED.encode_many(decoded), encoded)
    canonical, active = MIXED.canonical_many(units)
    np.testing.assert_allclose(canonical, encoded, atol=1e-12)
    exact = discrete(MIXED)
    assert np.array_equal(canonical[:, exact], encoded[:, exact])
    assert np.array_equal(active, MIXED.active_mask(decoded))
    names = [p.name for p in MIXED.parameters]
    assert active.tolist() == [[name in c for name in names] for c in decoded]


def test_canonical_points_stay_where_they_are_and_the_input_too() -> None:
    units = np.random.default_rng(0).random((300, len(WIDE)))
    before = units.copy()
    canonical, active = WIDE.canonical_many(units)
    assert np.array_equal(units, before)
    again, active_again = WIDE.canonical_many(canonical)
    np.testing.assert_allclose(again, canonical, atol=1e-12)
    assert np.array_equal(active, active_again)
    assert (canonical[~active] == 0.5).all()
    encoded = np.array([WIDE.encode(WIDE.decode(row)) for row in units])
    np.testing.assert_allclose(canonical, encoded, atol=1e-12)


def test_nothing_and_no_dimension() -> None:
    assert MIXED.decode_many(np.empty((0, len(MIXED)))) == []
    assert MIXED.encode_many([]).shape == (0, len(MIXED))
    assert MIXED.active_mask([]).shape == (0, len(MIXED))
    assert [a.shape for a in MIXED.canonical_many(np.empty((0, len(MIXED))))] == [
        (0, len(MIXED))
    ] * 2
    assert Space(()).decode_many(np.empty((3, 0))) == [{}, {}, {}]
    assert Space(()).canonical_many(np.empty((3, 0)))[0].shape == (3, 0)
    with pytest.raises(SpaceFault, match=r"got shape \(12,\)"):
        MIXED.canonical_many(np.full(len(MIXED), 0.5))
