"""The application as ASGI, for tests in process and for whoever mounts it in another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from deployments.serving.http import Application, Disconnected, Reply, Request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiRequest(Request):
    """A request from an ASGI server."""

    __slots__ = ("_receive",)

    def __init__(self, scope: Message, receive: Receive) -> None:
        super().__init__()
        self.method = scope["method"]
        self.path = scope["path"].removeprefix(scope.get("root_path", ""))
        self.query = scope["query_string"].decode("latin-1")
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        self.headers = headers
        self._receive = receive

    async def chunks(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)
            yield message.get("body", b"")


class Asgi:
    """`application` as an ASGI application with a lifespan."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            request = AsgiRequest(scope, receive)
            await _answer(await self.application.handle(request), request.method, send)
        else:
            raise ValueError(f"HTTP is served here, got {scope['type']!r}: connect with HTTP")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.application.startup()
        except Exception as fault:
            await send({"type": "lifespan.startup.failed", "message": str(fault)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.application.shutdown()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(reply: Reply, method: str, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    body = b"" if method == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body})
