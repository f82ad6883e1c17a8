"""Have the Prefect server tell people: a block per receiver, an automation on the model's events.

The URL comes from the environment into an encrypted block, and from there nowhere else. Slack's
incoming webhooks take the same call as any webhook, with another body; so do those that imitate
them. Mail is not among this: Prefect's core has no block for SMTP (`tasks.notify` sends it).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.definitions import digest
from tasks import events, notify, telling

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from tasks.config import Config
    from tasks.config_notify import Notify

log = logging.getLogger(__name__)

_ESCAPED = (
    "{{ (event.payload.message | replace('&', '&amp;') | replace('<', '&lt;') | "
    "replace('>', '&gt;') ~ (' <' ~ event.payload.link ~ '|look>' if event.payload.link else '')) "
    "| tojson }}"
)
# What `tasks.notify` sends, as templates of the event.
TEMPLATES = {
    "slack": '{"text": ' + _ESCAPED + "}",
    "webhook": '{"event": {{ event.event | tojson }}, "model": {{ event.payload.model | tojson }}, '
    '"message": {{ event.payload.message | tojson }}, "link": {{ event.payload.link | tojson }}, '
    '"payload": {{ event.payload | tojson }}}',
}


async def ensured(client: PrefectClient, config: Config) -> list[str]:
    """As `ensure`; a fault is logged, and the receivers are told directly (`tasks.notify`)."""
    try:
        return await ensure(client, config)
    except Exception:
        log.exception("%s: Prefect was not asked to tell people", config.name)
        return []


async def ensure(client: PrefectClient, config: Config) -> list[str]:
    """The model's receivers that this server tells from now on, as `tasks.notify.channel`.

    What is as it should be is left alone, so that somebody's pause of an automation stays; what the
    config has no more is deleted. A receiver whose variable is not set is left out, with a warning.
    """
    found: dict[str, str] = {}
    for entry in config.notify:
        if entry.to.kind == "email":
            continue
        url = os.environ.get(entry.to.variable)
        if not url:
            log.warning("%s: %s is not set: nothing is told there", config.name, entry.to.variable)
            continue
        found[await _automation(client, config, entry, url)] = notify.channel(entry)
    prefix = _prefix(config)
    for other in await client.read_automations():
        if other.name.startswith(prefix) and other.name not in found:
            await client.delete_automation(other.id)
    await _note(client, config, list(found.values()))
    return list(found.values())


async def _note(client: PrefectClient, config: Config, channels: list[str]) -> None:
    """Say on the server whom it tells, for the processes that would tell them otherwise."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate
    from prefect.exceptions import ObjectAlreadyExists

    name = notify.variable(config)
    there = await client.read_variable_by_name(name)
    if there is None and channels:
        with contextlib.suppress(ObjectAlreadyExists):  # another runner was faster
            await client.create_variable(VariableCreate(name=name, value=channels))
    elif there is not None and there.value != channels:
        await client.update_variable(VariableUpdate(name=name, value=channels))


def _prefix(config: Config) -> str:
    return f"everfit tell of {config.name}: "


async def _automation(client: PrefectClient, config: Config, entry: Notify, url: str) -> str:
    """The name of the entry's automation, made or found as it should be."""
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    name = f"{_prefix(config)}{notify.channel(entry)}"[:200]
    block = await _block(client, config, entry, url)
    wanted = {
        "events": telling.events_of(list(entry.on)),
        "block": str(block),
        "payload": TEMPLATES[entry.to.kind],
    }
    mark = digest(wanted)
    there = await client.read_automations_by_name(name)
    if [one for one in there if mark in one.description]:
        return name
    for other in there:
        await client.delete_automation(other.id)
    await client.create_automation(
        AutomationCore(
            name=name,
            description=f"Of everfit's config of {config.name} ({mark})",
            trigger=EventTrigger(
                expect=set(wanted["events"]),
                match={"prefect.resource.id": events.resource_id(config.name)},
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[CallWebhook(block_document_id=block, payload=wanted["payload"])],
        )
    )
    return name


async def _block(client: PrefectClient, config: Config, entry: Notify, url: str) -> UUID:
    """The block with the URL of today; one of another URL is written over."""
    from prefect.blocks.webhook import Webhook
    from pydantic import SecretStr

    parts = ("everfit", config.name, entry.to.kind, entry.to.variable)
    name = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    block: Any = Webhook(
        url=SecretStr(url), headers={"content-type": "application/json; charset=utf-8"}
    )
    return UUID(str(await block.asave(name, overwrite=True, client=client)))
