"""The facts that `monitoring.leftovers` judges: what the stores, the server and the disk tell."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter
from prefect.settings import get_current_settings

from monitoring.leftovers import Asked, Facts, Folder, Limits, OpenRun, Silent, Version, Window
from monitoring.records import Action
from tasks import places, standing, undo
from tasks.snapshot import NOTE

if TYPE_CHECKING:
    from models.records import Release
    from models.registry import Registry
    from tasks.config import Config

_LOOKED_AT = 200  # newest decisions, claims and flow runs
_BEATS = 4  # signs of life that may be missing before a flow run counts as dead
SCRATCH = ("serving/.*-*", "versions/*/.fetch-*", "versions/*/*/.fetch-*", "retrains/*/.*")
_REGISTER = "everfit-register-*"  # in the system's own folder


def limits(config: Config, *, elsewhere: bool) -> Limits:
    """`elsewhere`: who starts runs may start the same one again when its process has died."""
    frequency = get_current_settings().flows.heartbeat_frequency or 180
    return Limits(
        resume=timedelta(minutes=1) if elsewhere else timedelta(0),
        horizon=max(timedelta(days=1), config.monitor.window),
        beats=timedelta(seconds=_BEATS * frequency),
    )


@task(cache_policy=NO_CACHE)
async def facts(config: Config, now: datetime, bounds: Limits) -> Facts:
    """One look at everything. Nothing is locked: whoever acts on it looks again."""
    with places.claims(config) as book:
        claims = book.newest(config.name, _LOOKED_AT, now=now)
    windows = tuple(
        Window(
            window_id=claim.window_id,
            state=claim.state,
            lives=claim.status == "busy",
            attempts=claim.attempts,
            started=claim.started,
            updated=claim.updated,
            error=claim.error,
            silent=claim.silent,
        )
        for claim in claims
    )
    with places.telemetry(config) as store:
        decisions, told = store.decisions(_LOOKED_AT), store.state(config.name) or {}
    registry = places.registry(config)
    holders = {claim.token: claim.window_id for claim in claims if claim.state == "running"}
    return Facts(
        windows=windows,
        asked=tuple(asked for d in decisions if (asked := _asked(d)) is not None),
        newest=decisions[0]["window_id"] if decisions else "",
        versions=tuple(map(_version, registry.versions())),
        champion=_champion(registry),
        recorded=registry.recorded_champion(),
        challenger=registry.challenger_version(),
        told=tuple(told.get("told", ())),
        on_the_way=_on_the_way(config),
        undo=undo.read(config.folder / "serving") is not None,
        open_runs=tuple(
            OpenRun(run.run_id, run.window_id, run.version) for run in registry.open_runs()
        ),
        silent=await _silent(bounds, holders),
        folders=tuple(_folders(config.folder)),
    )


def _champion(registry: Registry) -> str | None:
    from models.errors import RegistryFault

    try:
        found = registry.champion()
    except RegistryFault:  # its alias is gone: that is for a person, who is told elsewhere
        return None
    return None if found is None else found.version


def _on_the_way(config: Config) -> bool:
    from models.errors import RegistryFault

    try:
        return bool(standing.on_the_way(config))
    except RegistryFault:  # as above
        return False


def _asked(decision: dict[str, Any]) -> Asked | None:
    action = decision["action"]
    if action not in (Action.RETRAIN.value, Action.ROLLBACK.value):
        return None
    return Asked(
        decision["window_id"],
        datetime.fromisoformat(decision["time"]),
        decision["signals"]["window"]["version"] or "",
        rollback=action == Action.ROLLBACK.value,
        why="; ".join(decision["reasons"])[:2_000],
    )


def _version(release: Release) -> Version:
    from models.registry_stages import readable

    tags, stage = release.tags, readable(release)

    def moment(key: str) -> datetime | None:
        return datetime.fromisoformat(tags[key]) if tags.get(key) else None

    return Version(
        version=release.version,
        window_id=release.window_id,
        stage=stage.mode if stage else "",
        promoted=moment("promoted_at"),
        restored=moment("restored_at"),
        rejected=moment("rejected_at"),
        rolled_back=moment("rolled_back_at"),
        rolled_back_by=tags.get("rolled_back_decision_id", ""),
    )


async def _silent(bounds: Limits, holders: dict[str, str]) -> tuple[Silent, ...]:
    """Flow runs that are taken for running, and of which nothing was heard for `bounds.beats`.

    By the clock of this machine and the times that the server has written.
    """
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    now = datetime.now(UTC)
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    async with get_client() as client:
        running = await client.read_flow_runs(
            flow_run_filter=wanted, limit=_LOOKED_AT, sort=FlowRunSort.START_TIME_ASC
        )
        heard = {
            run.id: run.state.timestamp
            for run in running
            if run.state and run.state.timestamp and str(run.id) != runtime.flow_run.id
        }
        quiet = [run for run in running if run.id in heard and now - heard[run.id] > bounds.beats]
        if not quiet:
            return ()
        beats = EventFilter.model_validate(
            {
                "occurred": {"since": now - bounds.beats, "until": now},
                "event": {"name": ["prefect.flow-run.heartbeat"]},
                "resource": {"id": [f"prefect.flow-run.{run.id}" for run in quiet]},
            }
        )
        page = await client.read_events(filter=beats, limit=50)
        alive: set[str] = set()
        while page is not None:
            alive |= {event.resource.id for event in page.events}
            page = await page.get_next_page(client) if page.next_page else None
    return tuple(
        Silent(str(run.id), run.name, now - heard[run.id], holders.get(str(run.id), ""))
        for run in quiet
        if f"prefect.flow-run.{run.id}" not in alive
    )


def _folders(folder: Path) -> Iterator[Folder]:
    for note in folder.glob(f"retrains/*/{NOTE}"):
        yield Folder(str(note.parent), _age(note), note.parent.name)
    scratch = [place for pattern in SCRATCH for place in folder.glob(pattern)]
    scratch += Path(tempfile.gettempdir()).glob(_REGISTER)
    for place in scratch:
        if place.is_dir():
            yield Folder(str(place), _age(place))


def _age(place: Path) -> timedelta:
    """Since it was written last; nothing for one that is gone."""
    try:
        return timedelta(seconds=max(time.time() - place.stat().st_mtime, 0.0))
    except OSError:
        return timedelta(0)
