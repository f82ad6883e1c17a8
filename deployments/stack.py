"""The servers around one model: Prefect's, the model's own and MLflow's page, as child processes.

Each is a context manager: it runs inside the block, and all that it writes lies under the model's
runs folder. How each is started is in the functions named `..._command`, which start nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from deployments import environment
from deployments.processes import (
    Child,
    StackFault,
    answers,
    free_port,
    port_is_free,
    running,
)

if TYPE_CHECKING:
    from tasks.config import Config

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started, where it answers, and what it answers while it is well."""

    name: str  # as it is called in a message
    command: tuple[str, ...]
    url: str
    health: str  # below `url`
    log: Path
    env: Mapping[str, str] = field(default_factory=environment.child, repr=False)  # has passwords

    @contextmanager
    def running(self) -> Iterator[Child]:
        """Run it inside the block, healthy from the beginning on."""
        with running(
            self.name,
            self.command,
            url=self.url,
            health=self.health,
            log=self.log,
            env=self.env,
        ) as child:
            yield child


@contextmanager
def prefect_server(home: Path, port: int | None = None, *, hold: bool = True) -> Iterator[str]:
    """The API url of a Prefect server that keeps its SQLite database under `home`.

    A server that the user named (PREFECT_API_URL) or that another process of everfit runs on the
    same `home` is used as it is. Otherwise one is started, on `port` or a free one, and stopped at
    the end, but not before the other processes that found it here have ended; those that come
    with `hold=False` are not waited for. The environment points at the server before this yields,
    so import prefect inside the block.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        if not answers(f"{named.rstrip('/')}/health", whatever=True):
            raise StackFault(
                f"PREFECT_API_URL names {named}, which does not answer: start that server, or "
                "unset the variable to have one started here"
            )
        yield named
        return
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _lock(home / "start.lock", fcntl.LOCK_EX):  # two that start at once share one server
            url = recorded_server(home)
            if url is None:
                url = stack.enter_context(_own_prefect(home, port))
                users = stack.enter_context(_lock(home / "users.lock", 0))
                stack.callback(fcntl.flock, users, fcntl.LOCK_EX)  # wait for the others
            elif hold:
                stack.enter_context(_lock(home / "users.lock", fcntl.LOCK_SH))
        with _pointed_at(url, home):
            yield url


def recorded_server(home: Path) -> str | None:
    """The API url of a healthy server that runs on `home`, if there is one."""
    try:
        url = str(json.loads((home / "server.json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if answers(f"{url}/health") else None


@contextmanager
def _own_prefect(home: Path, port: int | None) -> Iterator[str]:
    server = prefect_command(home, _chosen("Prefect's page", port))
    with server.running() as child:
        url = f"{server.url}/api"
        record_server(home, url, child.process.pid)
        try:
            yield url
        finally:
            (home / "server.json").unlink(missing_ok=True)


def record_server(home: Path, url: str, pid: int) -> None:
    """Have the commands on `home` find the server whose API is at `url`."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "server.json").write_text(json.dumps({"url": url, "pid": pid}), encoding="utf-8")


def prefect_command(home: Path, port: int, database: str | None = None) -> Server:
    """A Prefect server on this machine only, whose files lie under `home`.

    `database` is the URL of another database than the SQLite file there.
    """
    root = f"http://{LOOPBACK}:{port}"
    env = environment.child(
        PREFECT_HOME=str(home),
        PREFECT_API_DATABASE_CONNECTION_URL=database
        or f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        PREFECT_UI_API_URL=f"{root}/api",  # otherwise the page asks at port 4200, whatever it is
    )
    env.pop("PREFECT_API_URL", None)  # it is the server
    return Server(
        "the Prefect server",
        (*python("prefect"), "server", "start", "--host", LOOPBACK, "--port", str(port)),
        root,
        "/api/ready",  # which asks the database, too
        home / "server.log",
        env,
    )


@contextmanager
def _pointed_at(url: str, home: Path) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ("PREFECT_API_URL", "PREFECT_HOME")}
    environment.point_prefect_at(url, home)
    try:
        yield
    finally:
        _send_what_is_queued()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _send_what_is_queued() -> None:
    """Prefect sends logs and events in the background: all of them, before the server stops."""
    if "prefect.logging.handlers" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


