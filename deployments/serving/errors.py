"""What a caller reads when a request cannot be answered: the field, the rule and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class RequestFault(Exception):
    """A request that cannot be answered as it stands. Nothing from inside the server is in it.

    `field` is a path into what was sent (`dataframe_split.data[3]`, `column 'age', row 3`),
    `received` the offending value, cut short.
    """

    def __init__(
        self,
        status: int,
        field: str,
        rule: str,
        remedy: str,
        *,
        received: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{field}: {rule}; received {received!r}: {remedy}")
        self.status = status
        self.field = field
        self.rule = rule
        self.remedy = remedy
        self.received = shorten(received)
        self.headers = dict(headers or {})

    def body(self, *, protocol: bool = False, **more: Any) -> bytes:
        """The JSON body of the answer, `{"error": {"field", "rule", "received", "remedy", ...}}`.

        With `protocol`, `{"error": text, "fault": {"field", ...}}`: the Open Inference Protocol has
        a text as the error, and its clients read nothing else.
        """
        parts = {
            "field": self.field,
            "rule": self.rule,
            "received": self.received,
            "remedy": self.remedy,
            **more,
        }
        if protocol:
            return msgspec.json.encode({"error": self.text(), "fault": parts})
        return msgspec.json.encode({"error": parts})

    def text(self) -> str:
        """All of it in one line, where there is room for a text only."""
        received = "" if self.received is None else f", received {self.received!r}"
        return f"{self.field}: {self.rule}{received}: {self.remedy}"


def shorten(value: Any, limit: int = 80) -> Any:
    """A received value as it may be shown: scalars as they are, the rest as at most `limit` signs.

    >>> shorten(3), shorten("a" * 100, limit=5), shorten(float("inf")), shorten([1, 2])
    (3, 'aaaa…', 'inf', '[1, 2]')
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    # repr of a deep or long value costs more than it tells: containers show their beginning only
    if isinstance(value, list | tuple) and len(value) > 8:
        value = [*value[:8], "…"]
    text = value if isinstance(value, str) else _safe_repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an int too long to print
        return f"({type(value).__name__})"
