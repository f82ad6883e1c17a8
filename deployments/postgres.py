"""A PostgreSQL server in a folder of its own, from the machine's package: for tests and drills.

It listens on loopback alone, asks for a password that is made at the start, and ends with the
process that started it, even when that is killed. What was committed survives a crash of the
server, not one of the machine (fsync is off). PostgreSQL refuses to run as root; for root another
user of the machine runs it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deployments.processes import StackFault, free_port, guarded

_PLACES = ("/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt")  # Debian, Homebrew
_USERS = ("postgres", "nobody")  # who runs it instead of root
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}
_SECONDS = 60.0  # to come up, or to go down

# Started as root, a command becomes another user first: the guard stays root's and can end it.
_BECOME = (
    "import os, sys; u, g = int(sys.argv[1]), int(sys.argv[2]); os.setgroups([]); os.setgid(g); "
    "os.setuid(u); os.chdir('/'); os.execv(sys.argv[3], sys.argv[3:])"
)


def missing() -> str:
    """Why no server can be started on this machine; empty when one can."""
    try:
        program("initdb"), program("postgres"), unprivileged()
    except StackFault as fault:
        return str(fault)
    return ""


class Postgres:
    """A server whose data lie in `folder`, made there on the first start. Raises StackFault.

    `settings` are of postgresql.conf, on top of what is set here.
    """

    user = "everfit"

    def __init__(
        self, folder: Path, port: int | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.settings = _SETTINGS | (settings or {})
        self.password = secrets.token_urlsafe(12)
        self.log = folder / "log"
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def url(
        self, database: str = "postgres", *, driver: str = "postgresql", password: bool = True
    ) -> str:
        """Where `database` is; without `password` it is asked of PGPASSWORD."""
        who = f"{self.user}:{self.password}" if password else self.user
        return f"{driver}://{who}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        if not (self._data / "PG_VERSION").exists():
            self._make()
        given = [part for item in self.settings.items() for part in ("-c", "=".join(item))]
        command = [program("postgres"), "-D", str(self._data), "-p", str(self.port), *given]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                guarded(as_unprivileged(command)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self.log.read_text(encoding="utf-8", errors="replace")[-1_500:]
                self.kill()
                raise StackFault(f"PostgreSQL did not start: the end of its log:\n{words}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def create(self, database: str) -> str:
        """Make a database; gives its URL."""
        self.sql(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        self.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql says to one statement, rows by line and columns by `|`."""
        command = [program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-d", database]
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            command,
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise StackFault(f"psql refused {statement[:80]!r}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password, encoding="ascii")
        if (runner := unprivileged()) is not None:
            for place in (self.folder, secret):
                os.chown(place, *runner)
        command = [program("initdb"), "-D", str(self._data), "-U", self.user, "--no-sync"]
        command += ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={secret}"]
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            as_unprivileged(command), capture_output=True, text=True, check=False
        )
        secret.unlink()
        if done.returncode:
            raise StackFault(
                f"initdb could not make a database in {self.folder}: {done.stderr.strip()[-500:]}: "
                "name a folder on a local disk that its user can reach"
            )

    def _ready(self) -> bool:
        asked = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0  # noqa: S603 - our own

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            lines = (self._data / "postmaster.pid").read_text(encoding="ascii").splitlines()
            os.kill(int(lines[0]), number)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


@contextmanager
def temporary(settings: dict[str, str] | None = None) -> Iterator[Postgres]:
    """A running server whose folder is gone at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="everfit-postgres-"))
    server = Postgres(folder, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def program(name: str) -> str:
    """Where a program of PostgreSQL is: on the path, or in its newest version's folder."""
    if found := shutil.which(name):
        return found
    for place in _PLACES:
        for path in sorted(Path(place).glob(f"*/bin/{name}"), reverse=True):
            if "postgres" in str(path.parent):
                return str(path)
    raise StackFault(
        f"PostgreSQL's {name} is not on this machine: install its server (Debian: apt install "
        "postgresql)"
    )


def unprivileged() -> tuple[int, int] | None:
    """User and group that run the server; None: this process's own."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    raise StackFault(
        f"PostgreSQL does not run as root, and this machine has no user {' or '.join(_USERS)}: "
        "run this as another user"
    )


def as_unprivileged(command: Sequence[str]) -> list[str]:
    """The command as that user runs it; as it is where this process is not root."""
    runner = unprivileged()
    if runner is None:
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _BECOME, *map(str, runner), *command]
