"""Prediction ids: UUIDs of version 4, made many at a time."""

from __future__ import annotations

import os
from collections import deque

_MADE = 512  # at a time: one system call for all of them

_fresh: deque[str] = deque()  # its methods are atomic, so that threads may share it
os.register_at_fork(after_in_child=_fresh.clear)  # or two processes would give the same ids


def new_ids(count: int) -> list[str]:
    """So many ids of 32 hexadecimal digits each, from the system's own source of randomness.

    >>> from uuid import UUID
    >>> {UUID(id_).version for id_ in new_ids(3)}
    {4}
    """
    if count == 1:
        try:
            return [_fresh.popleft()]
        except IndexError:
            _fresh.extend(_make(_MADE))
            return _make(1)
    return _make(count)


def _make(count: int) -> list[str]:
    digits = os.urandom(16 * count).hex()
    return [
        f"{digits[i : i + 12]}4{digits[i + 13 : i + 16]}{'89ab'[int(digits[i + 16], 16) & 3]}"
        f"{digits[i + 17 : i + 32]}"
        for i in range(0, 32 * count, 32)
    ]
