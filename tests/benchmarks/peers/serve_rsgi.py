"""everfit's application behind granian (RSGI) instead of its own reading of sockets: all else, the
quick lane and the recorder too, is the same. CONFIG PORT WORKERS"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
from types import SimpleNamespace
from typing import Any

from granian import Granian

from deployments.serving import lane, recorder
from deployments.serving.app import create_app
from deployments.serving.http import Request
from deployments.serving.supervisor import FOLDER
from tasks.config import load


class RsgiRequest(Request):
    """A request of granian's, its body read."""

    __slots__ = ("_body",)

    def __init__(self, scope: Any, body: bytes) -> None:
        super().__init__()
        self.method, self.path, self.query = scope.method, scope.path, scope.query_string
        self.headers = scope.headers
        self._body = body

    async def body(self, limit: int) -> bytes:
        del limit
        return self._body


class Connection:
    """What a lane needs of one."""

    __slots__ = ("reply", "wire")

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self.reply = wire.loop.create_future()

    def send(self, head: bytes, body: bytes) -> None:
        self.reply.set_result((head, body))

    def answer(self, _head: Any, _body: bytes) -> None:
        self.reply.set_result(None)


class Rsgi:
    """The application as granian calls it."""

    def __init__(self, config: Any) -> None:
        self.app = create_app(config)
        self.lanes = lane.of(self.app.state.service)
        self.wire = SimpleNamespace()
        self.heads: dict[Any, Any] = {}

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        body = await protocol()
        headers = scope.headers
        special = "traceparent" in headers or "content-encoding" in headers
        if scope.method == "POST" and not special:
            key = scope.path, headers.get("content-type")
            if (head := self.heads.get(key)) is None:
                about = dict(headers.items())
                head = SimpleNamespace(
                    method="POST", path=scope.path, headers=about, keep=True, old=False, length=1
                )
                head.lane = self.lanes(head)
                self.heads[key] = head
            if head.lane is not None:
                connection = Connection(self.wire)
                head.lane.take(connection, head, body)
                if (reply := await connection.reply) is not None:
                    lines = reply[0][17:-2].decode().split("\r\n")
                    pairs = [tuple(line.split(": ", 1)) for line in lines[:-1]]
                    protocol.response_bytes(200, pairs, reply[1])
                    return
        answer = await self.app.handle(RsgiRequest(scope, body))
        protocol.response_bytes(answer.status, answer.headers, answer.body)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wire.loop = loop
        loop.run_until_complete(self.app.startup())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self.app.shutdown())


def application() -> Rsgi:
    sys.setswitchinterval(0.0005)
    return Rsgi(load(sys.argv[1], serving__port=int(sys.argv[2])))


if __name__ == "__main__":
    _, path, port, workers = sys.argv
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        if int(workers) > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        beside = multiprocessing.get_context("fork").Process(
            target=recorder.run, args=(load(path), recorder.address(folder)), daemon=True
        )
        beside.start()
        Granian(
            "everfit",
            port=int(port),
            workers=int(workers),
            interface="rsgi",
            http="1",
            websockets=False,
            log_level="warning",
        ).serve(target_loader=application, wrap_loader=False)
        beside.terminate()
