"""A note beside the served bundles: the server saw the alias move, and what it did about it.

The server opens no registry for writing. It notes what it saw and when; the next check records it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "moved.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """A champion that everfit did not choose, as a server met it."""

    version: str | None  # None: the alias is gone
    before: str | None
    at: str  # ISO time
    said: str  # what the server did: 'serves it', 'refused: ...', 'version 5 stays'


def write(folder: Path, seen: Seen) -> None:
    """Leave the note, whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{NAME}.{os.getpid()}"
    fresh.write_text(json.dumps(asdict(seen)), encoding="utf-8")
    fresh.replace(folder / NAME)


def read(folder: Path) -> Seen | None:
    """The note in `folder`; None where there is none, or none that can be read."""
    try:
        return Seen(**json.loads((folder / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
