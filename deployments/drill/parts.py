"""The processes that a retrain leans on, as the drill starts, kills and mends them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments import processes
from deployments.processes import Child, StackFault
from deployments.stack import Server


class Part:
    """A server that can be killed and started again at the same place."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.child: Child | None = None

    def start(self) -> None:
        server = self.server
        self.child = processes.start(
            server.name,
            server.command,
            url=server.url,
            health=server.health,
            log=server.log,
            env=server.env,
            timeout=180.0,
        )

    def kill(self) -> None:
        """As a crash would: itself and all that it has started."""
        assert self.child is not None
        self.child.kill()

    def kill_one(self) -> None:
        """The youngest of its processes: a worker of a server that has some."""
        assert self.child is not None
        struck = descendants(self.child.process.pid)
        if len(struck) < 2:
            raise StackFault(f"{self.server.name} has no worker to kill, only {struck}")
        os.kill(struck[-1], signal.SIGKILL)

    @contextmanager
    def running(self) -> Iterator[Part]:
        self.start()
        try:
            yield self
        finally:
            assert self.child is not None
            self.child.stop()


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, oldest first; by /proc, so on Linux alone."""
    parents: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(entry.parent.name)] = (int(fields[1]), int(fields[19]))
    found, level = [], {pid}
    while level:
        level = {child for child, (parent, _) in parents.items() if parent in level}
        found += level
    return sorted(found, key=lambda child: parents[child][1])


def trial_processes(pid: int) -> list[int]:
    """Those of the processes below `pid` that Python's multiprocessing has made for work."""
    found = []
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command or b"forkserver" in command:
                found.append(child)
    return found


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[str]:
    """A disk of so many MB at `place`; answers why there is none, '' where there is."""
    program = shutil.which("mount")
    if os.geteuid() != 0 or program is None:
        yield "only root can mount a small disk"
        return
    command = [program, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        yield f"a small disk could not be mounted: {done.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        away = [shutil.which("umount") or "umount", str(place)]
        for _ in range(50):
            if subprocess.run(away, capture_output=True, check=False).returncode == 0:  # noqa: S603
                break
            time.sleep(0.1)
