"""A block that takes too long ends with one fault, and a quick one with none."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from models.families.base import FitTimeout
from models.watchdog import within


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


@pytest.mark.parametrize("away", [False, True])
def test_a_loop_is_stopped_in_any_thread(away):
    found = []

    def work():
        began = time.monotonic()
        try:
            within(0.1, lambda: spin(5))
        except FitTimeout as fault:
            found.append((time.monotonic() - began, str(fault)))

    if away:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
    ((seconds, message),) = found
    assert 0.1 <= seconds < 1.5
    assert "0.1 s" in message
    spin(0.6)  # nothing comes after


def test_what_swallows_the_first_stop_gets_another():
    def stubborn():
        with contextlib.suppress(BaseException):
            spin(5)
        spin(5)

    with pytest.raises(FitTimeout):
        within(0.05, stubborn)


@pytest.mark.parametrize("work", [0.0, 0.002])
def test_work_that_ends_at_the_very_limit_is_either_whole_or_stopped(work):
    """The stop never comes after the work, whenever it was fired, nor leaves anything behind."""
    ended = {"whole": 0, "stopped": 0}
    before = threading.active_count()
    for round_ in range(300):
        try:
            assert within(work * (1 + round_ % 7 / 20), lambda: spin(work) or 7) == 7
            ended["whole"] += 1
        except FitTimeout:
            ended["stopped"] += 1
        spin(0.0005)
    assert sum(ended.values()) == 300
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before  # no watchdog stays


def test_a_fault_inside_stays_itself_and_an_answer_comes_back():
    with pytest.raises(ZeroDivisionError):
        within(30.0, lambda: 1 / 0)
    assert within(None, lambda: 3) == within(1e12, lambda: 3) == 3
