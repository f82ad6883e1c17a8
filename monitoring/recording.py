"""What of an answered row is stored: a share of them, without some columns, under a hashed id.

One record of these choices, with the moment from which they hold, goes to the store whenever they
change, so that whoever reads rows knows what they stand for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.errors import RecordFault
from monitoring.storage import plain_json

_SPAN = 2.0**64
KEY_BYTES = 16  # at least, of the key that hashes ids


@dataclass(frozen=True, slots=True)
class Recording:
    """`share` of the rows, chosen by their id; all columns but `never`; ids hashed with `key`.

    The choice is a function of the stored id: the same row is in the sample of every process, and
    the sample of a smaller share is a part of that of a larger one.
    """

    share: float = 1.0
    never: frozenset[str] = frozenset()
    key: bytes | None = None

    @property
    def whole(self) -> bool:
        """Whether all of every row is stored, under its own id."""
        return self.share >= 1.0 and not self.never and self.key is None

    def stored_id(self, id: str) -> str:
        """The id under which the store has the row that its caller knows as `id`.

        With a key: HMAC-SHA-256, 32 hexadecimal digits of it. Nobody without the key can tell
        whether a row is that of a known id.
        """
        if self.key is None:
            return id
        return hmac.digest(self.key, id.encode(), "sha256")[:16].hex()

    def keeps(self, stored_id: str) -> bool:
        """Whether the row is in the sample."""
        return self.share >= 1.0 or place(stored_id) < self.share

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without telling them; empty without a key."""
        return "" if self.key is None else hmac.digest(self.key, b"everfit", "sha256")[:8].hex()


def place(stored_id: str) -> float:
    """Where an id lies in [0, 1): evenly spread over ids, and fixed for each.

    >>> round(place("a"), 3), round(place("b"), 3)
    (0.254, 0.517)
    """
    digest = hashlib.blake2b(stored_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _SPAN


def encoded(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as `TelemetryStore.record_encoded` takes them.

    A row is (id, microseconds since 1970, version, features as JSON text, probabilities as JSON
    text, latency in ms). Raises RecordFault for what JSON cannot hold.
    """
    try:
        return plain_json.encode(list(rows))
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:
        raise RecordFault(f"rows must be plain JSON values ({fault}): convert them") from None
