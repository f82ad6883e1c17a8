"""Load from wrk (closed loop: each connection waits for its answer), and at a fixed rate (open
loop), whose latencies count from when a request was due, so that waiting in line is not hidden."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

_LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "JSON{\\"requests\\":%%d,\\"us\\":%%d,\\"p50\\":%%d,\\"p95\\":%%d,\\"p99\\":%%d,\\"errors\\":%%d}\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95),
    latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status))
end
"""


class LoadFault(RuntimeError):
    """wrk is missing or failed."""


def wrk(port: int, path: str, body: bytes, *, connections: int, seconds: float) -> dict[str, Any]:
    """requests/s, latencies in ms, and errors: refused, broken or late connections, status > 399.

    Raises LoadFault.
    """
    program = shutil.which("wrk")
    if program is None:
        raise LoadFault("wrk makes the load, and is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "post.lua"
        script.write_text(_LUA % body.decode(), encoding="utf-8")
        url = f"http://127.0.0.1:{port}{path}"
        command = [program, "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s"]
        done = subprocess.run(
            [*command, "--timeout", "10s", "-s", str(script), url],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
        )
    _, mark, figures = done.stdout.partition("JSON")
    if done.returncode or not mark:
        raise LoadFault(f"wrk failed: {(done.stderr or done.stdout)[-500:]}")
    found = json.loads(figures)
    return {
        "requests/s": found["requests"] / (found["us"] / 1e6),
        **{f"{p} ms": found[p] / 1000 for p in ("p50", "p95", "p99")},
        "requests": found["requests"],
        "errors": found["errors"],
    }


def at_rate(
    port: int, path: str, body: bytes, *, rate: float, seconds: float, connections: int = 128
) -> dict[str, Any]:
    """As `wrk`, with `rate` requests a second, at random moments, whatever the server does.

    A request that is due while all connections wait for answers waits with them, and its latency
    counts from when it was due. The first second is not counted.
    """
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    loop = _OpenLoop(port, request, rate, seconds, connections)
    uvloop.run(loop.run())
    return loop.figures()


class _OpenLoop:
    """The clock, the line of requests that are due, and the connections that are free."""

    def __init__(
        self, port: int, request: bytes, rate: float, seconds: float, connections: int
    ) -> None:
        self.request = request
        self.port = port
        self.connections = connections
        rng = np.random.default_rng(0)
        self.due = np.cumsum(rng.exponential(1 / rate, int(rate * (seconds + 1)))).tolist()
        self.line: deque[float] = deque()
        self.free: list[_Connection] = []
        self.latencies: list[float] = []
        self.errors = 0
        self.left = len(self.due)
        self.begin = 0.0
        self.done = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.port)
            for _ in range(self.connections)
        ]
        self.begin = time.perf_counter() + 0.05
        sent = 0
        while sent < len(self.due):
            now = time.perf_counter() - self.begin
            while sent < len(self.due) and self.due[sent] <= now:
                self.line.append(self.due[sent])
                sent += 1
            while self.line and self.free:
                self.free.pop().send(self.line.popleft())
            await asyncio.sleep(0.0002)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.done.wait(), 30)
        self.errors += self.left  # never answered
        for transport, _ in made:
            transport.abort()  # the loop's end waits for what is open
        await asyncio.sleep(0)

    def answered(self, connection: _Connection, due: float, good: bool) -> None:
        self.left -= 1
        if due >= 1.0:
            self.latencies.append(time.perf_counter() - self.begin - due)
        self.errors += not good
        if self.line:
            connection.send(self.line.popleft())
        else:
            self.free.append(connection)
        if not self.left:
            self.done.set()

    def figures(self) -> dict[str, Any]:
        ms = np.array(self.latencies) * 1000
        p50, p95, p99 = np.percentile(ms, [50, 95, 99]) if len(ms) else (np.nan,) * 3
        return {
            "requests/s": len(ms) / max(self.due[-1] - 1.0, 1e-9),
            "p50 ms": float(p50),
            "p95 ms": float(p95),
            "p99 ms": float(p99),
            "requests": len(ms),
            "errors": self.errors,
        }


class _Connection(asyncio.Protocol):
    """One request at a time; answers have a content length."""

    def __init__(self, owner: _OpenLoop) -> None:
        self.owner = owner
        self.sent = 0.0
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.owner.free.append(self)

    def send(self, due: float) -> None:
        self.sent = due
        self.transport.write(self.owner.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.received[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(self.received) >= end + 4 + length:
            self.received = b""
            self.owner.answered(self, self.sent, head.startswith(b"http/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self in self.owner.free:
            self.owner.free.remove(self)  # what was under way on another is counted as unanswered
