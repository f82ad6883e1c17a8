"""Make a Prefect server know the rounds: one deployment for each schedule, whatever the models."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments import environment

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from deployments.definitions import Model

MANY = 8  # from so many models on, a round costs less than a process for each check
BESIDE = frozenset({"retrain", "report"})  # what each model has of its own all the same


def processes(cores: int | None = None) -> int:
    """How many check at once: half of the cores, since training and servers want some too."""
    return max(1, (cores or os.cpu_count() or 1) // 2)


async def ensure(
    client: PrefectClient, models: Sequence[Model], pool: str, *, act: bool = True, workers: int = 1
) -> dict[str, UUID]:
    """The deployments `round/NAME`, by name. What is as it should be is left alone."""
    by_cron: dict[str, list[Model]] = {}
    for model in models:
        by_cron.setdefault(model.config.schedule.cron, []).append(model)
    folder = models[0].config.folder.parent / "rounds"
    return {
        name_of(cron): await _deployment(client, cron, members, pool, folder, act, workers)
        for cron, members in by_cron.items()
    }


def name_of(cron: str) -> str:
    """What the round of a schedule is called.

    >>> name_of("*/5 6-18 * * 1-5")
    'every-5-6-18-every-every-1-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", cron.lower().replace("*/", "every-").replace("*", "every"))


async def _deployment(
    client: PrefectClient,
    cron: str,
    models: Sequence[Model],
    pool: str,
    folder: Path,
    act: bool,
    workers: int,
) -> UUID:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.callables import parameter_schema

    from deployments.rounds.flow import round_of_checks

    name = name_of(cron)
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / f"{name}.txt"
    listed.write_text("".join(f"{m.file.expanduser().resolve()}\n" for m in models), "utf-8")
    parameters = {
        "name": name,
        "configs": [f"@{listed}"],  # parameters are kept with every run
        "place": str(folder / f"{name}.json"),
        "cron": cron,
        "act": act,
        "workers": workers,
    }
    variables: dict[str, Any] = {}
    if (await client.read_work_pool(pool)).type == "process":
        variables = {
            "command": shlex.join([sys.executable, "-P", "-m", "prefect.engine"]),
            "working_dir": str(folder),
            "env": dict(environment.DEFAULTS),
        }
    version = _digest([cron, parameters, pool, variables])
    try:
        there = await client.read_deployment_by_name(f"{round_of_checks.name}/{name}")
        if there.version == version:
            return there.id
    except ObjectNotFound:
        pass
    return await client.create_deployment(
        flow_id=await client.create_flow(round_of_checks),
        name=name,
        version=version,
        description=f"Check the models that are checked at '{cron}', in warm processes.",
        tags=["everfit"],
        entrypoint="deployments.rounds.flow.round_of_checks",
        parameters=parameters,
        parameter_openapi_schema=parameter_schema(round_of_checks).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=pool,
        work_queue_name="watch",
        schedules=[
            DeploymentScheduleCreate(
                slug="rounds", active=True, schedule=CronSchedule(cron=cron, timezone="UTC")
            )
        ],
        concurrency_limit=1,
        # a round that takes longer than its period is followed by the next one that is due
        concurrency_options=ConcurrencyOptions(
            collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        pull_steps=[],
        job_variables=variables,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
