"""Where the parts of one model's loop are: its store, registry, schema and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.records import Release
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


_OPEN = 8  # registries that a process keeps open: each look would open it anew, for 50 ms of CPU


def registry(config: Config) -> Registry:
    from models.registry_files import sqlite_file

    config.folder.mkdir(parents=True, exist_ok=True)
    file = sqlite_file(config.registry_url)
    try:
        which = file.stat().st_ino if file else 0
    except OSError:  # not there yet
        which = 0
    return _registry(config.registry_url, config.name, config.artifacts, which)


@lru_cache(_OPEN)
def _registry(url: str, name: str, artifacts: Path, which: int) -> Registry:  # noqa: ARG001
    """`which` tells a file from one that has taken its place."""
    from models.registry import Registry

    return Registry(url, name, artifacts)


os.register_at_fork(after_in_child=_registry.cache_clear)  # connections are never shared


def version_file(config: Config, release: Release, name: str) -> Path | None:
    """A file that was registered with a version, fetched once; None if it has none.

    What was registered does not change, and the run's id keeps a version of that number in another
    registry apart.
    """
    folder = champion_folder(config) / release.run_id
    kept = folder / f"v{release.version}" / name
    if kept.is_file() and kept.stat().st_size > 0:  # a file is empty after a power cut at its worst
        return kept
    return registry(config).fetch_file(release.version, name, folder)


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


@contextmanager
def alone(config: Config, at: str) -> Iterator[bool]:
    """Whether no other process on this machine is `at` this work on the model now."""
    from filelock import FileLock, Timeout

    config.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(config.folder / f".{at}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
