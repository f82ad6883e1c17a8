"""The head of an HTTP/1.1 request, read once: clients send the same one again and again.

llhttp (by httptools) judges what is a head. What it said of one is kept under the head's own bytes,
up to a bound, since reading it again would cost more than most of what follows.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httptools

LONGEST = 16_384  # bytes of a head
_REMEMBERED = 512  # heads, none of them longer than a quarter of the above
_WHOLE = frozenset(("expect", "transfer-encoding", "upgrade"))  # what is more than head and length


class BadHead(Exception):
    """It is no head of a request, as llhttp says."""


class Head:
    """What a request is, but for its body. `headers`: values by lower-case name; of a repeated one
    the first. `length` is the body's in bytes, 0 where it is chunked. `lane` is for whoever answers
    such requests in a way of his own, see `wire.Wire`."""

    __slots__ = ("chunked", "headers", "keep", "lane", "length", "method", "old", "path", "query")

    def __init__(self, parser: Any, reading: _Reading) -> None:
        self.method: str = parser.get_method().decode("latin-1")
        self.path, self.query = _split(reading.url)
        self.headers = headers = reading.headers
        self.chunked = "transfer-encoding" in headers  # its last word is chunked, or it is no head
        self.length = 0 if self.chunked else int(headers.get("content-length", "0"))
        # after a chunked body the connection ends: no doubt where the next request begins
        self.keep = reading.keep and not self.chunked
        self.old = parser.get_http_version() == "1.0"  # it is told that the connection stays
        self.lane: Any = None

    @property
    def expects(self) -> bool:
        """Whether the client waits for our word before it sends the body."""
        return "expect" in self.headers


def _split(url: bytes) -> tuple[str, str]:
    """(path without percent signs, query as it was sent)"""
    try:
        found = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:  # such as the * of OPTIONS
        return url.decode("latin-1"), ""
    path, query = found.path or b"/", found.query or b""
    text = path.decode("latin-1")
    return unquote(text) if "%" in text else text, query.decode("latin-1")


class _Reading:
    """What llhttp calls while it reads; afterwards, a chunked body's parts and its end."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.ready = self.complete = self.keep = False
        self.parser: Any = None
        self.parts: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.ready:  # trailers are nobody's business
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self.ready = True
        self.keep = self.parser.should_keep_alive()  # at the end of the message it knows no more

    def on_body(self, body: bytes) -> None:
        if not self.complete:  # else it is the next request's, which is read by nobody
            self.parts.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


class Unchunk:
    """Reads on behind a head that announced chunks. `feed` gives what came; `complete` is its end.

    Raises BadHead for what are no chunks.
    """

    def __init__(self, parser: Any, reading: _Reading) -> None:
        self._parser = parser
        self._reading = reading

    @property
    def complete(self) -> bool:
        return self._reading.complete

    def feed(self, data: bytes) -> list[bytes]:
        if self.complete:  # what follows is read by nobody
            return []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as fault:
            if not self.complete:
                raise BadHead(str(fault)) from None
        parts, self._reading.parts = self._reading.parts, []
        return parts


def read(raw: bytes) -> tuple[Head, Unchunk]:
    """The head `raw`, which ends with an empty line, and what reads the chunks behind it.

    Raises BadHead.
    """
    reading = _Reading()
    parser = reading.parser = httptools.HttpRequestParser(reading)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as fault:
        raise BadHead(str(fault)) from None
    if not reading.ready:
        raise BadHead("the head does not end")
    return Head(parser, reading), Unchunk(parser, reading)


class Heads(dict[bytes, Head]):
    """Heads by their bytes (without the empty line), as far as they are worth keeping."""

    def keep(self, raw: bytes, head: Head) -> None:
        """Remember a head, unless its request is one of the rare kinds."""
        if len(raw) * 4 > LONGEST or not _WHOLE.isdisjoint(head.headers):
            return
        if len(self) >= _REMEMBERED:
            self.clear()
        self[raw] = head
