"""Prediction ids: UUIDs of version 4, made many at a time."""

from __future__ import annotations

import os
from collections import deque

import numpy as np

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
    octets = np.frombuffer(bytearray(os.urandom(16 * count)), np.uint8).reshape(count, 16)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40  # version 4
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80  # of RFC 9562
    digits = octets.tobytes().hex()
    return [digits[i : i + 32] for i in range(0, 32 * count, 32)]
