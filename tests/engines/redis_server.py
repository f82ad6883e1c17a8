"""A Redis server of the machine's package, in memory alone, on a free port of loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deployments.processes import StackFault, free_port, guarded


def redis_missing() -> str:
    """Why no server can be started here; empty when one can."""
    if shutil.which("redis-server"):
        return ""
    return "redis-server is not on this machine: install it (Debian: apt install redis-server)"


@dataclass(frozen=True)
class Redis:
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Redis]:
        server = cls(free_port())
        with tempfile.TemporaryDirectory(prefix="everfit-redis-") as folder:
            command = ["redis-server", "--port", str(server.port), "--bind", "127.0.0.1"]
            command += ["--save", "", "--appendonly", "no", "--dir", folder]
            process = subprocess.Popen(
                guarded(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                deadline = time.monotonic() + 30
                while not server.answers():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise StackFault("redis-server did not start")
                    time.sleep(0.05)
                yield server
            finally:
                assert process.stdin is not None
                process.stdin.close()  # the guard ends the server
                process.wait(30)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
