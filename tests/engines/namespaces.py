"""A second network namespace, joined to this one by a cable that can be cut."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Namespace:
    """`here` and `there` are the addresses of the two ends of the cable."""

    name: str
    here: str
    there: str
    cable: str

    @property
    def within(self) -> tuple[str, ...]:
        """What a command is to be started with to run there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        ip("link", "set", self.cable, "down")


def unsupported() -> str:
    """Why there can be none; '' if there can."""
    if shutil.which("ip") is None:
        return "there is no ip (Debian: apt install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"everfit-{secrets.token_hex(3)}"
    try:
        ip("netns", "add", name)
        ip("netns", "delete", name)
    except subprocess.CalledProcessError as fault:
        return f"network namespaces are not permitted: {fault.stderr.strip()}"
    return ""


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    mark, net = secrets.token_hex(3), 16 + secrets.randbelow(200)
    made = Namespace(f"everfit-{mark}", f"10.213.{net}.1", f"10.213.{net}.2", f"ef{mark}")
    ip("netns", "add", made.name)
    try:
        ip("link", "add", made.cable, "type", "veth", "peer", "name", "ef0", "netns", made.name)
        ip("address", "add", f"{made.here}/30", "dev", made.cable)
        ip("link", "set", made.cable, "up")
        for command in (
            ("address", "add", f"{made.there}/30", "dev", "ef0"),
            ("link", "set", "ef0", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", made.name, *command)
        yield made
    finally:
        ip("netns", "delete", made.name)  # and with it the cable
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "delete", made.cable)


def hide(pid: int, folder: Path) -> None:
    """Take the shared folder away from the node that `pid` belongs to, and from no other."""
    command = ["nsenter", "--target", str(pid), "--mount", "mount", "-t", "tmpfs", "none", folder]
    subprocess.run(command, check=True, capture_output=True, text=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
