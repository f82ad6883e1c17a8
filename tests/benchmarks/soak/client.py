"""The customers of the soak, in a process of their own: ask, check every answer, label, note all.

    python -m tests.benchmarks.soak.client PLAN.json

The plan has: port, rate (requests a second; 0 asks as fast as `connections` allow), seconds,
connections, label_every, prefix, rows (bodies' rows), right (version -> probability per row), out.
Requests come at random moments whatever the server does, and latencies count from when a request
was due. A request whose connection breaks has failed; it is not sent again, and a new connection
takes the place of the broken one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop

OK, WRONG, REFUSED, BROKEN, UNANSWERED = range(5)
_PATIENCE = 10.0  # seconds for an answer, and for the last ones
_TOLERANCE = 1e-5
_NONE = -1.0


@dataclass(slots=True)
class Asked:
    """A request on its way: which number, when due, and whether it is a label."""

    number: int
    due: float
    label: bool = False


class Customers:
    """The line of what is due, the connections that are free, and what came of everything."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.rows, self.right = plan["rows"], plan["right"]
        rng = np.random.default_rng(plan["seed"])
        rate = plan["rate"]
        self.due = (
            np.cumsum(rng.exponential(1 / rate, int(rate * plan["seconds"]))).tolist()
            if rate
            else None
        )
        self.line: deque[Asked] = deque()
        self.free: deque[Connection] = deque()
        self.number = 0
        # by request: what came of it, seconds it took, when it was answered, which version
        self.outcome: list[int] = []
        self.seconds: list[float] = []
        self.answered: list[float] = []
        self.version: list[str] = []
        self.labels: dict[str, str] = {}  # acknowledged
        self.label_failures = 0
        self.begin = 0.0
        self.under_way = 0
        self.closing = False

    def body(self, asked: Asked) -> bytes:
        if asked.label:
            value = "late" if asked.number % 2 else "on time"
            sent: Any = {"id": self.name(asked.number), "label": value}
            path = "/labels"
        else:
            row = self.rows[asked.number % len(self.rows)]
            sent = {"dataframe_records": [row], "ids": [self.name(asked.number)]}
            path = "/invocations"
        body = msgspec.json.encode(sent)
        head = f"POST {path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def name(self, number: int) -> str:
        return f"{self.plan['prefix']}-{number}"

    async def run(self) -> None:
        connections = [Connection(self) for _ in range(self.plan["connections"])]
        await asyncio.gather(*(c.open() for c in connections))
        self.begin = time.monotonic()
        end = self.begin + self.plan["seconds"]
        while (now := time.monotonic()) < end:
            self._fill(now - self.begin)
            while self.line and self.free:
                self.free.popleft().send(self.line.popleft())
            if self.due is not None and self.number >= len(self.due) and not self.line:
                break
            await asyncio.sleep(0.0005)
        deadline = time.monotonic() + _PATIENCE
        while (self.under_way or self.line) and time.monotonic() < deadline:
            while self.line and self.free:
                self.free.popleft().send(self.line.popleft())
            await asyncio.sleep(0.005)
        self.closing = True
        for connection in connections:
            connection.close()

    def _fill(self, now: float) -> None:
        if self.due is None:
            while len(self.line) < len(self.free):
                self._ask(now)
            return
        while self.number < len(self.due) and self.due[self.number] <= now:
            self._ask(self.due[self.number])

    def _ask(self, due: float) -> None:
        self.line.append(Asked(self.number, due))
        self.number += 1
        self.outcome.append(UNANSWERED)
        self.seconds.append(_NONE)
        self.answered.append(_NONE)
        self.version.append("")

    def done(self, asked: Asked, status: int, body: bytes) -> None:
        now = time.monotonic()
        if asked.label:
            if status in (200, 202):
                self.labels[self.name(asked.number)] = "late" if asked.number % 2 else "on time"
            else:
                self.label_failures += 1
            return
        self.seconds[asked.number] = now - self.begin - asked.due
        self.answered[asked.number] = now
        if status != 200:
            self.outcome[asked.number] = REFUSED
            return
        said = msgspec.json.decode(body)
        version = self.version[asked.number] = said["model_version"]
        found = said["predictions"][0]["probability_late"]
        wanted = self.right[version][asked.number % len(self.rows)]
        right = said["ids"] == [self.name(asked.number)] and abs(found - wanted) < _TOLERANCE
        self.outcome[asked.number] = OK if right else WRONG
        every = self.plan["label_every"]
        if every and asked.number % every == 0:
            self.line.append(Asked(asked.number, now - self.begin, label=True))

    def broken(self, asked: Asked) -> None:
        if asked.label:
            self.label_failures += 1
            return
        self.outcome[asked.number] = BROKEN
        self.answered[asked.number] = time.monotonic()

    def write(self) -> None:
        out = Path(self.plan["out"])
        np.savez(
            out.with_suffix(".npz"),
            outcome=np.array(self.outcome, dtype=np.int8),
            seconds=np.array(self.seconds),
            answered=np.array(self.answered),
        )
        told = {"labels": self.labels, "label_failures": self.label_failures}
        told |= {"versions": sorted(set(self.version) - {""}), "begin": self.begin}
        out.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")


class Connection(asyncio.Protocol):
    """One request at a time; opened again when it breaks."""

    def __init__(self, owner: Customers) -> None:
        self.owner = owner
        self.transport: Any = None
        self.asked: Asked | None = None
        self.received = b""

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.owner.closing:
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self.owner.plan["port"])
                return
            except OSError:
                await asyncio.sleep(0.02)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.received, self.asked = transport, b"", None
        self.owner.free.append(self)

    def send(self, asked: Asked) -> None:
        self.asked = asked
        self.owner.under_way += 1
        self.transport.write(self.owner.body(asked))

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.received[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(self.received) < end + 4 + length:
            return
        asked, body = self.asked, self.received[end + 4 :]
        self.asked, self.received = None, b""
        assert asked is not None
        self.owner.under_way -= 1
        self.owner.done(asked, int(head[9:12]), body)
        if b"\r\nconnection: close" in head:
            self.transport.close()  # and opened anew: the server has shared its connections out
        else:
            self.owner.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self in self.owner.free:
            self.owner.free.remove(self)
        if self.asked is not None:
            self.owner.under_way -= 1
            self.owner.broken(self.asked)
            self.asked = None
        if not self.owner.closing:
            self._again = asyncio.ensure_future(self.open())


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    customers = Customers(plan)
    uvloop.run(customers.run())
    customers.write()


if __name__ == "__main__":
    main()
