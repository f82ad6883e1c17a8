"""Load from wrk (closed loop: each connection waits for its answer), and at a fixed rate (open
loop), whose latencies count from when a request was due, so that waiting in line is not hidden."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local requests, last = {}, 0
init = function(args)
  for body in io.lines("%s") do requests[#requests + 1] = wrk.format(nil, nil, nil, body) end
end
request = function()
  last = last %% #requests + 1
  return requests[last]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "JSON{\\"requests\\":%%d,\\"us\\":%%d,\\"p50\\":%%d,\\"p95\\":%%d,\\"p99\\":%%d,\\"errors\\":%%d}\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95),
    latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status))
end
"""


class LoadFault(RuntimeError):
    """wrk is missing or failed."""


def wrk(
    port: int, path: str, body: bytes | Sequence[bytes], *, connections: int, seconds: float
) -> dict[str, Any]:
    """requests/s, latencies in ms, and errors: refused, broken or late connections, status > 399.

    `body` is JSON in one line; several are sent in turn. Raises LoadFault.
    """
    program = shutil.which("wrk")
    if program is None:
        raise LoadFault("wrk makes the load, and is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "post.lua"
        bodies = Path(place) / "bodies"
        bodies.write_bytes(b"\n".join([body] if isinstance(body, bytes) else body))
        script.write_text(_LUA % bodies, encoding="utf-8")
        url = f"http://127.0.0.1:{port}{path}"
        command = [program, "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s"]
        done = subprocess.run(
            [*command, "--timeout", "10s", "-s", str(script), url],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
        )
    _, mark, figures = done.stdout.partition("JSON")
    if done.returncode or not mark:
        raise LoadFault(f"wrk failed: {(done.stderr or done.stdout)[-500:]}")
    found = json.loads(figures)
    return {
        "requests/s": found["requests"] / (found["us"] / 1e6),
        **{f"{p} ms": found[p] / 1000 for p in ("p50", "p95", "p99")},
        "requests": found["requests"],
        "errors": found["errors"],
    }


def at_rate(
    port: int,
    path: str,
    body: bytes,
    *,
    rate: float,
    seconds: float,
    connections: int = 128,
    seed: int = 0,
) -> dict[str, Any]:
    """As `wrk`, with `rate` requests a second, at random moments, whatever the server does.

    A request that is due while all connections wait for answers waits with them, and its latency
    counts from when it was due. The first second is not counted. "late ms" is the 99th percentile
    of how late the generator itself was: latencies below it say nothing. Raises LoadFault.
    """
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    done = subprocess.run(
        [generator(), *map(str, (port, rate, seconds, connections, seed))],
        input=request,
        capture_output=True,
        check=False,
        timeout=seconds + 90,
    )
    if done.returncode:
        raise LoadFault(f"the open loop failed: {done.stderr.decode()[-500:]}")
    found = json.loads(done.stdout)
    return {
        "requests/s": found["requests"] / max(found["seconds"], 1e-9),
        **{f"{p} ms": found[p] / 1000 for p in ("p50", "p95", "p99")},
        "requests": found["requests"],
        "errors": found["errors"],
        "late ms": found["late_us"] / 1000,
    }


@functools.cache
def generator() -> str:
    """The open loop's program, compiled from `openloop.c` when it is first needed."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise LoadFault("the open loop is written in C: install a compiler (apt-get install gcc)")
    place = tempfile.mkdtemp(prefix="openloop-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    program = Path(place) / "openloop"
    source = Path(__file__).with_name("openloop.c")
    command = [compiler, "-O2", "-std=gnu11", "-o", str(program), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFault(f"the open loop does not compile: {done.stderr[-500:]}")
    return str(program)
