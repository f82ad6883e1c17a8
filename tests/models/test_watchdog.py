"""A block that takes too long ends with one fault, and a quick one with none."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from models.families.base import FitTimeout
from models.watchdog import stopped_after


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
            with stopped_after(0.1):
                spin(5)
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

    with pytest.raises(FitTimeout), stopped_after(0.05):
        stubborn()


def test_a_block_that_ends_at_the_very_limit_is_either_whole_or_stopped():
    """The stop never comes after the block, whenever it was fired."""
    ended = {"whole": 0, "stopped": 0}
    for _ in range(150):
        try:
            with stopped_after(0.002):
                spin(0.002)
            ended["whole"] += 1
        except FitTimeout:
            ended["stopped"] += 1
        spin(0.001)
    assert sum(ended.values()) == 150


def test_a_fault_inside_stays_itself():
    with pytest.raises(ZeroDivisionError), stopped_after(30.0):
        _ = 1 / 0
    with stopped_after(None):
        pass
