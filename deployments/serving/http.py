"""HTTP without a server: requests, replies, and the application that turns one into the other.

A route is a method, a path and an async handler. Faults, timing and counting are in one place,
`Application.handle`. `wire` brings requests from sockets, `asgi` from another server, for whoever
mounts the application there.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import SimpleNamespace
from typing import Any, Protocol

import msgspec

from deployments.serving.errors import RequestFault
from deployments.serving.tracing import Passing, Tracer

log = logging.getLogger(__name__)

JSON = "application/json"
_JSON_HEADERS = [("content-type", JSON)]

# A refused body is thrown away as it comes, so that a client that sends before it reads gets the
# answer instead of a broken connection; but only so much of it and for so long.
_DRAIN_BYTES = 32 * 2**20
_DRAIN_SECONDS = 1.0
_REMEMBERED = 1024  # paths with a name in them whose route is not looked up again


class Disconnected(Exception):
    """The client went away before its request was complete."""


class Headers(Protocol):
    """Header values by lower-case name; of a repeated header, the first."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def __contains__(self, key: str) -> bool: ...


class Request:
    """One request as a handler sees it, whichever server it came through.

    `path` is percent-decoded, `query` as it was sent, `params` what the route's `{name}`s matched.
    `answer` is left by the handler for the one who counts.
    """

    __slots__ = ("answer", "headers", "method", "params", "path", "query")

    method: str
    path: str
    query: str
    headers: Headers

    def __init__(self) -> None:
        self.params: Mapping[str, str] = _NO_PARAMS
        self.answer: Any = None

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Disconnected."""
        raise NotImplementedError

    async def body(self, limit: int) -> bytes:
        """The whole body; of a larger one no more than `limit` bytes are ever held.

        Raises RequestFault 413 as soon as more is announced or has come, and Disconnected.
        """
        announced = self.announced()
        chunks = self.chunks()
        if announced is not None and announced > limit:
            await self._refuse(chunks, limit, announced)
        parts: list[bytes] = []
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                parts.clear()
                await self._refuse(chunks, limit, size)
            parts.append(chunk)
        if announced is not None and size < announced:
            raise Disconnected
        return b"".join(parts)

    def announced(self) -> int | None:
        """The content length in bytes, None when it is not known beforehand."""
        text = self.headers.get("content-length")
        return int(text) if text and text.isascii() and text.isdigit() else None

    async def _refuse(self, chunks: AsyncIterator[bytes], limit: int, size: int) -> None:
        """Throw away what comes of a body that is too large, and raise RequestFault 413."""
        if "expect" not in self.headers:  # a client that waits for our word has sent nothing
            left = _DRAIN_BYTES
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    async for chunk in chunks:
                        left -= len(chunk)
                        if left <= 0:
                            break
            except (TimeoutError, Disconnected):
                pass
        raise RequestFault(
            413,
            "body",
            f"a body holds at most {limit} bytes",
            "send fewer rows in a request, or raise serving.maximum_body_mb",
            received=size,
            headers={"connection": "close"},
        )


class Reply:
    """Status, headers and body. A list of headers may be shared: nobody changes it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """`content` as JSON; bytes are JSON already."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Reply(status, [*_JSON_HEADERS, *headers.items()] if headers else _JSON_HEADERS, body)


Handler = Callable[[Request], Awaitable[Reply]]
Observer = Callable[[str, int, float, Any], None]  # route name, status, seconds, request.answer
_NO_PARAMS: Mapping[str, str] = {}


class Route:
    """`path` may have whole segments of the form `{name}`; `name` is what is counted."""

    __slots__ = ("attributes", "handler", "method", "name", "path", "span")

    def __init__(self, method: str, path: str, handler: Handler, name: str) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.name = name
        self.span = f"{method} {path}"
        self.attributes = {"http.request.method": method, "http.route": path}


class Application:
    """Routes, and what every request goes through.

    `lifespan()` is entered at start-up and left at shutdown; `observe` is told of every request
    that had a route. `state` is for whoever made the application.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        observe: Observer | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.state = SimpleNamespace()
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[Sequence[str], dict[str, Route]]]] = {}
        self._remembered: dict[str, tuple[dict[str, Route], Mapping[str, str]]] = {}
        self._lifespan = lifespan
        self._observe = observe or (lambda *_: None)
        self._tracer = tracer or Passing()
        self._exit = AsyncExitStack()
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Add a route; the same method and path again replaces it."""
        methods = self._methods(route.path)
        methods[route.method] = route
        if route.method == "GET":
            methods["HEAD"] = route  # the servers leave the body out

    def _methods(self, path: str) -> dict[str, Route]:
        """Where the routes of a path are kept."""
        if "{" not in path:
            return self._exact.setdefault(path, {})
        segments = path.split("/")
        known = self._patterns.setdefault(len(segments), [])
        for pattern, methods in known:
            if pattern == segments:
                return methods
        known.append((segments, {}))
        return known[-1][1]

    async def startup(self) -> None:
        """Enter the lifespan."""
        if self._lifespan is not None:
            await self._exit.enter_async_context(self._lifespan())

    async def shutdown(self) -> None:
        """Leave the lifespan."""
        await self._exit.aclose()

    async def handle(self, request: Request) -> Reply:
        """The reply to any request; nothing is raised but cancellation."""
        started = time.perf_counter()
        methods, request.params = self._find(request.path)
        route = methods.get(request.method)
        if route is None:
            return _no_route(request, methods)
        span = self._tracer.begin(route.span, route.attributes, request.headers)
        try:
            reply = await route.handler(request)
        except RequestFault as fault:
            reply = _refused(fault, request.path)
        except Disconnected:
            reply = Reply(499, [])  # nobody reads it; it is counted
        except Exception:
            reply = _broken(route.name, request.path)
        except asyncio.CancelledError:
            if span is not None:
                span.end(499, None)
            raise
        if span is not None:
            span.end(reply.status, request.answer)
            if span.header is not None:
                headers = [*reply.headers, ("traceparent", span.header)]
                reply = Reply(reply.status, headers, reply.body)
        self._observe(route.name, reply.status, time.perf_counter() - started, request.answer)
        return reply

    def _find(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        """The routes of a path by method, and what their names matched."""
        if methods := self._exact.get(path):
            return methods, _NO_PARAMS
        if found := self._remembered.get(path):
            return found
        segments = path.split("/")
        for pattern, methods in self._patterns.get(len(segments), ()):
            params: dict[str, str] = {}
            for wanted, sent in zip(pattern, segments, strict=True):
                if wanted[:1] == "{" and sent:
                    params[wanted[1:-1]] = sent
                elif wanted != sent:
                    break
            else:
                if len(self._remembered) < _REMEMBERED:
                    self._remembered[path] = methods, params
                return methods, params
        return {}, _NO_PARAMS


def _no_route(request: Request, methods: Mapping[str, Route]) -> Reply:
    if methods:
        allowed = ", ".join(sorted(methods))
        fault = RequestFault(
            405,
            "method",
            f"this path takes {allowed}",
            "use it",
            received=request.method,
            headers={"allow": allowed},
        )
    else:
        fault = RequestFault(404, "path", "no such path", "see GET /docs", received=request.path)
    return _refused(fault, request.path)


def _refused(fault: RequestFault, path: str, **more: Any) -> Reply:
    """A fault as an answer; the Open Inference Protocol has its own form of one."""
    body = fault.body(protocol=path.startswith("/v2"), **more)
    return json_reply(body, fault.status, fault.headers)


def _broken(name: str, path: str) -> Reply:
    """A fault of our own: an id for the log, and nothing else, leaves the server."""
    incident = uuid.uuid4().hex
    log.exception("incident %s at %s", incident, name)
    fault = RequestFault(
        500,
        "server",
        "every request is answered, this one failed",
        "report the incident id to the operator",
    )
    return _refused(fault, path, incident=incident)
