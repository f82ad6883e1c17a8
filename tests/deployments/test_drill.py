"""The drill's own parts: its points are real functions, and each strikes once, where it says."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

from deployments.drill import run
from deployments.drill.points import RETRAIN, ROLLBACK, SHORT, Point, arm, both
from deployments.processes import StackFault


@pytest.mark.timeout(240)  # the first one imports what they are in
@pytest.mark.parametrize("point", [*RETRAIN, *ROLLBACK], ids=lambda point: point.said)
def test_each_point_is_a_function_of_the_product(point: Point) -> None:
    module, _, path = point.target.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(getattr(found, "fn", found))


def test_the_points_differ_and_the_short_ones_are_among_them() -> None:
    names = [point.said for point in (*RETRAIN, *ROLLBACK)]
    assert len(set(names)) == len(names)
    assert set(SHORT) <= set(names)


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("product_of_the_drill")
    module.done = []  # type: ignore[attr-defined]

    def call(method: str, *rest: str) -> str:
        module.done.append((method, *rest))
        return method

    module.call = call  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_point_strikes_once_at_its_turn(product: ModuleType) -> None:
    before, after = both("x", f"{product.__name__}:call", first="move", argument="champion", turn=2)
    seen: list[tuple[str, int]] = []
    arm(before, lambda: seen.append(("before", len(product.done))))
    arm(after, lambda: seen.append(("after", len(product.done))))
    for method, *rest in (
        ("tag", "champion"),
        ("move", "challenger"),
        ("move", "champion"),
        ("move", "champion"),
        ("move", "champion"),
    ):
        assert product.call(method, *rest) == method
    assert len(product.done) == 5
    assert seen == [("before", 3), ("after", 4)]


def test_faults_are_chosen_by_words_of_their_names() -> None:
    assert run.chosen(("the alias moves",), short=False, patroni=False) == [
        "kill -9 before the alias moves",
        "kill -9 after the alias moves",
    ]
    assert len(run.chosen((), short=True, patroni=False)) == len(SHORT)
    assert run.FAIL_OVER not in run.chosen((), short=False, patroni=False)
    assert run.chosen((), short=False, patroni=True) == [run.FAIL_OVER]
    with pytest.raises(StackFault, match="got no such fault: correct it"):
        run.chosen(("no such fault",), short=False, patroni=False)
