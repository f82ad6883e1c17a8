"""Who is let in: a bound on the requests inside, and on the time a client takes to send one."""

from __future__ import annotations

import asyncio
import time

from deployments.serving.errors import RequestFault
from deployments.serving.http import Request
from deployments.serving.limits import read_body

_SWEEP = 1.0  # seconds between two looks for bodies that take too long


class Gate:
    """At most `limit` requests inside; further ones are turned away at once, since a queue that
    grows answers nobody in time. `with gate:` around a request."""

    __slots__ = ("inside", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0

    def __enter__(self) -> None:
        if self.inside >= self.limit:
            raise busy(f"at most {self.limit} requests are worked on at a time")
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


def busy(rule: str) -> RequestFault:
    """The 503 for a request that comes when there is too much to do."""
    return RequestFault(
        503,
        "server",
        rule,
        "send again after the time in Retry-After",
        headers={"retry-after": "1"},
    )


class Reading:
    """Reads bodies, each within `seconds`. One timer watches over all of them: a timer for each
    request would cost more than the reading."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[asyncio.Task[object], float] = {}  # oldest first
        self._late: set[asyncio.Task[object]] = set()
        self._sweeping = False

    async def body(self, request: Request, limit: int) -> bytes:
        """As `limits.read_body`; raises RequestFault 408 as well."""
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = time.monotonic()
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(min(_SWEEP, self._seconds), self._sweep)
        try:
            return await read_body(request, limit)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise RequestFault(
                408,
                "body",
                f"a body comes within {self._seconds:g} s",
                "send it at once",
                headers={"connection": "close"},
            ) from None
        finally:
            self._since.pop(task, None)
            self._late.discard(task)

    def _sweep(self) -> None:
        begun = time.monotonic() - self._seconds
        for task, since in self._since.items():
            if since > begun:
                break
            self._late.add(task)
            task.cancel()
        self._sweeping = bool(self._since)
        if self._sweeping:
            asyncio.get_running_loop().call_later(min(_SWEEP, self._seconds), self._sweep)
