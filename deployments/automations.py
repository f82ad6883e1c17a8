"""What starts a retrain when a check asks for one: the triggers of a deployment, as automations.

They are those of prefect.yaml, one per model, so the same whether a runner or `prefect deploy`
makes them. Prefect starts a run for each event; which of two that are about one window works, is
for `tasks.once` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.definitions import digest

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


async def ensure(
    client: PrefectClient, deployment: UUID, triggers: Sequence[dict[str, Any]]
) -> None:
    """Have the deployment started by `triggers`, each under its name and once.

    One that is as it should be is left alone, so that somebody's pause of it stays.
    """
    from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

    for given in triggers:
        trigger = DeploymentEventTrigger.model_validate(given)
        trigger.set_deployment_id(deployment)
        mark = digest({**given, "deployment": str(deployment)})
        wanted = trigger.as_automation().model_copy(
            update={"description": f"{given.get('description', '')} ({mark})".strip()}
        )
        there = await client.read_automations_by_name(wanted.name)
        same = [one for one in there if one.description == wanted.description][:1]
        for other in there:
            if other not in same:
                await client.delete_automation(other.id)
        if not same:
            await client.create_automation(wanted)
