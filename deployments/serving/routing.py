"""Who is asked: a caller's key, and the share of all keys that a canary answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from deployments.serving.ids import new_ids

HEADER = "x-request-key"
_LONGEST = 1024  # characters of a key that count
_SPAN = 2.0**64


class Identified(Protocol):
    """Rows that may bring ids of their own; `deployments.serving.rows.Rows` are."""

    count: int
    ids: Sequence[str] | None


def place(key: str, version: str) -> float:
    """Where a key lies in [0, 1) in the roll-out of `version`: even over keys, fixed for each.

    The version is part of it, so that it is not the same callers who try every new model.

    >>> round(place("ann", "7"), 3), round(place("ann", "8"), 3)
    (0.841, 0.998)
    """
    text = key[:_LONGEST].encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8, key=version.encode()[:64])
    return int.from_bytes(digest.digest(), "big") / _SPAN


def takes(key: str, version: str, share: float) -> bool:
    """Whether the canary `version` answers this key. As its share grows, it keeps its keys."""
    return place(key, version) < share


def request_key(header: str | None, rows: Identified) -> str:
    """The key of a request: its header's, else its first row's id.

    Rows without ids are given new ones here: what decided is then recorded with the answer, and
    the same decision can be made from it again.
    """
    if header:
        return header
    if not rows.ids:
        if not rows.count:
            return ""
        rows.ids = new_ids(rows.count)
    return str(rows.ids[0])