@contextmanager
def _lock(path: Path, how: int) -> Iterator[TextIO]:
    """A file locked as flock's `how` says (0: not yet) until the end of the block."""
    with path.open("a", encoding="utf-8") as file:
        if how:
            fcntl.flock(file, how)
        yield file


@contextmanager
def inference_server(
    config_path: Path, port: int, *, host: str = LOOPBACK, runs: Path | None = None
) -> Iterator[Child]:
    """The model's server, live but perhaps not ready: without a champion it waits for one."""
    from tasks.config import load

    config = load(config_path, serving__host=host, serving__port=port, runs=runs and str(runs))
    if not port_is_free(port, host):
        raise StackFault(f"port {port} on {host} is taken: name another with --port")
    with inference_command(config_path, config).running() as child:
        yield child


def inference_command(config_path: Path, config: Config) -> Server:
    """The server of `config`'s model, at the host and port of `config`."""
    host, port = config.serving.host, config.serving.port
    command = [*python("deployments"), "serve", str(config_path)]
    command += ["--host", host, "--port", str(port), "--runs", str(config.folder)]
    return Server(
        "the model server",
        tuple(command),
        f"http://{reached(host)}:{port}",
        "/v2/health/live",
        config.folder / "logs" / "serve.log",
    )


def reached(host: str) -> str:
    """The address at which a server that listens at `host` is found on this machine.

    >>> reached("0.0.0.0"), reached("::"), reached("10.0.0.7")
    ('127.0.0.1', '[::1]', '10.0.0.7')
    """
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared with, not listened at
        return LOOPBACK
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


@contextmanager
def mlflow_server(config: Config, port: int | None = None) -> Iterator[Child]:
    """MLflow's page on the registry of `config`, on this machine only."""
    with mlflow_command(config, _chosen("MLflow's page", port)).running() as child:
        yield child


def mlflow_command(config: Config, port: int, **env: str) -> Server:
    """MLflow's server on the registry of `config`, which may have a password in it: the address
    of the registry is passed through the environment, where other users do not see it."""
    command = [*python("mlflow"), "server", "--host", LOOPBACK, "--port", str(port)]
    command += ["--workers", "1", "--no-serve-artifacts"]
    command += ["--uvicorn-opts", "--log-level warning"]  # no line for each request
    command += ["--default-artifact-root", str(config.artifacts)]
    return Server(
        "the MLflow server",
        tuple(command),
        f"http://{LOOPBACK}:{port}",
        "/health",
        config.folder / "logs" / "mlflow.log",
        environment.child(MLFLOW_BACKEND_STORE_URI=config.registry_url, **env),
    )


@contextmanager
def evidently_server(workspace: Path, log: Path, port: int | None = None) -> Iterator[Child]:
    """Evidently's page on the reports kept in `workspace`, on this machine only.

    An empty folder will do: reports that are kept later appear as they come. Its telemetry is off.
    """
    port = _chosen("Evidently's page", port)
    workspace.mkdir(parents=True, exist_ok=True)
    with evidently_command(workspace, log, port).running() as child:
        yield child


def evidently_command(workspace: Path, log: Path, port: int) -> Server:
    """Evidently's server on `workspace`."""
    command = [*python("evidently.cli"), "ui", "--workspace", str(workspace)]
    command += ["--host", LOOPBACK, "--port", str(port)]
    return Server(
        "the Evidently server",
        tuple(command),
        f"http://{LOOPBACK}:{port}",
        "/api/version",
        log,
        environment.child(DO_NOT_TRACK="1"),
    )


def python(module: str) -> list[str]:
    """Run a module of this environment; -P keeps a folder `models` where the user stands out."""
    return [sys.executable, "-P", "-m", module]


def _chosen(what: str, port: int | None) -> int:
    if port is not None and not port_is_free(port):
        raise StackFault(f"port {port} for {what} is taken: name another, or leave it out")
    return free_port(port)
