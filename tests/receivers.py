"""Receivers of notifications that really listen: HTTP for webhooks and Slack, SMTP for mail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Inbox:
    """What came in: `posts` as (seconds since the epoch, path, JSON body)."""

    def __init__(self) -> None:
        self.posts: list[tuple[float, str, Any]] = []
        self.status = 200
        self.url = ""

    def wait(self, count: int, seconds: float = 20.0) -> list[Any]:
        """The bodies, once there are `count`."""
        deadline = time.monotonic() + seconds
        while len(self.posts) < count:
            assert time.monotonic() < deadline, f"{len(self.posts)} of {count} came"
            time.sleep(0.01)
        return [body for _, _, body in self.posts]


@contextmanager
def http_receiver() -> Iterator[Inbox]:
    """An HTTP server on a free port that keeps what is posted and answers `inbox.status`."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came = time.time()
            raw = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"].startswith("application/json")
            inbox.posts.append((came, self.path, json.loads(raw)))
            self.send_response(inbox.status)
            self.send_header("content-length", "2")
            self.end_headers()
            with suppress(OSError):  # the caller may have seen enough
                self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    inbox.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield inbox
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
