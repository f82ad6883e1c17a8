"""The picture of a shift: readable, the same for equal seeds, and honest about what it draws."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from monitoring import picture
from monitoring.errors import WindowFault
from monitoring.movement import movements
from monitoring.picture import compose, draw_shift

COLUMNS = {
    "temp": "number",
    "a column whose name is much longer than there is room for": "number",
    "cost in $ and $$": "number",
    "flag": "number",
    "stops": "number",
    "carrier": "category",
    "origin": "category",
}


def frame(rows=120, seed=0, moved=False):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "temp": rng.normal(50 + 30 * moved, 20, rows),
            "a column whose name is much longer than there is room for": rng.gamma(
                2, 12345.678 * (1 + 2 * moved), rows
            ),
            "cost in $ and $$": rng.normal(1020 - 9 * moved, 8, rows),
            "flag": rng.random(rows) < 0.2 + 0.6 * moved,
            "stops": rng.integers(0, 4, rows).astype(float),
            "carrier": rng.choice(["AA", "B6", "a very long name of a carrier"], rows),
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows, p=[0.2, 0.3, 0.5]),
        }
    )
    if moved:
        frame.loc[: rows // 3, "carrier"] = "ZZ"
        frame.loc[: rows // 2, "stops"] = None
        frame["origin"] = np.where(frame["origin"] == "LGA", "EWR", frame["origin"])
    return frame


def texts_of(figure):
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    found = list(figure.texts)
    for axes in figure.axes:
        found += [axes.title, axes._left_title, *axes.texts]
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = axis.get_view_interval()  # ticks beyond it are not drawn
                places = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
                found += [t for at, t in places if axis.get_visible() and low <= at <= high]
    seen = [t for t in found if t.get_visible() and t.get_text()]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in seen]
    return [(text, box) for text, box in boxes if box.width > 0]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 8])
def test_no_text_is_cut_off_or_covers_another(count):
    reference, current = frame(), frame(seed=1, moved=True)
    moved = movements(reference, current, COLUMNS)
    assert len(moved) >= 7
    figure = compose(
        reference, current, COLUMNS, moved[:count], None, "Churn: week 12", rows=60, seed=0
    )
    boxes = texts_of(figure)
    whole = figure.bbox
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.x1 <= whole.x1, text
        assert box.y0 >= 0, text
        assert box.y1 <= whole.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart, (one, other)
    said = " ".join(text for text, _ in boxes).replace("\n", " ")
    assert (f"the first 6 of {len(moved[:count])}" in said) == (count > 6)


def test_equal_seeds_give_equal_pictures(tmp_path):
    reference, current = frame(), frame(seed=1, moved=True)
    moved = movements(reference, current, COLUMNS)
    one = draw_shift(reference, current, COLUMNS, tmp_path / "new" / "1.png", moved=moved, rows=60)
    two = draw_shift(reference, current, COLUMNS, tmp_path / "2.png", moved=moved, rows=60)
    assert one.read_bytes() == two.read_bytes()
    assert imread(one).shape == (990, 1800, 4)


def test_islands_are_drawn_where_rows_moved_and_none_where_they_did_not():
    """Share of rows whose nearest neighbour on the picture is of the same side."""

    def same(reference, current, embeddings=None):
        points, late, _ = picture._points(reference, current, COLUMNS, embeddings, 100, 0)
        apart = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        np.fill_diagonal(apart, np.inf)
        return (late[apart.argmin(axis=1)] == late).mean()

    assert same(frame(), frame(seed=1, moved=True)) > 0.8
    assert abs(same(frame(), frame(seed=1)) - 0.5) < 0.15
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(80, 64)), rng.normal(size=(90, 64)) + 1.5
    assert same(None, None, texts) > 0.95


def test_embeddings_need_no_frames(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 16)).astype(np.float32), rng.normal(size=(30, 16))
    path = draw_shift(None, None, {}, tmp_path / "texts.png", embeddings=points, title="Texts")
    assert imread(path).shape == (1050, 1200, 4)


@pytest.mark.parametrize("rows", [2, 5, 9])
def test_few_or_equal_rows_are_drawn(tmp_path, rows):
    still = pd.DataFrame({"a": [1.0] * rows})
    draw_shift(still, still, {"a": "number"}, tmp_path / "still.png")
    mixed = still.assign(b=[None] * rows, c=np.r_[np.inf, np.arange(rows - 1)])
    kinds = {"a": "number", "b": "category", "c": "number"}
    moved = movements(mixed, mixed.assign(a=2.0, b="x"), kinds, level=1.0)
    draw_shift(mixed, mixed.assign(a=2.0, b="x"), kinds, tmp_path / "mixed.png", moved=moved)


def test_names_in_any_script(tmp_path):
    reference = frame().rename(columns={"temp": "気温"})
    current = frame(seed=1, moved=True).rename(columns={"temp": "気温"})
    kinds = {"気温": "number", "carrier": "category"}
    moved = movements(reference, current, kinds)
    draw_shift(reference, current, kinds, tmp_path / "any.png", moved=moved, rows=30)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    moved = movements(frame(), frame(seed=1, moved=True), COLUMNS)
    points = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    for arguments, options in (
        ((frame(1), frame()), {}),
        ((None, frame()), {}),
        ((None, None), {"embeddings": (rng.normal(size=(9, 3)), rng.normal(size=(9, 4)))}),
        ((None, None), {"embeddings": (rng.normal(size=9), rng.normal(size=9))}),
        ((None, None), {"embeddings": points, "moved": moved}),
    ):
        with pytest.raises(WindowFault):
            draw_shift(*arguments, COLUMNS, tmp_path / "no.png", **options)
