"""What is remembered from one round to the next: a small file, and nothing is lost with it but the
order of the next round."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from deployments.rounds.order import Entry

log = logging.getLogger(__name__)


def read(path: Path) -> dict[str, Entry]:
    """By the path of a config. A file that is missing or damaged says nothing."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Entry(datetime.fromisoformat(at), bool(failed), float(seconds))
            for name, (at, failed, seconds) in raw.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as fault:
        log.warning("the order of the last round is lost, %s: %s", path, fault)
        return {}


def write(path: Path, entries: Mapping[str, Entry]) -> None:
    """Replace the file, whole or not at all."""
    raw = {n: (e.checked.isoformat(), e.failed, round(e.seconds, 3)) for n, e in entries.items()}
    _replace(path, raw)


def running(path: Path) -> dict[str, str]:
    """Flow runs by config that a round had begun when its process was killed, if it was."""
    try:
        raw = json.loads(_running(path).read_text(encoding="utf-8"))
        return {str(config): str(run) for config, run in raw.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def note_running(path: Path, runs: Mapping[str, str]) -> None:
    """Replace what `running` reads."""
    _replace(_running(path), dict(runs))


def _running(path: Path) -> Path:
    return path.with_suffix(".running")


def _replace(path: Path, raw: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(json.dumps(raw), encoding="utf-8")
    os.replace(fresh, path)
