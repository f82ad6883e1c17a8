"""The folder of served bundles: what no roll-back can want any more goes, and so do the remains of
killed processes."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)

ABANDONED = 3600.0  # seconds after which a temporary name is nobody's: no download takes so long


def prune(folder: Path, keep: Collection[str], now: float | None = None) -> list[str]:
    """Remove the bundles of all versions but `keep`, and old temporary files and folders.

    A bundle leaves its name before it is removed, so that none is ever half there. Workers that
    share the folder may do this at once. Faults are logged: a full folder stops no server. Returns
    the versions removed.
    """
    now = time.time() if now is None else now
    removed = []
    try:
        found = list(folder.iterdir())
    except OSError:
        return []
    for place in found:
        try:
            if place.name.isdecimal() and place.is_dir() and place.name not in keep:
                aside = folder / f".pruned-{place.name}-{time.monotonic_ns()}"
                place.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
                removed.append(place.name)
            elif _temporary(place.name) and now - place.stat().st_mtime > ABANDONED:
                if place.is_dir():
                    shutil.rmtree(place, ignore_errors=True)
                else:
                    place.unlink(missing_ok=True)
        except FileNotFoundError:  # another worker was faster
            continue
        except OSError as fault:
            log.warning("%s could not be removed: %s", place, fault)
    return removed


def _temporary(name: str) -> bool:
    return name.startswith(".") or name.endswith(".tmp")
