"""`everfit rollback`: back to the previous champion, the answers first and the records after.

Opening the registry takes seconds, so the server is told by a note beside its bundles; it answers
with the previous champion within a moment. Then the registry is moved, and Prefect's page told.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import (
    Command,
    config_argument,
    load_config,
    port_option,
    prefect,
    run,
    runs_option,
    why_option,
)

if TYPE_CHECKING:
    from models.records import Release
    from tasks.config import Config
    from tasks.undo import Undo

_PATIENCE = 2.0  # seconds for the answers to change before the registry is moved


@click.command(cls=Command, short_help="Return to the previous champion.")
@config_argument
@why_option
@runs_option
@port_option
def command(config: Path, why: str | None, runs: Path | None, port: int | None) -> None:
    """Make the previous champion the champion again."""
    import getpass

    from tasks import undo

    began = time.monotonic()
    why, who, now = why or "asked for by hand", getpass.getuser(), datetime.now(UTC)
    folder = served_folder(config, runs)
    asked = told(folder, why, who, now) if folder else None
    try:
        loaded = load_config(config, runs, serving__port=port)
    except BaseException:
        if folder and asked:
            undo.clear(folder, asked.decision_id)
        raise
    if asked is not None and (version := answered(loaded, asked.version)):
        click.echo(f"version {version} answers after {time.monotonic() - began:.1f} s")
    decision = asked.decision_id if asked else f"rollback-{now:%Y%m%dT%H%M%SZ}"
    release = moved(loaded, decision, why, who, now)
    click.echo(f"version {release.version} is the champion again")
    with prefect(loaded):  # it is on its page then, and the server has been asked
        from flows.rollout import rollback

        run(lambda: rollback(loaded, why, who, now, decision_id=decision))


def served_folder(config: Path, runs: Path | None) -> Path | None:
    """Where the server keeps its bundles, read without the check of the whole config, which takes
    longer than all else; None where that cannot be told."""
    import yaml

    path = config.expanduser().resolve()
    try:
        raw = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe
        place = runs.resolve() if runs else Path(raw.get("runs") or Path("runs") / raw["name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return None
    return (path.parent / place.expanduser()).resolve() / "serving"


def told(folder: Path, why: str, who: str, now: datetime) -> Undo | None:
    """Tell the server that the version it serves must not answer; None where none has served."""
    import json

    from tasks import undo

    try:
        version = json.loads((folder / "last.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    note = undo.Undo(str(version), f"rollback-{now:%Y%m%dT%H%M%SZ}", why, who, now.isoformat())
    undo.write(folder, note)
    return note


def answered(config: Config, version: str) -> str | None:
    """Which other version than `version` the server answers with soon; None where none does."""
    import json
    from urllib.request import urlopen

    url = f"{config.server_url}/v2/models/{config.name}"
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=_PATIENCE) as answer:  # noqa: S310 - the config's own server
                versions = json.load(answer).get("versions") or []
        except (OSError, ValueError):
            return None
        if versions and versions[0] != version:
            return str(versions[0])
        time.sleep(0.02)
    return None


def moved(config: Config, decision: str, why: str, who: str, now: datetime) -> Release:
    """Move the registry, tell the policy, and take the note away whatever comes of it."""
    from tasks import places, undo

    try:
        release = places.registry(config).rollback(decision_id=decision, who=who, why=why, now=now)
    finally:
        undo.clear(config.folder / "serving", decision)
    from tasks.release import told_back

    told_back(config, decision, now, release)
    return release
