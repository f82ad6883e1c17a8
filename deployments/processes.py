"""Child processes that never outlive their parent: started, watched, stopped in order.

A child runs behind a guard of a few lines, in a session of its own, so that Ctrl-C in the terminal
reaches the parent alone and the parent stops its children in order. The guard holds the other end
of a pipe: when the parent is gone, even by SIGKILL, the pipe closes and the guard ends the child
with all that it started.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments import environment

_GUARD = """
import os, signal, subprocess, sys, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def default():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=default)
def watch():
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(5)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
sys.exit(code if code >= 0 else 128 - code)
"""

# Local servers are asked directly, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StackFault(Exception):
    """A child process that did not start or did not stay: which one, why, and where its log is."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process and where it answers."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    url: str

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, then SIGKILL to what is left of its group after `grace` seconds."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the child and all that it started, as a crash would."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def free_port(preferred: int | None = None, host: str = "127.0.0.1") -> int:
    """`preferred` if nobody listens there, else one that the system has free."""
    if preferred is not None and port_is_free(preferred, host):
        return preferred
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def answers(url: str, timeout: float = 2.0, *, whatever: bool = False) -> bool:
    """Whether `url` answers with a success, or `whatever` it says, for instance 'log in first'."""
    try:
        with _direct.open(url, timeout=timeout) as response:
            return whatever or 200 <= int(response.status) < 300
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return whatever
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
        return False


def guarded(command: Sequence[str]) -> list[str]:
    """`command` behind the guard: its standard input is to be a pipe that the parent holds."""
    return [sys.executable, "-I", "-S", "-c", _GUARD, *command]


def spawn(
    name: str,
    command: Sequence[str],
    *,
    url: str,
    log: Path,
    env: Mapping[str, str] | None = None,
) -> Child:
    """Start a process whose output goes to `log`, and do not wait for it.

    It ends with this process, whatever ends that one; whoever wants it to end earlier stops it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            [sys.executable, "-I", "-S", "-c", _GUARD, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else environment.child(),
            start_new_session=True,
        )
    return Child(name, process, log, url)


def start(
    name: str,
    command: Sequence[str],
    *,
    url: str,
    health: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    clock: Callable[[], float] = time.monotonic,
) -> Child:
    """Start a server and wait until `url` + `health` answers; its output goes to `log`.

    Raises StackFault when it ends before that or takes longer than `timeout` seconds.
    """
    child = spawn(name, command, url=url, log=log, env=env)
    try:
        _await(child, url + health, clock() + timeout, clock)
    except BaseException:
        child.stop(grace=2.0)
        raise
    atexit.register(child.stop, 2.0)
    return child


@contextmanager
def running(name: str, command: Sequence[str], **options: object) -> Iterator[Child]:
    """`start`, and `stop` at the end of the block."""
    child = start(name, command, **options)  # type: ignore[arg-type]
    try:
        yield child
    finally:
        child.stop()
        atexit.unregister(child.stop)


def _await(child: Child, url: str, deadline: float, clock: Callable[[], float]) -> None:
    while not answers(url):
        if not child.alive:
            raise StackFault(
                f"{child.name} ended with code {child.process.returncode} before it answered at "
                f"{url}: {last_words(child.log)}"
            )
        if clock() > deadline:
            raise StackFault(
                f"{child.name} does not answer at {url}: look into its log, {child.log}"
            )
        time.sleep(0.1)


def last_words(log: Path, lines: int = 5) -> str:
    """The end of a log, for the message of a fault."""
    text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:]
    return (
        "\n  ".join([f"the end of its log, {log}:", *text]) if text else f"its log {log} is empty"
    )
