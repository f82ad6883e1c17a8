"""Clusters of several processes for tests: a scheduler, and nodes that can be killed one by one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.cluster.on_ray import own_token

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}  # until a silent peer is given up
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_AUTH_MODE": "token",
}


@dataclass
class Node:
    """One node: a process and all that it has started."""

    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """Its own, and those of all its descendants."""
        found, children = [self.process.pid], _children()
        for pid in found:
            found += children.get(pid, [])
        return found

    def kill(self) -> None:
        """kill -9 of everything at once, as a power cut would."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    """A running scheduler; `nodes` come and go."""

    address: str
    head: Node  # that of the scheduler
    nodes: list[Node] = field(default_factory=list)


def start(command: Sequence[str], **environment: str) -> Node:
    log = Path(tempfile.mkstemp(prefix="everfit-node-", suffix=".log")[1])
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env={**os.environ, **QUICK, "OMP_NUM_THREADS": "1", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Node(process, log)


@contextlib.contextmanager
def dask(
    workers: int, host: str = "127.0.0.1", elsewhere: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Cluster]:
    """A Dask scheduler and workers on `host`; elsewhere: further ones, on other addresses, each
    with the command that it is to be run under."""
    port = free_port(host)
    scheduler = start(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard",
         "--host", host, "--port", str(port)]
    )  # fmt: skip
    cluster = Cluster(f"tcp://{host}:{port}", scheduler)
    try:
        until(lambda: answers(host, port), scheduler)
        places = [(host, ()) for _ in range(workers)] + [*(elsewhere or {}).items()]
        for address, prefix in places:
            cluster.nodes.append(
                start(
                    [*prefix, sys.executable, "-m", "distributed.cli.dask_worker", cluster.address,
                     "--nthreads", "1", "--nworkers", "1", "--no-dashboard",
                     "--death-timeout", "60", "--host", address]
                )
            )  # fmt: skip
        yield cluster
    finally:
        for node in (*cluster.nodes, scheduler):
            node.kill()
            node.log.unlink()


@contextlib.contextmanager
def prefect(host: str, folder: Path) -> Iterator[str]:
    """A Prefect server on `host`; its API's URL."""
    port = free_port(host)
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    node = start([*command, "--host", host, "--port", str(port)], PREFECT_HOME=str(folder / "home"))
    try:
        until(lambda: answers(host, port), node)
        yield f"http://{host}:{port}/api"
    finally:
        node.kill()
        node.log.unlink()


@contextlib.contextmanager
def ray(workers: int, host: str = "127.0.0.1") -> Iterator[Cluster]:
    """A Ray head that runs no trials, and `workers` nodes of one trial each.

    Ray's nodes listen on all interfaces, behind a token, which drivers find in the environment.
    """
    port = free_port(host)
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--disable-usage-stats",
    ]
    given = {**RAY, "RAY_AUTH_TOKEN": own_token()}  # a driver reads it once in its life
    before = {name: os.environ.get(name) for name in given}
    small = ["--object-store-memory", "80000000"]
    with tempfile.TemporaryDirectory(prefix="everfit-ray-", ignore_cleanup_errors=True) as folder:
        os.environ.update(given)
        head = start(
            [*command, "--head", "--port", str(port), "--num-cpus", "0", "--temp-dir", folder,
             "--include-dashboard", "false", *small]
        )  # fmt: skip
        cluster = Cluster(f"{host}:{port}", head)
        try:
            until(lambda: "Ray runtime started" in head.log.read_text(), head)
            for _ in range(workers):
                cluster.nodes.append(
                    start([*command, "--address", cluster.address, "--num-cpus", "1", *small])
                )
                node = cluster.nodes[-1]
                until(lambda node=node: "Ray runtime started" in node.log.read_text(), node)
            yield cluster
        finally:
            for node in (*cluster.nodes, head):
                node.kill()
                node.log.unlink()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def until(true: Callable[[], bool], node: Node | None = None, seconds: float = 90.0) -> None:
    """Wait; a node that ends meanwhile is the fault."""
    deadline = time.monotonic() + seconds
    while not true():
        told = node.log.read_text(errors="replace") if node else ""
        assert node is None or node.process.poll() is None, told
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {told}"
        time.sleep(0.1)


def answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            found.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    return found
