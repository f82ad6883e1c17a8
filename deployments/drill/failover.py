"""A fail-over of PostgreSQL while a model is retrained: patroni, with etcd's Raft as the judge.

Three etcd nodes elect a leader among themselves; two PostgreSQL servers, one of them a synchronous
standby, are watched over by patroni. The machine of the primary is lost: its patroni, then its
postmaster. The standby becomes the primary, and the same URL leads to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from deployments import postgres
from deployments.drill import checks
from deployments.drill.cases import Skipped, during
from deployments.drill.parts import Part
from deployments.drill.points import RETRAIN
from deployments.drill.world import World
from deployments.processes import StackFault, free_port, guarded

_SECONDS = 120.0  # to come up, or to fail over
_PARAMETERS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "unix_socket_directories": "",
}


@dataclass
class Node:
    """One PostgreSQL server and the patroni that watches over it."""

    name: str
    folder: Path
    port: int
    rest: int
    process: subprocess.Popen[bytes] | None = None

    def says(self, what: str) -> bool:
        """Whether it is `primary`, `replica` or `synchronous` now."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.rest}/{what}", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def lose(self) -> None:
        """As if its machine had lost power."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(OSError, ValueError):
            pid = (self.folder / "data" / "postmaster.pid").read_text(encoding="ascii")
            os.kill(int(pid.splitlines()[0]), signal.SIGKILL)


@dataclass
class Cluster:
    nodes: list[Node]
    password: str

    def primary(self, seconds: float = _SECONDS) -> Node:
        return self._with("primary", seconds)

    def _with(self, role: str, seconds: float) -> Node:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for node in self.nodes:
                if node.says(role):
                    return node
            time.sleep(0.2)
        logs = "\n".join(_end(node.folder / "log") for node in self.nodes)
        raise StackFault(f"no node became {role} within {seconds:g} s:\n{logs}")

    def ready(self) -> None:
        """A primary, and a standby that has all that was committed."""
        self._with("primary", _SECONDS)
        self._with("synchronous", _SECONDS)

    def url(self, database: str) -> str:
        """One URL for both: who takes writes is found by asking."""
        hosts = "&".join(f"host=127.0.0.1:{node.port}" for node in self.nodes)
        return (
            f"postgresql://everfit:{self.password}@/{database}?{hosts}"
            "&target_session_attrs=read-write&connect_timeout=5"
        )

    def create(self, database: str) -> str:
        """Make a database on the primary; gives its URL."""
        import psycopg

        ports = ",".join(str(node.port) for node in self.nodes)
        with psycopg.connect(
            host=",".join("127.0.0.1" for _ in self.nodes),
            port=ports,
            user="everfit",
            password=self.password,
            dbname="postgres",
            target_session_attrs="read-write",
            autocommit=True,
        ) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)


def missing() -> str:
    """Why there can be no fail-over on this machine; '' where there can."""
    lacking = [name for name in ("etcd", "patroni") if shutil.which(name) is None]
    if lacking:
        return (
            f"{' and '.join(lacking)} must be installed (Debian: apt install etcd-server patroni)"
        )
    return postgres.missing()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Three etcd, two PostgreSQL, running and in step; gone at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="everfit-patroni-"))
    folder.chmod(0o755)
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        clients = _etcd(folder, ends)
        password = secrets.token_urlsafe(12)
        found = Cluster([], password)
        for name in ("one", "two"):
            node = Node(name, folder / name, free_port(), free_port())
            found.nodes.append(node)
            _start(node, _settings(node, clients, password))
            ends.callback(node.lose)
            found.primary()  # the first becomes it; the second follows
        found.ready()
        yield found


def _etcd(folder: Path, ends: ExitStack) -> list[str]:
    """The addresses at which the three take questions."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    peers = ",".join(f"n{i}=http://127.0.0.1:{peer}" for i, (_, peer) in enumerate(ports))
    for i, (client, peer) in enumerate(ports):
        command = [
            shutil.which("etcd") or "etcd",
            *("--name", f"n{i}", "--data-dir", str(folder / f"etcd{i}")),
            *("--listen-client-urls", f"http://127.0.0.1:{client}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-cluster", peers, "--initial-cluster-state", "new"),
            *("--heartbeat-interval", "250", "--election-timeout", "2500"),
        ]
        process = _guarded(command, folder / f"etcd{i}.log")
        ends.callback(_kill, process)
    return [f"127.0.0.1:{client}" for client, _ in ports]


def _settings(node: Node, clients: list[str], password: str) -> dict[str, object]:
    address = f"127.0.0.1:{node.port}"
    return {
        "scope": "drill",
        "name": node.name,
        "restapi": {
            "listen": f"127.0.0.1:{node.rest}",
            "connect_address": f"127.0.0.1:{node.rest}",
        },
        "etcd3": {"hosts": clients},
        "bootstrap": {
            "dcs": {
                "ttl": 20,  # seconds after which a silent primary has lost its place
                "loop_wait": 2,
                "retry_timeout": 5,
                "synchronous_mode": True,  # what was acknowledged is on the standby, too
                "postgresql": {"use_pg_rewind": False, "parameters": _PARAMETERS},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
        },
        "postgresql": {
            "listen": address,
            "connect_address": address,
            "data_dir": str(node.folder / "data"),
            "bin_dir": str(Path(postgres.program("postgres")).resolve().parent),
            "pgpass": str(node.folder / "pgpass"),
            "authentication": {
                "superuser": {"username": "everfit", "password": password},
                "replication": {"username": "follower", "password": password},
            },
            "pg_hba": [
                "host all all 127.0.0.1/32 scram-sha-256",
                "host replication follower 127.0.0.1/32 scram-sha-256",
            ],
            "parameters": _PARAMETERS,
        },
    }


def _start(node: Node, settings: dict[str, object]) -> None:
    node.folder.mkdir()
    place = node.folder / "patroni.yml"
    place.touch(mode=0o600)
    place.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    runner = postgres.unprivileged()
    if runner is not None:
        for mine in (node.folder, place):
            os.chown(mine, *runner)
    command = postgres.as_unprivileged([shutil.which("patroni") or "patroni", str(place)])
    node.process = _guarded(command, node.folder / "log")


def _guarded(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    given = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PG", "ETCD"))}
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603 - our own command, no shell
            guarded(command),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=given,
            start_new_session=True,
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-1_000:] if log.exists() else ""


def failed_over(world: World, prefect: Part) -> tuple[float, checks.Found]:  # noqa: ARG001
    """The primary of telemetry and registry is lost among the trials; the standby takes over."""
    if fault := missing():
        raise Skipped(fault)
    with cluster() as servers:
        apart = World(
            world.place / "patroni",
            world.context,
            {
                "EVERFIT_TELEMETRY_URL": servers.create("telemetry"),
                "EVERFIT_REGISTRY_URL": servers.create("registry"),
            },
        )
        apart.make()
        servers.ready()
        lost = servers.primary()
        point = next(p for p in RETRAIN if p.said == "after the second trial is noted")
        return during(apart, point, lambda _: lost.lose(), lambda: _moved(servers, lost))


def _moved(servers: Cluster, lost: Node) -> None:
    """Wait until the other is the primary."""
    if servers.primary() is lost:
        raise StackFault("the lost primary is primary still: nothing has failed over")
