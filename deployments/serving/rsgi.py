"""The application under granian: its RSGI protocol, https://github.com/emmett-framework/granian."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from granian.rsgi import ProtocolClosed

from deployments.serving.http import Application, Disconnected, Request
from deployments.serving.standstill import Standstill


class RsgiRequest(Request):
    """A request from granian."""

    __slots__ = ("_protocol",)

    def __init__(self, scope: Any, protocol: Any) -> None:
        super().__init__()
        self.method = scope.method
        self.path = scope.path
        self.query = scope.query_string
        self.headers = scope.headers
        self._protocol = protocol

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._protocol:
                yield chunk
        except ProtocolClosed:
            raise Disconnected from None

    async def body(self, limit: int) -> bytes:
        announced = self.announced()
        if announced is None or announced > limit:
            return await super().body(limit)
        try:  # the server holds the client to what it announced: one read, no copy
            whole: bytes = await self._protocol()
        except ProtocolClosed:
            raise Disconnected from None
        return whole


class Rsgi:
    """What granian calls: `__rsgi_init__` in a worker before it takes connections.

    With `standstill` the worker ends itself when its loop does not turn any more.
    """

    def __init__(self, application: Application, standstill: Standstill | None = None) -> None:
        self.application = application
        self._standstill = standstill

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        reply = await self.application.handle(RsgiRequest(scope, protocol))
        protocol.response_bytes(reply.status, reply.headers, reply.body)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self.application.startup())
        if self._standstill is not None:
            self._standstill.start(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._standstill is not None:
            self._standstill.stop()
        loop.run_until_complete(self.application.shutdown())
