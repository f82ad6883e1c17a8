"""A step is a task, or a plain call with the same retries."""

from __future__ import annotations

import pytest
from prefect import Task

from tasks import monitor
from tasks.steps import is_sparing, sparing, step


def test_a_step_is_called_plainly_and_tried_again_in_a_round():
    calls = []

    @step(retries=2, retry_delay_seconds=0)
    def work(x, *, y):
        """Say it."""
        calls.append((x, y))
        if len(calls) < 3:
            raise OSError("locked")
        return x + y

    assert isinstance(work, Task)
    assert work.fn.__doc__ == "Say it."
    assert (work.retries, work.name) == (2, "work")
    with sparing():
        assert is_sparing()
        assert work(1, y=2) == 3  # without a flow, a server, or a run
        calls.clear()
        work.retries = 1
        with pytest.raises(OSError, match="locked"):
            work(1, y=2)
    assert len(calls) == 2
    assert not is_sparing()


def test_the_steps_of_a_check_are_such():
    for one in (monitor.current_window, monitor.measure, monitor.decide):
        assert type(one).__name__ == "Step"
    assert monitor.measure.retries == 2


@pytest.mark.prefect
def test_outside_a_round_it_is_a_task_run():
    from prefect import flow
    from prefect.context import TaskRunContext

    @step()
    def named():
        return TaskRunContext.get().task_run.name

    @flow
    def all_of_it():
        return named()

    assert all_of_it().startswith("named")
