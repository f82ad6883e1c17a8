"""Trace context: `traceparent` is read, checked, passed on, and shown in logs and answers.

https://www.w3.org/TR/trace-context/. A header that breaks its rules is ignored, as the standard
asks: a caller's broken tracing costs nobody an answer. Without OpenTelemetry this server is one
span of the caller's trace: answers carry the same trace id with an id of our own as the parent.
`otel.py` records spans where that is configured.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as this server hands it on: `span_id` is of the work done here, `parent_id` of the
    caller's."""

    trace_id: str
    parent_id: str
    span_id: str
    flags: int

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """The trace of the request that is being answered, if it has one."""
    return _current.get()


def parse(header: str) -> Trace | None:
    """The trace of a `traceparent` header, with a new span id; None for one that is not valid.

    >>> parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").trace_id
    '0af7651916cd43dd8448eb211c80319c'
    >>> parse("00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
    True
    """
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    # of later versions, this one knows the first flag only
    bits = int(flags, 16) & (0xFF if version == "00" else 0x01)
    return Trace(trace_id, parent_id, os.urandom(8).hex(), bits)


class Span(Protocol):
    """What is open while a request is answered."""

    @property
    def header(self) -> str | None:
        """The `traceparent` of the answer, None where there is no trace."""

    def end(self, status: int, answer: Any) -> None:
        """The request was answered with `status`; `answer` is what the model said, if it was
        asked."""


class Tracer(Protocol):
    """Opens a span for each request, or none where that costs more than it tells."""

    def begin(self, route: str, attributes: Mapping[str, str], headers: Any) -> Span | None: ...

    def close(self) -> None:
        """Hand over what is left."""


class PassingSpan:
    """The caller's trace, passed on and recorded nowhere."""

    __slots__ = ("_token", "header")

    def __init__(self, trace: Trace) -> None:
        self.header = trace.header
        self._token = _current.set(trace)

    def end(self, status: int, answer: Any) -> None:
        del status, answer
        _current.reset(self._token)


class Passing:
    """The tracer where OpenTelemetry isn't configured."""

    def begin(self, route: str, attributes: Mapping[str, str], headers: Any) -> Span | None:
        del route, attributes
        header = headers.get("traceparent")
        trace = parse(header) if header else None
        return None if trace is None else PassingSpan(trace)

    def close(self) -> None:
        """There is nothing to hand over."""


class TraceFilter(logging.Filter):
    """Gives every log record `trace`: " trace=<id>" while a traced request is answered, or ""."""

    def filter(self, record: logging.LogRecord) -> bool:
        trace = _current.get()
        record.trace = "" if trace is None else f" trace={trace.trace_id}"
        return True
