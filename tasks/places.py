"""Where the parts of one model's loop are: its store, registry, schema and folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.registry import Registry
    from models.schema import Schema
    from monitoring.claims import Claims
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config


@contextmanager
def telemetry(config: Config) -> Iterator[TelemetryStore]:
    from monitoring.telemetry import TelemetryStore

    config.folder.mkdir(parents=True, exist_ok=True)
    store = TelemetryStore(config.store_url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def claims(config: Config) -> Iterator[Claims]:
    from monitoring.claims import Claims

    config.folder.mkdir(parents=True, exist_ok=True)
    book = Claims(config.store_url)
    try:
        yield book
    finally:
        book.close()


def registry(config: Config) -> Registry:
    from models.registry import Registry

    config.folder.mkdir(parents=True, exist_ok=True)
    return Registry(config.registry_url, config.name, config.artifacts)


def schema(config: Config) -> Schema:
    from models.schema import Column, Schema

    columns = tuple(Column(name, kind) for name, kind in config.data.columns.items())
    return Schema(columns, config.data.target, tuple(config.data.classes), config.data.time)


def retrain_folder(config: Config, window_id: str) -> Path:
    """What one retrain writes; kept, so that a resumed run goes on from there."""
    return config.folder / "retrains" / window_id


def report_path(config: Config, window_id: str) -> Path:
    return config.folder / "reports" / f"{window_id}.html"


def picture_path(config: Config, window_id: str) -> Path:
    return config.folder / "reports" / f"{window_id}.png"


def reports_workspace(config: Config) -> Path:
    """The Evidently workspace that keeps every report drawn on a window."""
    return config.folder / "evidently"


def champion_folder(config: Config) -> Path:
    """Files of registered versions, cached: reference rows, lineage, controller state."""
    return config.folder / "versions"
