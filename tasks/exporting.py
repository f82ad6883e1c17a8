"""A registered version as a folder for machines without everfit, proven on rows that were asked."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from models.errors import RegistryFault
from tasks import lineage, places

if TYPE_CHECKING:
    from models.edge.export import Exported, To
    from models.records import Release
    from tasks.config import Config

ROWS = 4_096  # recorded rows that an export is proven on, at most


def export(
    config: Config,
    folder: Path,
    to: To,
    *,
    version: str | None = None,
    tolerance: float | None = None,
    converter: Path | None = None,
) -> Exported:
    """Write the champion, or `version`, into `folder`; `converter` is the Python of LiteRT's.

    Raises ModelError where it can't be.
    """
    from models.edge import export as edge

    release = chosen(config, version)
    bundle = places.registry(config).download(release.version, config.folder / "serving")
    return edge.export(
        bundle,
        folder,
        to,
        recorded(config, release),
        name=config.name,
        version=release.version,
        tolerance=tolerance,
        converter=converter,
        without=config.telemetry.never_store,
    )


def chosen(config: Config, version: str | None) -> Release:
    """The version asked for; the champion without one."""
    registry = places.registry(config)
    if version is not None:
        return registry.version(version)
    champion = registry.champion()
    if champion is None:
        raise RegistryFault(
            f"what is exported is the champion, and {config.name} has none: train the first one "
            "with `everfit train`, or name a --version"
        )
    return champion


def recorded(config: Config, release: Release) -> list[dict[str, Any]]:
    """The newest rows that the server was asked for, then those of the version's own training;
    none where neither was kept. What `telemetry.never_store` names is missing in them, since it was
    not kept."""
    names, never = list(config.data.columns), config.telemetry.never_store
    frames = []
    with places.telemetry(config) as store:
        frames.append(store.rows(None, None, limit=ROWS))
    for kept in (lineage.PROOF, lineage.REFERENCE):
        path = places.version_file(config, release, kept)
        if path is not None:
            frames.append(pd.read_parquet(path))
    rows: list[dict[str, Any]] = []
    for frame in frames:  # one that lacks another column says nothing
        if set(names) - set(never) <= set(frame.columns):
            newest = frame.tail(ROWS - len(rows)) if len(rows) < ROWS else frame[:0]
            lacking = [name for name in never if name not in newest]
            rows += plain(newest.assign(**dict.fromkeys(lacking))[names])
    return rows


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of plain values, None where missing.

    >>> plain(pd.DataFrame({"x": [1.5, None], "c": ["a", None]}))
    [{'x': 1.5, 'c': 'a'}, {'x': None, 'c': None}]
    """
    columns = {}
    for name in frame.columns:
        values, gone = frame[name].tolist(), frame[name].isna().tolist()
        columns[str(name)] = [
            None if no else _plain(value) for value, no in zip(values, gone, strict=True)
        ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    """A value as JSON has it; a database's decimals are numbers."""
    if isinstance(value, Decimal):
        return float(value)
    return value.item() if hasattr(value, "item") else value
