"""Make a Prefect server know the work pool, its queues, and every model's deployments.

All of it may be asked for again, by several at once: what is as it should be is left alone, so that
a deployment that somebody has paused stays paused, and runs that wait are kept.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments import automations, environment, notifications
from deployments.definitions import POOL, Model, definitions, digest

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

# Of the work pool's queues, 1 the highest: what watches never waits behind what trains.
PRIORITIES: Mapping[str, int] = {
    "watch": 1,
    "rollout": 2,
    "reconcile": 3,
    "report": 4,
    "retrain": 5,
}


async def pool(client: PrefectClient, name: str = POOL, *, retrains: int = 1) -> None:
    """The pool of processes, and its queues; at most `retrains` run at once, of all models.

    A pool that is there keeps its type, so that Kubernetes may work it.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker

        template = ProcessWorker.get_default_base_job_template()
        fresh = WorkPoolCreate(name=name, type="process", base_job_template=template)
        with contextlib.suppress(ObjectAlreadyExists):  # another runner was faster
            await client.create_work_pool(fresh)
    for queue, priority in PRIORITIES.items():
        limit = retrains if queue == "retrain" else None
        await _queue(client, name, queue, priority, limit)


async def _queue(
    client: PrefectClient, pool: str, name: str, priority: int, limit: int | None
) -> None:
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        found = await client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        try:
            await client.create_work_queue(
                name, work_pool_name=pool, priority=priority, concurrency_limit=limit
            )
            return
        except ObjectAlreadyExists:
            found = await client.read_work_queue_by_name(name, work_pool_name=pool)
    if (found.priority, found.concurrency_limit) != (priority, limit):
        # this method of the client names the queue by its id, and so finds it in every pool
        await client.update_work_queue(found.id, priority=priority, concurrency_limit=limit)


async def model(
    client: PrefectClient,
    one: Model,
    name: str = POOL,
    *,
    act: bool = True,
    elsewhere: bool = True,
    only: frozenset[str] | None = None,
    paused: tuple[str, ...] = (),
) -> dict[str, UUID]:
    """The deployments of one model and their ids, by flow; `only` some of them, if it is given."""
    found: dict[str, UUID] = {}
    for flow, defined in definitions(
        one, name, act=act, elsewhere=elsewhere, paused=paused
    ).items():
        if only is None or flow in only:
            found[flow] = await _deployment(client, one, defined)
            await automations.ensure(client, found[flow], defined.get("triggers", []))
    await notifications.ensured(client, one.config)
    return found


async def _deployment(client: PrefectClient, one: Model, defined: dict[str, Any]) -> UUID:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
    from prefect.exceptions import ObjectNotFound
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    flow = load_flow_from_entrypoint(defined["entrypoint"])
    try:
        there = await client.read_deployment_by_name(f"{flow.name}/{defined['name']}")
    except ObjectNotFound:
        there = None
    variables = await job_variables(client, one, defined["work_pool"]["name"])
    version = digest({**defined, "job": variables})
    if there is not None and there.version == version:
        return there.id
    schedules = [
        DeploymentScheduleCreate(
            slug=given["slug"],
            active=given["active"],
            schedule=CronSchedule(cron=given["cron"], timezone=given["timezone"])
            if "cron" in given
            else IntervalSchedule(interval=given["interval"], timezone=given["timezone"]),
        )
        for given in defined.get("schedules", [])
    ]
    alone = defined["concurrency_limit"]
    return await client.create_deployment(
        flow_id=await client.create_flow(flow),
        name=defined["name"],
        version=version,
        description=defined["description"],
        tags=defined["tags"],
        entrypoint=defined["entrypoint"],
        parameters=defined["parameters"],
        parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=defined["work_pool"]["name"],
        work_queue_name=defined["work_pool"]["work_queue_name"],
        schedules=schedules,
        concurrency_limit=alone["limit"],
        concurrency_options=ConcurrencyOptions(collision_strategy=alone["collision_strategy"]),
        pull_steps=[],
        job_variables=variables,
    )


async def job_variables(client: PrefectClient, one: Model, pool: str) -> dict[str, Any]:
    """How a process worker starts a run: this Python, everfit's settings, in the runs folder.

    -P keeps a folder `models` where the run stands from hiding the package of that name. A pool of
    another type has its own ways, and gets none of this.
    """
    if (await client.read_work_pool(pool)).type != "process":
        return {}
    one.config.folder.mkdir(parents=True, exist_ok=True)
    return {
        "command": shlex.join([sys.executable, "-P", "-m", "prefect.engine"]),
        "working_dir": str(one.config.folder),
        "env": dict(environment.DEFAULTS),
    }
