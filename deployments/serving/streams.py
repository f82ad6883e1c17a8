"""A body on its way from a client, and the request that it belongs to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from deployments.serving.errors import RequestFault
from deployments.serving.heads import BadHead, Head, Unchunk
from deployments.serving.http import Disconnected, Request

if TYPE_CHECKING:
    from deployments.serving.wire import Connection


class Stream:
    """A body on its way. `size`: bytes that have come and were not read; `complete`: all came."""

    __slots__ = ("_chunks", "_connection", "_expects", "_left", "_parts", "_wake", "complete")

    def __init__(self, connection: Connection, head: Head, chunks: Unchunk | None) -> None:
        self._connection = connection
        self._chunks = chunks if head.chunked else None
        self._expects = head.expects
        self._left = head.length
        self._parts: deque[bytes | Exception] = deque()
        self._wake: asyncio.Future[None] | None = None
        self.complete = not head.chunked and not head.length

    @property
    def size(self) -> int:
        return sum(len(part) for part in self._parts if isinstance(part, bytes))

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to it; gives the rest."""
        rest = b""
        if self._chunks is not None:
            try:
                self._parts.extend(self._chunks.feed(data))
                self.complete = self._chunks.complete
            except BadHead as fault:
                rule = "chunks as HTTP/1.1 has them"
                self._parts.append(
                    RequestFault(400, "body", rule, "correct them", received=str(fault))
                )
        elif data:
            taken, rest = data[: self._left], data[self._left :]
            self._left -= len(taken)
            if taken:
                self._parts.append(taken)
            self.complete = not self._left
        self._tell()
        return rest

    def lose(self) -> None:
        """No more will come."""
        if not self.complete:
            self._parts.append(Disconnected())
            self._tell()

    def _tell(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def read(self) -> AsyncIterator[bytes]:
        """What comes, as it comes. Raises Disconnected, and RequestFault for bad chunks."""
        connection = self._connection
        if self._expects and not self.complete and not self._parts:
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            while self._parts:
                part = self._parts.popleft()
                if isinstance(part, Exception):
                    raise part
                connection.breathe()
                yield part
            if self.complete:
                return
            self._wake = connection.wire.loop.create_future()
            await self._wake


class WireRequest(Request):
    """A request from a socket, its body whole or a stream."""

    __slots__ = ("_body", "_stream", "head")

    def __init__(self, head: Head, body: bytes | None, stream: Stream | None) -> None:
        super().__init__()
        self.head = head
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self._body = body
        self._stream = stream

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._body is not None:
            yield self._body
        elif self._stream is not None:
            async for chunk in self._stream.read():
                yield chunk

    async def body(self, limit: int) -> bytes:
        whole = self._body
        return whole if whole is not None and len(whole) <= limit else await super().body(limit)
