"""Promotion and roll-back, each checked by what the server answers, not by what was asked."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import events, places, undo
from tasks.claims import here
from tasks.server import Served, served
from tasks.standing import not_against

if TYPE_CHECKING:
    from models.records import Release
    from tasks.config import Config
    from tasks.undo import Undo

PATIENCE = 60.0  # seconds a running server may take to load a new version


@task(cache_policy=NO_CACHE)
def overtaken(config: Config, version: str, opponent: str | None) -> str:
    """Why `version` may not be promoted now: its opponent is not champion any more. Else ''."""
    champion = places.registry(config).champion()
    now = champion.version if champion else None
    return "" if now in (opponent, version) else not_against(opponent, now)


def ended(challenger: Release) -> str:
    """Why a challenger's roll-out is over, if it ended badly before; else ''."""
    if challenger.tags.get("rolled_back_at"):
        return "it was rolled back before"
    if challenger.tags.get("rejected_at"):
        return challenger.tags.get("rejected_why", "it was rejected before")
    return ""


def version(config: Config, number: str) -> Release:
    """A version as it is now."""
    return places.registry(config).version(number)


@task(cache_policy=NO_CACHE)
def turned_away(config: Config, number: str, why: str, now: datetime) -> None:
    """Write why a challenger that passed its gate does not serve; it is no challenger then."""
    registry = places.registry(config)
    champion = registry.champion()
    if champion is None or champion.version != number:
        registry.reject(number, why, now)
        told = {"version": number, "why": why[:2_000], "at": now.isoformat()}
        events.emit(config, "everfit.refused", told, key=f"turned away {number}")


def is_champion(config: Config, version: str) -> bool:
    champion = places.registry(config).champion()
    return champion is not None and champion.version == version


def unfinished(config: Config) -> Undo | None:
    """A roll-back that servers follow already, and that the registry may not know of yet."""
    found = undo.read(config.folder / "serving")
    if found is not None and not is_champion(config, found.version):
        undo.clear(config.folder / "serving", found.decision_id)  # it does
        return None
    return found


@task(cache_policy=NO_CACHE)
def promote(
    config: Config, version: str, expected: str | None, decision_id: str, why: str, now: datetime
) -> Release:
    """Compare-and-set: fails when the champion is no longer the one the gate compared with."""
    release = places.registry(config).promote(
        version, expected=expected, decision_id=decision_id, who=here(), why=why, now=now
    )
    told = {"version": version, "previous": expected, "window_id": decision_id, "why": why[:2_000]}
    events.emit(config, "everfit.promoted", {**told, "who": here()}, key=f"{decision_id} {version}")
    return release


@task(cache_policy=NO_CACHE)
def await_server(config: Config, version: str, patience: float = PATIENCE) -> Served:
    """Wait until the running server answers with `version`; no server is an answer of its own."""
    deadline = time.monotonic() + patience
    while True:
        state = served(config)
        if not state.running or version in (state.version, state.failed):
            return state
        if time.monotonic() >= deadline:
            return state
        time.sleep(min(0.1, config.serving.poll_seconds))


@task(cache_policy=NO_CACHE)
def roll_back(
    config: Config,
    decision_id: str,
    why: str,
    who: str,
    now: datetime,
    expected: str | None = None,
) -> Release:
    """Back to the champion before this one, which must be `expected` where one is given."""
    previous = places.registry(config).rollback(
        decision_id=decision_id, who=who, why=why, now=now, expected=expected
    )
    undo.clear(config.folder / "serving", decision_id)
    told = {
        "restored": previous.version,
        "decision_id": decision_id,
        "why": why[:2_000],
        "who": who,
    }
    events.emit(config, "everfit.rolled_back", told, key=decision_id)
    return previous


def undone_by(config: Config, decision_id: str) -> tuple[str, str] | None:
    """Which version a roll-back has taken away, and which it has brought back."""
    for release in reversed(places.registry(config).versions()):
        if release.tags.get("restored_decision_id") == decision_id:
            return release.tags.get("restored_from", ""), release.version
    return None


@task(cache_policy=NO_CACHE)
def remember(config: Config, key: str, now: datetime) -> None:
    """Tell the policy that a promotion was taken back: it backs off as after a refusal.

    Once for each `key`, however often whoever took it back dies and comes again.
    """
    told_back(config, key, now, places.registry(config).champion())


def told_back(config: Config, key: str, now: datetime, back: Release | None) -> None:
    """As `remember`, where it is known already which version is `back`."""
    from monitoring.policy import PolicyState, after_rollback

    since = promoted(back)
    with places.telemetry(config) as store:
        store.change_state(
            config.name,
            lambda found: after_rollback(
                PolicyState.from_dict(found), now, key, since=since
            ).to_dict(),
        )


def promoted(release: Release | None) -> datetime | None:
    """When it was made champion; None for one that no promotion made it."""
    at = release.tags.get("promoted_at") if release else None
    return datetime.fromisoformat(at) if at else None


class NotServed(Exception):
    """The registry moved, but the running server does not answer with the version."""


def confirm(state: Served, release: Release) -> None:
    """Raise NotServed unless the server answers with `release`, or no server runs."""
    if state.running and state.version != release.version:
        raise NotServed(
            f"version {release.version} is champion in the registry, but the server answers with "
            f"{state.version}: {state.reason or 'it has not loaded it in time'}; look at "
            "/v2/models/NAME of the server, then restart it"
        )
