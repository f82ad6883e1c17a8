"""Whether the databases that a config and the environment name can be reached and used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.errors import StoreFault

if TYPE_CHECKING:
    from tasks.config import Config


def engine_faults(config: Config, summary: list[str]) -> list[str]:
    """What cannot be reached, with its remedy; what can is said in `summary`. Changes nothing."""
    found: list[str] = []
    for name, look, url in (
        ("engines.telemetry", _telemetry, config.store_url),
        ("engines.registry", _registry, config.registry_url),
    ):
        if url.startswith("sqlite:"):
            continue
        try:
            summary.append(look(url))
        except StoreFault as fault:
            found.append(f"{name}: {fault}")
    if config.artifacts != config.folder / "artifacts":
        found += _artifacts(config.artifacts, summary)
    return found


def _telemetry(url: str) -> str:
    from sqlalchemy import text

    from monitoring import migrations
    from monitoring.connecting import connect, faults, prepared, schema_of, shown

    engine = prepared(connect(url))
    where = f"the store {shown(engine.url)}"
    schema = schema_of(engine)
    try:
        with faults(where), engine.begin() as connection:
            there = text(
                "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace"
                " WHERE nspname = COALESCE(:name, current_schema())"
            )
            may = connection.scalar(there, {"name": schema})
            if may is None:
                may = connection.scalar(
                    text("SELECT has_database_privilege(current_database(), 'CREATE')")
                )
            version = connection.dialect.server_version_info
            state = migrations.state(connection)
            current = state.current(where)
        if not may and not current:
            raise StoreFault(
                f"{where} has to make its tables, and this user may not: have the database's owner "
                f'say CREATE SCHEMA "{schema}" AUTHORIZATION the user'
            )
    finally:
        engine.dispose()
    told = "no tables yet" if state.new else f"revision {state.revision or 'unnoted'}"
    if not state.new and not current:
        told += f", to be brought to {migrations.HEAD}"
    major = ".".join(map(str, version or ()))
    return (
        f"telemetry: {shown(engine.url)}, schema {schema or 'public'}, {told}, PostgreSQL {major}"
    )


def _registry(url: str) -> str:
    from sqlalchemy import text

    from deployments.processes import answers
    from monitoring.connecting import connect, faults, hidden, shown

    if url.startswith(("http:", "https:")):
        place = hidden(url.rstrip("/"))
        if not answers(f"{url.rstrip('/')}/health", timeout=10.0, whatever=True):
            raise StoreFault(f"no MLflow server answers at {place}: start it, or correct the URL")
        return f"registry: the MLflow server {place}"
    engine = connect(url)
    try:
        with faults(f"the registry {shown(engine.url)}"), engine.begin() as connection:
            made = connection.scalar(text("SELECT to_regclass('registered_models') IS NOT NULL"))
    finally:
        engine.dispose()
    return f"registry: {shown(engine.url)}, {'with' if made else 'no'} tables of MLflow"


def _artifacts(folder: Path, summary: list[str]) -> list[str]:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return [
            f"engines.artifacts: {folder} must be a folder that can be written, {place} is not: "
            "correct it, or its permissions"
        ]
    summary.append(f"artifacts: {folder}, which every machine must see under this name")
    return []
