"""Which of several runs works: one per window and try, the newest of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

from tasks import backlog, once

NOON = datetime(2013, 2, 1, 12, tzinfo=UTC)


def run(minute=0, *, deployment="d", cancelled=False, **parameters):
    when = NOON + timedelta(minutes=minute)
    return SimpleNamespace(
        id=uuid4(),
        name=f"run-{minute}",
        deployment_id=deployment,
        created=when,
        expected_start_time=when,
        next_scheduled_start_time=when,
        parameters=parameters,
        state=SimpleNamespace(is_cancelled=lambda: cancelled),
    )


def test_the_first_run_of_a_window_has_it_whoever_asks():
    first, second = run(0, window_id="w1"), run(1, window_id="w1", attempt=0)
    other, later_try = run(-1, window_id="w2"), run(2, window_id="w1", attempt=1)
    runs = [later_try, second, first, other]
    assert once.first_of(runs, second) is first
    assert once.first_of(runs, first) is first
    assert once.first_of(runs, later_try) is later_try
    assert once.first_of([second], first) is first  # the server may not show a run to itself yet
    gone = run(-5, window_id="w1", cancelled=True)
    assert once.first_of([gone, *runs], second) is first
    assert once.key(run(window_id="weekly")) is None


def test_of_runs_that_a_schedule_made_the_newest_covers_the_others():
    day = [run(60 * hour) for hour in range(24)]
    rest = [run(5, deployment="e")]
    old = backlog.superseded([*day[::-1], *rest])
    assert {one.id for one in old} == {one.id for one in day[:-1]}
    assert backlog.superseded([day[3]]) == []


async def test_only_a_run_that_begins_late_gives_way_to_one_that_is_due(monkeypatch):
    early, late = run(0), run(10)
    for one in (early, late):
        one.auto_scheduled = True
    monkeypatch.setattr(
        "prefect.context.FlowRunContext.get", lambda: SimpleNamespace(flow_run=early)
    )

    class Client:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def read_flow_runs(self, flow_run_filter, limit):
            assert flow_run_filter.expected_start_time.after_ == NOON
            return [late]

    monkeypatch.setattr("prefect.client.orchestration.get_client", Client)
    early.deployment_id = late.deployment_id = uuid4()
    assert await backlog.covered(NOON + timedelta(minutes=14)) is None
    ended = await backlog.covered(NOON + timedelta(minutes=15))
    assert ended is not None
    assert ended.is_cancelled()
    assert "12:10 covers it" in ended.message
    early.auto_scheduled = False
    assert await backlog.covered(NOON + timedelta(days=1)) is None
