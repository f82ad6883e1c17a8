"""The servers: how each is started with the model, and what a request to it looks like.

Each runs in a process group of its own on a free port of the loopback, on one thread a worker, and
is ended with its whole group. Peers run under the interpreter of their own environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deployments.processes import free_port
from tests.benchmarks.peers import environment
from tests.benchmarks.serve.models import COLUMNS, Prepared

_START_SECONDS = 180.0
_THREADS = dict.fromkeys(environment.THREADS, "1")


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    port: int
    path: str
    body: Callable[[int], bytes]  # the body of a request of so many rows
    group: int

    def memory_mb(self) -> float:
        """Resident memory of the whole process group; pages that processes share count once."""
        return sum(_pss(pid) for pid in _members(self.group)) / 1024

    def cpu_seconds(self) -> float:
        """CPU time of the whole group so far."""
        return sum(map(_cpu, _members(self.group)))


def rows(count: int) -> list[list[float]]:
    return np.random.default_rng(1).normal(size=(count, len(COLUMNS))).round(4).tolist()  # type: ignore[no-any-return]


def split(count: int) -> bytes:
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": rows(count)}}).encode()


def tensor(count: int) -> bytes:
    data = [value for row in rows(count) for value in row]
    one = {"name": "x", "shape": [count, len(COLUMNS)], "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [one]}).encode()


def _listed(key: str) -> Callable[[int], bytes]:
    return lambda count: json.dumps({key: rows(count)}).encode()


Starter = Callable[[Prepared, int], Any]


def everfit(*, telemetry: bool = True, protocol: bool = False) -> Callable[[Prepared, int], Any]:
    """The product; `protocol`: asked by the Open Inference Protocol instead of MLflow's."""

    @contextmanager
    def start(model: Prepared, workers: int) -> Iterator[Running]:
        port = free_port()
        code = f"from deployments.serving.run import serve; serve({str(model.config)!r}, "
        code += f"port={port}, workers={workers})"
        if not telemetry:
            code = _SILENT + code
        path = "/v2/models/bench/infer" if protocol else "/invocations"
        body = tensor if protocol else split
        with _group([sys.executable, "-c", code], port, "/v2/health/ready") as group:
            yield Running(port, path, body, group)

    return start


# telemetry off is for this measurement alone, so it is no setting of the product
_SILENT = """
from deployments.serving import telemetry_writer
telemetry_writer.TelemetryWriter.add = lambda self, served: True
"""


@contextmanager
def mlflow(model: Prepared, workers: int) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model.mlflow)]
    command += ["--env-manager", "local", "--port", str(port), "--workers", str(workers)]
    # MLflow's ONNX flavour of one tensor takes plain rows, a table's flavour takes a table
    body = _listed("inputs") if model.onnx else split
    with _group(command, port, "/ping") as group:
        yield Running(port, "/invocations", body, group)


def peer(name: str, path: str, key: str, ready: str = "/ready") -> Callable[[Prepared, int], Any]:
    """A script of tests/benchmarks/peers that serves an ONNX file: MODEL PORT WORKERS. Those of
    `_OURS` run in this environment."""

    @contextmanager
    def start(model: Prepared, workers: int) -> Iterator[Running]:
        interpreter = Path(sys.executable) if name in _OURS else environment.python(name)
        if interpreter is None:
            raise environment.PeerFault(environment.missing(name))
        if model.onnx is None and name not in _OURS:
            raise environment.PeerFault("it serves the ONNX file alone")
        port = free_port()
        script = environment.HERE / f"{name}.py"
        served = model.config if name == "serve_rsgi" else model.onnx
        command = [str(interpreter), str(script), str(served), str(port), str(workers)]
        with _group(command, port, ready) as group:
            body = split if name == "serve_rsgi" else _listed(key)
            yield Running(port, path, body, group)

    return start


_OURS = ("serve_empty", "serve_rsgi", "serve_wire")
SERVERS: dict[str, Starter] = {
    "empty handler (granian)": peer("serve_empty", "/invocations", "rows"),
    "empty handler (ours)": peer("serve_wire", "/invocations", "rows"),
    "everfit": everfit(),
    "everfit behind granian": peer("serve_rsgi", "/invocations", "rows", "/v2/health/ready"),
    "everfit, /v2 infer": everfit(protocol=True),
    "everfit, no telemetry": everfit(telemetry=False),
    "mlflow models serve": mlflow,
    "BentoML": peer("serve_bento", "/predict", "rows", "/readyz"),
    "FastAPI": peer("serve_fastapi", "/predict", "rows"),
    "Ray Serve": peer("serve_ray", "/predict", "rows"),
}


@contextmanager
def _group(command: list[str], port: int, health: str) -> Iterator[int]:
    import httpx

    binaries = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    surroundings = {**os.environ, **_THREADS, "PATH": binaries, "BENTOML_DO_NOT_TRACK": "True"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=surroundings,
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    words = said.read()[-1_500:].decode(errors="replace")
                    raise environment.PeerFault(f"{command[0]} did not become ready: {words}")
                try:
                    if httpx.get(f"http://127.0.0.1:{port}{health}", timeout=2).is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
            yield process.pid
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started."""
    everyone = _members(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    for pid in everyone:
        if _born_of(pid, everyone):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def _born_of(pid: int, everyone: Sequence[int]) -> bool:
    """Whether `pid` still is one of the server's: orphans go to process 1."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[1]) in (1, os.getpid(), *everyone)


def _members(leader: int) -> list[int]:
    """The leader, its group, and whoever descends from them: some servers start sessions anew."""
    parents: dict[int, int] = {}
    found = {leader}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        if int(fields[2]) == leader:
            found.add(int(entry.name))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found)


def _pss(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1])
    except OSError:
        pass
    return 0.0


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
