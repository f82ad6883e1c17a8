"""What a picture of a search shows, whatever the search was like; and that its words fit."""

from __future__ import annotations

import itertools
import warnings

import pytest

from models import families
from models.records import Trial
from models.search import RandomSearch
from models.search.controller import Controller
from models.search.objectives import Limit, Objective
from models.space import Categorical, Float, Space
from tasks.tuning_pictures import Shown, compose, drawn, span

PLAIN = Objective("log_loss")
BOUND = Objective("accuracy", {"micro": 0.02}, (Limit("latency_p95_ms", 4.0),))


def searched(space, goal, *, kind=Controller, count=14, importance=True):
    searcher = kind(space, seed=1)
    tell = getattr(searcher, "distribution", dict)
    before, trials = tell(), []
    for number in range(count):
        params = searcher.ask()
        x = space.encode(params)[-1]
        metrics = {"log_loss": 0.4 + x / 10, "accuracy": 0.8 - x / 10, "latency_ms": 1 + 5 * x}
        metrics["latency_p95_ms"] = 1.5 * metrics["latency_ms"]
        reference = trials[0].metrics if trials else metrics
        done = Trial(number, params, "complete", goal.told(metrics, reference), 1.0, 0, metrics)
        if number == 3:
            done = Trial(number, params, "failed", None, 1.0, 0, {}, "MemoryError: no more")
        if goal is PLAIN and number in (5, 8):
            end = 0.46 if number == 5 else 2.0
            done = Trial(
                number, params, "stopped", end, 0.2, 0, fidelity=0.25, curve=((0.25, end),)
            )
        searcher.tell(done)
        trials.append(done)
    shares = {p.name: 1 / len(space) for p in space.parameters} if importance else {}
    complete = [t for t in trials if t.status == "complete"]
    chosen = min(complete, key=lambda t: t.loss, default=None)
    return Shown(
        space, tuple(trials), goal, chosen, before, tell(), shares, "tiny: controller", "all spent"
    )


def texts(canvas):
    """Every piece of text that is drawn, with its box in pixels."""
    from matplotlib.text import Text

    canvas.canvas.draw()
    undrawn = set()  # matplotlib keeps labels of ticks beyond the view
    for axis in (axis for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                undrawn |= {tick.label1, tick.label2}
    found = canvas.findobj(lambda a: isinstance(a, Text) and a.get_visible() and a not in undrawn)
    return [(t.get_text(), t.get_window_extent()) for t in found if t.get_text().strip()]


FAMILIES = families.space(["logistic", "hgb"])
MANY = Space((*(Float(f"parameter_{i}", 0.0, 1.0) for i in range(30)), Categorical(
    "a_choice_with_a_very_long_name_indeed", tuple(f"option_{i}" for i in range(40))
)))  # fmt: skip


@pytest.mark.parametrize("goal", [PLAIN, BOUND])
@pytest.mark.parametrize("space", [FAMILIES, MANY])
def test_no_words_overlap_or_leave_the_picture(space, goal):
    canvas = compose(searched(space, goal))
    words = texts(canvas)
    assert any("Importance" in text for text, _ in words)
    for text, box in words:
        assert box.x0 >= 0, text
        assert box.x1 <= canvas.bbox.width, text
        assert box.y0 >= 0, text
        assert box.y1 <= canvas.bbox.height, text
    for (a, first), (b, second) in itertools.combinations(words, 2):
        if a != b:
            across = min(first.x1, second.x1) - max(first.x0, second.x0)
            down = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert across < 2 or down < 3, (a, b)


def test_a_picture_says_what_failed_and_what_is_beyond_a_limit():
    shown = searched(FAMILIES, BOUND)
    words = [text for text, _ in texts(compose(shown))]
    assert "failed (1)" in words
    assert any(text.startswith("beyond a limit") for text in words)
    assert "latency_p95_ms <= 4" in words
    assert "chosen" in words


def test_a_picture_tells_trials_stopped_early_from_those_that_failed():
    words = [text for text, _ in texts(compose(searched(FAMILIES, PLAIN)))]
    assert "failed (1)" in words
    assert "stopped early (2)" in words


@pytest.mark.parametrize(
    "shown",
    [
        searched(FAMILIES, PLAIN, kind=RandomSearch, importance=False),
        searched(Space((Float("x", 0.0, 1.0),)), BOUND, count=1),
        searched(Space((Categorical("only", ("one",)),)), PLAIN, count=0),
    ],
    ids=["without a policy", "one trial", "nothing"],
)
def test_any_search_is_drawn(shown, tmp_path, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = drawn(shown, tmp_path / "deep" / "tuning.png")
    assert path is not None, caplog.text
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_fault_in_drawing_is_logged_and_stops_nothing(tmp_path, caplog):
    shown = searched(FAMILIES, PLAIN, count=2)
    (tmp_path / "file").write_text("")
    assert drawn(shown, tmp_path / "file" / "tuning.png") is None
    assert "was not drawn" in caplog.text


def test_one_trial_that_went_wrong_does_not_hide_the_others():
    assert span([0.40, 0.41, 0.42, 0.43, 9.0])[1] < 0.5
    assert span([0.4, 0.41]) == (0.4, pytest.approx(0.41))
    low, high = span([0.3])
    assert low < high
