"""Scheduled runs that came too late: a later one that is due covers them.

A machine that was off for a day has a day of runs waiting. A check looks at the newest rows
whenever it runs, so one is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import State

_MOST = 200  # flow runs in one answer of the server

# A run that begins this late gives way to one that is due. One that is only slow to begin does not:
# on a machine whose runs take longer to begin than the schedule's step, none would ever work.
STALE = timedelta(minutes=15)


def superseded(runs: Iterable[FlowRun]) -> list[FlowRun]:
    """Of runs that a schedule has made and that are due, all but the newest of each deployment."""
    newest: dict[UUID | None, FlowRun] = {}
    old = []
    for run in sorted(runs, key=_due):
        if run.deployment_id in newest:
            old.append(newest[run.deployment_id])
        newest[run.deployment_id] = run
    return old


async def overdue(
    client: PrefectClient, deployments: Sequence[UUID], now: datetime
) -> list[FlowRun]:
    """Runs that a schedule has made, that should have begun before `now` and wait still."""
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    wanted = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": list(deployments)},
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"before_": now},
        }
    )
    found: list[FlowRun] = []
    while deployments:
        page = await client.read_flow_runs(
            flow_run_filter=wanted,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=_MOST,
            offset=len(found),
        )
        found += page
        if len(page) < _MOST:
            break
    return [run for run in found if run.auto_scheduled]


async def clear(client: PrefectClient, deployments: Sequence[UUID], now: datetime) -> int:
    """Cancel the runs that a later one covers. Returns how many."""
    from prefect.states import Cancelled

    old = superseded(await overdue(client, deployments, now))
    for run in old:
        told = Cancelled(message=f"due at {_due(run):%Y-%m-%d %H:%M}: a later one covers it")
        await client.set_flow_run_state(run.id, told, force=True)
    return len(old)


async def covered(now: datetime) -> State[Any] | None:
    """The state in which this run ends at once if a later run of its schedule is due already.

    It catches the runs that a worker took in one go, when the machine slept in between. None for a
    run that is the newest or not stale, or that no schedule has made.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.context import FlowRunContext
    from prefect.states import Cancelled

    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.deployment_id is None or not run.auto_scheduled:
        return None
    if now - _due(run) < STALE:
        return None
    wanted = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": [run.deployment_id]},
            "state": {"type": {"not_any_": ["CANCELLED", "FAILED", "CRASHED"]}},
            "expected_start_time": {"after_": _due(run), "before_": now},
        }
    )
    async with get_client() as client:
        later = await client.read_flow_runs(flow_run_filter=wanted, limit=_MOST)
    due = [other for other in later if other.auto_scheduled and _due(other) > _due(run)]
    if not due:
        return None
    return Cancelled(message=f"one that was due at {_due(due[0]):%Y-%m-%d %H:%M} covers it")


def _due(run: FlowRun) -> datetime:
    due = run.expected_start_time or run.next_scheduled_start_time
    assert due is not None
    return due
