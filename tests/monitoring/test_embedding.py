"""Mixed columns as points: scales, missing values, levels, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from monitoring.embedding import Embedding
from monitoring.errors import WindowFault

COLUMNS = {"temp": "number", "carrier": "category"}


def frame(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"temp": rng.normal(50, 20, rows), "carrier": rng.choice(["AA", "B6", "UA"], rows)}
    )


def test_numbers_are_standardised_on_the_reference():
    embedding = Embedding.fit(frame(), COLUMNS)
    points = embedding.transform(frame())
    assert points.dtype == np.float32
    assert points.shape == (500, 2 + 5)
    assert points[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert points[:, 0].std() == pytest.approx(1, abs=1e-4)
    moved = embedding.transform(frame().assign(temp=lambda f: f["temp"] + 20))
    assert (moved[:, 0] - points[:, 0]).mean() == pytest.approx(1, abs=0.1)


def test_every_column_has_a_like_say():
    points = Embedding.fit(frame(2_000), COLUMNS).transform(frame(2_000))
    a, b = points[:1_000], points[1_000:]
    squared = (a - b) ** 2
    assert squared[:, :2].sum(axis=1).mean() == pytest.approx(2, rel=0.15)
    assert squared[:, 2:].sum(axis=1).mean() == pytest.approx(4 / 3, rel=0.15)  # 3 even levels


def test_missing_values_have_a_coordinate_of_their_own():
    embedding = Embedding.fit(frame(), COLUMNS)
    gaps = frame(3)
    gaps["temp"] = [None, "not a number", 50.0]
    gaps["carrier"] = [None, np.nan, "AA"]
    points = embedding.transform(gaps)
    assert np.isfinite(points).all()
    assert points[:2, 0].tolist() == [0, 0]
    assert points[:, 1].tolist() == [1, 1, 0]
    assert points[:, -1].tolist() == [1, 1, 0]
    assert points[:, 2:].sum(axis=1).tolist() == [1, 1, 1]


def test_a_new_category_is_other():
    embedding = Embedding.fit(frame(), COLUMNS)
    points = embedding.transform(pd.DataFrame({"temp": [1.0], "carrier": ["ZZ"]}))
    assert embedding.names[int(points[0, 2:].argmax()) + 2] == "carrier = other"
    assert len(embedding.names) == points.shape[1]


def test_wild_values_are_cut_off():
    embedding = Embedding.fit(frame(), COLUMNS)
    wild = pd.DataFrame({"temp": [1e308, -np.inf, np.inf], "carrier": "AA"})
    assert embedding.transform(wild)[:, 0].tolist() == [6, -6, 6]


@pytest.mark.parametrize("values", [[1e308, -1e308, 1e308], [np.inf, np.nan, -np.inf], [None] * 3])
def test_a_hopeless_reference_column_still_gives_finite_points(values):
    reference = pd.DataFrame({"temp": values, "carrier": ["AA"] * 3})
    points = Embedding.fit(reference, COLUMNS).transform(reference)
    assert np.isfinite(points).all()


def test_a_constant_column_counts_a_change_in_its_own_unit():
    reference = frame().assign(temp=5.0)
    embedding = Embedding.fit(reference, COLUMNS)
    assert not embedding.transform(reference)[:, 0].any()
    assert embedding.transform(reference.assign(temp=7.0))[0, 0] == 2


def test_many_levels_keep_the_frequent_ones():
    rng = np.random.default_rng(0)
    reference = pd.DataFrame({"c": [f"v{int(v)}" for v in rng.exponential(20, 3_000)]})
    embedding = Embedding.fit(reference, {"c": "category"})
    points = embedding.transform(reference)
    assert points.shape[1] == 34
    assert 0 < points[:, 32].mean() < 0.5


def test_whole_numbers_are_one_category_with_or_without_a_gap():
    embedding = Embedding.fit(pd.DataFrame({"c": [1, 2, 3]}), {"c": "category"})
    with_gap = embedding.transform(pd.DataFrame({"c": [1, 2, None]}))  # floats now
    assert with_gap.argmax(axis=1).tolist() == [0, 1, 4]
    flags = Embedding.fit(pd.DataFrame({"c": [True, False]}), {"c": "category"})
    assert flags.transform(pd.DataFrame({"c": [True]})).argmax() == 1


def test_row_order_does_not_matter():
    reference = frame()
    shuffled = reference.sample(frac=1.0, random_state=1)
    ours, theirs = Embedding.fit(reference, COLUMNS), Embedding.fit(shuffled, COLUMNS)
    assert np.allclose(ours.transform(reference), theirs.transform(reference), atol=1e-6)


def test_no_rows_embed_to_no_points():
    embedding = Embedding.fit(frame(), COLUMNS)
    assert embedding.transform(frame().head(0)).shape == (0, 7)


def test_what_cannot_be_embedded_is_refused():
    with pytest.raises(WindowFault, match="'carrier'"):
        Embedding.fit(frame()[["temp"]], COLUMNS)
    with pytest.raises(WindowFault, match="at least one column"):
        Embedding.fit(frame(), {})
    with pytest.raises(WindowFault, match="'text'"):
        Embedding.fit(frame(), {"carrier": "text"})
    with pytest.raises(WindowFault, match="'temp'"):
        Embedding.fit(frame(), COLUMNS).transform(frame()[["carrier"]])
