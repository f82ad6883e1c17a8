"""A note beside the served bundles: this version must not answer any more.

Opening the registry takes a process seconds. Whoever wants the previous champion back writes this
note first: the server, which sees it within a twentieth of a second, answers with the previous
champion, and the registry follows. The note is taken away when the registry says the same. If its
writer dies in between, the next `watch`, `rollout` or `rollback` completes what it began.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "undo.json"


@dataclass(frozen=True, slots=True)
class Undo:
    """What is to be undone, and for the registry why, by whom and when."""

    version: str  # that must not answer
    decision_id: str
    why: str
    who: str
    at: str  # ISO time


def write(folder: Path, undo: Undo) -> None:
    """Leave the note in `folder`, whole or not at all. It is for the servers of this moment, so it
    does not wait for the disk; what lasts is written to the registry."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{NAME}.{os.getpid()}"
    fresh.write_text(json.dumps(asdict(undo)), encoding="utf-8")
    fresh.replace(folder / NAME)


def read(folder: Path) -> Undo | None:
    """The note in `folder`; None where there is none, or none that can be read."""
    try:
        return Undo(**json.loads((folder / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def clear(folder: Path, decision_id: str) -> None:
    """Take the note away, if it is still that of `decision_id`."""
    found = read(folder)
    if found is not None and found.decision_id == decision_id:
        (folder / NAME).unlink(missing_ok=True)


def stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when the note does; one `stat`, for those who look often."""
    try:
        found = (folder / NAME).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
