"""One run per window: of two that are started for the same try of a window, the first works.

An event may come twice, two schedulers may hear it, and a restart may lie between. Prefect starts a
run each time. The window and its try are the key: every later run with that key ends at once, and
says which run has its work. What the stores know, `tasks.claims`, stands behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasks.safety import WEEKLY

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import State

_LOOKED_AT = 200  # newest runs of a deployment


def key(run: FlowRun) -> tuple[str, int] | None:
    """The window and its try that a run is for; None for one that names no window."""
    window = run.parameters.get("window_id", WEEKLY)
    return None if window == WEEKLY else (str(window), int(run.parameters.get("attempt") or 0))


def first_of(runs: Sequence[FlowRun], run: FlowRun) -> FlowRun:
    """The run among `runs` and `run` that has the work of `run`'s key: the one created first.

    A run that was cancelled has no work; one that failed or crashed had its try.
    """
    same = [
        one
        for one in runs
        if key(one) == key(run) and not (one.state is not None and one.state.is_cancelled())
    ]
    return min([*same, run], key=lambda one: (one.created, str(one.id)))


async def another_has_it() -> State[Any] | None:
    """The state in which this run ends if an earlier one has its window; None if it has none."""
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext
    from prefect.states import Cancelled

    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.deployment_id is None or key(run) is None:
        return None
    async with get_client() as client:
        first = first_of(await _newest(client, [run.deployment_id]), run)
    return None if first.id == run.id else Cancelled(message=_told(first))


async def clear(client: PrefectClient, deployments: Sequence[UUID]) -> int:
    """Cancel runs that wait and whose window an earlier one has. Returns how many."""
    from prefect.states import Cancelled

    cancelled = 0
    for deployment in deployments:
        runs = await _newest(client, [deployment])
        for run in runs:
            waits = run.state is not None and run.state.is_scheduled() and run.run_count == 0
            if not waits or key(run) is None:
                continue
            first = first_of(runs, run)
            if first.id != run.id:
                await client.set_flow_run_state(run.id, Cancelled(message=_told(first)), force=True)
                cancelled += 1
    return cancelled


def _told(first: FlowRun) -> str:
    return f"the run {first.name} ({first.id}) has this window"


async def _newest(client: PrefectClient, deployments: Sequence[UUID]) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"deployment_id": {"any_": [*deployments]}}),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_LOOKED_AT,
    )
