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
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = {n: (e.checked.isoformat(), e.failed, round(e.seconds, 3)) for n, e in entries.items()}
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(raw), encoding="utf-8")
    os.replace(fresh, path)
