"""What a server notices of an alias that somebody moved past everfit, and what it refuses.

The server opens no registry for writing: it leaves a note beside its bundles (`tasks.hands`), and
the next check records the move in the registry, in telemetry and as an event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.records import Release
from tasks import hands

if TYPE_CHECKING:
    from models.registry_audit import Moved

log = logging.getLogger(__name__)


class ForeignVersion(ModelError):
    """A version that everfit did not register: there is nothing that it could be checked by."""


def refuse_foreign(release: Release) -> None:
    """Raise ForeignVersion for a version without everfit's digest and window."""
    if not (release.digest and release.window_id):
        raise ForeignVersion(
            f"what serves was registered by everfit, with a digest and the window it came from; "
            f"version {release.version} has none: retrain, or move the alias back"
        )


class HandMoves:
    """Tells once of each move of the alias `champion` past everfit, until it is recorded."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] | None = None) -> None:
        self._folder = folder
        self._clock = clock or (lambda: datetime.now(UTC))
        self._told: tuple[str | None, str | None, str] | None = None

    def look(self, registry: Any, serves: str | None, failed: str | None) -> None:
        """Note a move that `registry` shows. `serves` is the version that answers now, `failed` the
        one that could not be loaded. Whatever goes wrong here is logged and stops nothing."""
        try:
            moved: Moved | None = getattr(registry, "hand_moved", _nothing)()
            if moved is None:
                self._told = None
                return
            said = _said(moved, serves, failed)
            if self._told == (moved.version, moved.before, said):
                return
            self._told = (moved.version, moved.before, said)
            log.warning("%s; the server %s", moved, said)
            earlier = hands.read(self._folder)
            same = earlier is not None and (earlier.version, earlier.before) == self._told[:2]
            at = earlier.at if same and earlier else self._clock().isoformat()
            hands.write(self._folder, hands.Seen(moved.version, moved.before, at, said))
        except Exception:
            log.exception("a look at who moved the alias failed")


def _said(moved: Moved, serves: str | None, failed: str | None) -> str:
    if moved.version is not None and serves == moved.version:
        return f"serves version {serves}"
    stays = f"stays with version {serves}" if serves else "serves nothing"
    if moved.version is not None and not moved.ours:
        return f"{stays}: version {moved.version} was not registered by everfit"
    if moved.version is not None and failed == moved.version:
        return f"{stays}: version {moved.version} could not be loaded"
    return stays


def _nothing() -> None:
    return None
