"""Versions that kill the process that loads them: counted on disk, refused when it happens again.

Before a version is loaded a marker is written and locked; it goes when the version has answered its
first requests, or the process ends in good order. A marker whose lock is free is what a process has
left that died in between: killed, crashed in native code, or ended since it stood still.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from deployments.serving.spool import locked
from models.records import Release

DEATHS = 3  # of processes, after which a version is refused
_REMEMBERED = 3600.0  # seconds; a later try may find another machine, or another load


class Killed(Exception):
    """A version that ends the processes that load it."""


class Attempts:
    """The markers of all workers, in one folder. Without a disk nothing is refused, or raised."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        # by version: when it began, the marker, and its open lock
        self._mine: dict[str, tuple[Release, float, Path, int]] = {}

    def deaths(self, release: Release) -> int:
        """How many processes have died with this version in the last hour."""
        return len(self._dead(release))

    def begin(self, release: Release) -> None:
        """Mark that `release` is loaded, and will be asked its first questions."""
        if release.version in self._mine:
            return
        place = self._place(release)
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            marker = place / f"{uuid.uuid4().hex}.mark"
            held = locked(marker)
            if held is not None:
                os.fsync(held)
                self._mine[release.version] = release, self._clock(), marker, held

    def proven(self, release: Release) -> None:
        """It has answered: whatever other processes died of, this version is not the reason."""
        self.give_up(release)
        for marker in self._dead(release):
            marker.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._place(release).rmdir()

    def give_up(self, release: Release) -> None:
        """It is no longer loaded here; this process lives."""
        if release.version in self._mine:
            _, _, marker, held = self._mine.pop(release.version)
            with contextlib.suppress(OSError):
                marker.unlink(missing_ok=True)
            os.close(held)

    def at_risk(self) -> list[tuple[Release, float]]:
        """What has still to be proven here, and for how many seconds it has been loaded."""
        now = self._clock()
        return [(release, now - begun) for release, begun, _, _ in self._mine.values()]

    def close(self) -> None:
        """An orderly end: nothing was anybody's fault."""
        for release, _ in self.at_risk():
            self.give_up(release)

    def _place(self, release: Release) -> Path:
        return self._folder / f"{release.version}-{release.digest[:12]}"

    def _dead(self, release: Release) -> list[Path]:
        found = []
        mine = {marker for _, _, marker, _ in self._mine.values()}
        with contextlib.suppress(OSError):
            for marker in self._place(release).glob("*.mark"):
                if marker in mine:
                    continue
                with contextlib.suppress(OSError):
                    if self._clock() - marker.stat().st_mtime > _REMEMBERED:
                        marker.unlink(missing_ok=True)
                    elif (held := locked(marker)) is not None:
                        os.close(held)
                        found.append(marker)
        return found
