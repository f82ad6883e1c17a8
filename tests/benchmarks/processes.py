"""The processes of a running server, as /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """Process ids of the children of any of its threads; none of a process that is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return []


def workers(supervisor: int) -> list[int]:
    """Those children that answer requests; beside them there is the recorder."""
    return [pid for pid in children(supervisor) if _name(pid).startswith("everfit-worker")]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def listens(pid: int) -> bool:
    """Whether the process waits for connections. That it has the socket is not enough: it was born
    with it."""
    held: dict[str, str] = {}
    waited_for: set[str] = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            held[link.name] = target
            if target == "anon_inode:[eventpoll]":
                lines = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().splitlines()
                waited_for |= {line.split()[1] for line in lines if line.startswith("tfd:")}
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    listening = {f"socket:[{line.split()[9]}]" for line in lines if line.split()[3] == "0A"}
    return any(held.get(fd) in listening for fd in waited_for)
