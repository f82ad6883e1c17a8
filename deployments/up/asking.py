"""What runs, told from outside: the record of `everfit up`, and each part asked anew.

The record is what the process that runs it knew; should that stand still, it would still say
"healthy". So every part is asked from here, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.processes import answers
from deployments.up.databases import exports
from deployments.up.health import STALE
from deployments.up.place import Place

_PATIENCE = 5.0  # seconds for one answer
_SILENT = 15.0  # seconds without a new record, after which the process counts as standing still


def state(place: Place) -> dict[str, Any]:
    """The record, with `answers` (True or False) for each part, and `silent` seconds of it all."""
    known = place.read()
    parts = known.get("parts", [])
    with ThreadPoolExecutor(max(len(parts), 1)) as pool:
        found = list(pool.map(answering, parts))
    known["parts"] = [part | {"answers": well} for part, well in zip(parts, found, strict=True)]
    known["silent"] = silent(known)
    return known


def answering(part: Mapping[str, Any]) -> bool:
    """Whether a part answers now: a page or server over HTTP, a runner by its beat."""
    if part["state"] in ("stopped", "failed", "waiting"):
        return False
    if part["url"]:
        return answers(part["asks"], _PATIENCE, whatever=part["external"])
    try:
        return time.time() - Path(part["asks"]).stat().st_mtime < STALE
    except OSError:
        return False


def silent(known: Mapping[str, Any]) -> float:
    """Seconds since the record was written, where that is too long; else 0."""
    try:
        age = (datetime.now(UTC) - datetime.fromisoformat(known["at"])).total_seconds()
    except (KeyError, ValueError):
        return 0.0
    return age if age > _SILENT else 0.0


def lines(known: Mapping[str, Any]) -> list[str]:
    """The parts as a person reads them."""
    since = str(known.get("started", ""))[:16]
    text = [f"everfit up  {known.get('phase')} since {since}, process {known.get('pid')}"]
    if known["silent"]:
        text.append(
            f"  its process stands still for {known['silent']:.0f} s: `everfit down --force`"
        )
    lacking = {k: v for k, v in known.get("exports", {}).items() if os.environ.get(k) != v}
    if lacking:
        text.append("  its stores are on PostgreSQL: this terminal needs PGPASSWORD as there, and")
        text += [f"    {line}" for line in exports(lacking)]
    for part in known["parts"]:
        text.append(f"  {part['part']:<12}{told(part):<12}{part['page']}{_more(part)}")
    return text


def told(part: Mapping[str, Any]) -> str:
    """The state of a part in a word: what it answers now wins over what was known of it."""
    if part["answers"]:
        return "healthy" if part["ready"] or part["state"] != "healthy" else "waits"
    return "no answer" if part["state"] == "healthy" else str(part["state"])


def _more(part: Mapping[str, Any]) -> str:
    more = [part["detail"]] if part["detail"] else []
    if part["restarts"]:
        more.append(f"started anew {part['restarts']} times")
    return f"  ({'; '.join(more)})" if more else ""
