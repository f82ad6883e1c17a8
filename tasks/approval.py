"""Promotion by people: a challenger that passed its gate waits for somebody's word.

What was asked and answered is kept as tags of the version in the registry, so it survives every
process. A shadow may run meanwhile, since it answers nobody.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from monitoring.rollout import Reading
from tasks import events, places

if TYPE_CHECKING:
    from models.records import Release
    from models.registry_approvals import Approval
    from tasks.config import Config

log = logging.getLogger(__name__)

EVERFIT = "everfit"  # who ends what nobody answered


@task(cache_policy=NO_CACHE)
def ask(config: Config, challenger: Release, opponent: str | None, now: datetime) -> Approval:
    """Ask for a word on the challenger, once; what was answered meanwhile comes back."""
    from tasks import approval_page

    registry = places.registry(config)
    asked = registry.ask(
        challenger.version, opponent=opponent, until=now + config.approval_within, now=now
    )
    if asked.waits:
        approval_page.show(config, challenger, asked)
        told = {
            "version": asked.version,
            "against": asked.opponent,
            "until": asked.until,
            "window_id": challenger.window_id,
            "why": challenger.tags.get("gate_reason", "")[:2_000],
        }
        events.emit(config, "everfit.approval.needed", told, key=f"{asked.version} {asked.asked}")
    return asked


@task(cache_policy=NO_CACHE)
def heard(config: Config, now: datetime) -> Approval | None:
    """What has become of the question about the challenger; None where nothing was asked.

    A word in the tag is taken, and what nobody can approve any more is ended: too late, overtaken,
    or not needed by the config of now.
    """
    from models.registry_approvals import approval, ruling, word

    registry = places.registry(config)
    challenger = registry.challenger()
    found = approval(challenger)
    if challenger is None or found is None or not found.waits:
        return found
    if config.approval != "required":
        why = "the config asks for no approval any more"
        return settle(config, found.version, "waived", EVERFIT, why, EVERFIT, now)
    said, why, by = word(challenger)
    if said is not None:
        return settle(config, found.version, said, by, why, "tag", now)
    champion = registry.champion()
    state, why = ruling(
        found, "needed", champion.version if champion else None, challenger.version, now
    )
    if state != "needed":
        return settle(config, found.version, state, EVERFIT, why, EVERFIT, now)
    return found


@task(cache_policy=NO_CACHE)
def settle(
    config: Config,
    version: str,
    said: Any,
    by: str,
    why: str,
    how: str,
    now: datetime,
    *,
    force: bool = False,
) -> Approval:
    """Take a word, tell of what it came to, and let the policy know of a challenger that goes."""
    from tasks import approval_page

    registry = places.registry(config)
    if force:
        after = registry.force(version, by=by, why=why, now=now)
    else:
        after = registry.settle(version, said, by=by, why=why, how=how, now=now)
    log.info("%s: %s", config.name, after)
    told = {
        "version": version,
        "state": after.state,
        "by": after.by,
        "why": after.why[:2_000],
        "how": after.how,
        "forced": after.forced,
    }
    name: Any = "everfit.approved" if after.passed else "everfit.rejected"
    events.emit(config, name, told, key=f"{version} {after.state} {after.at}")
    approval_page.show(config, registry.version(version), after)
    return after


@task(cache_policy=NO_CACHE)
def complete(config: Config, given: Approval, now: datetime) -> None:
    """What follows from a word that was taken, in case its process died before that."""
    places.registry(config).settle(
        given.version, given.state, by=given.by, why=given.why, how=given.how, now=now
    )


def reading(config: Config, challenger: Release, opponent: str | None, now: datetime) -> Reading:
    """What the guards' table says of it; it holds what would answer callers while it waits."""
    from models.registry_approvals import approval

    found = approval(challenger) or ask(config, challenger, opponent, now)
    return Reading("approval", None, None, reason=str(found), holds=not found.passed)


def told(config: Config) -> dict[str, Any] | None:
    """The newest question asked of people as plain values: the challenger's, or the champion's."""
    from dataclasses import asdict

    from models.errors import AliasLost
    from models.registry_approvals import approval

    registry = places.registry(config)
    found = approval(registry.challenger())
    if found is None:
        try:
            found = approval(registry.champion())
        except AliasLost:
            return None
    return None if found is None else {**asdict(found), "said": str(found), "waits": found.waits}


def of(config: Config, version: str | None) -> str:
    """What people said of one version, in a sentence; '' where nobody was asked."""
    from models.errors import RegistryFault
    from models.registry_approvals import approval

    if version is None:
        return ""
    try:
        found = approval(places.registry(config).version(version))
    except RegistryFault:  # deleted meanwhile
        return ""
    return "" if found is None else str(found)
