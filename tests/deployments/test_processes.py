"""Children start, are found dead when they die, and never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments import processes
from deployments.processes import StackFault

SERVER = (
    "import sys; from http.server import SimpleHTTPRequestHandler, test\n"
    "test(SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
)


def options(tmp_path: Path, port: int) -> dict[str, object]:
    return {
        "url": f"http://127.0.0.1:{port}",
        "health": "/",
        "log": tmp_path / "logs" / "server.log",
        "timeout": 20.0,
    }


def command(port: int) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port)]


def eventually(condition, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_child_answers_inside_the_block_and_is_gone_after_it(tmp_path, free_port):
    with processes.running("a server", command(free_port), **options(tmp_path, free_port)) as child:
        assert child.alive
        assert processes.answers(child.url)
        assert not processes.port_is_free(free_port)
        assert processes.free_port(free_port) != free_port
    assert not child.alive
    assert not processes.answers(child.url)
    assert processes.free_port(free_port) == free_port


def test_a_refusal_is_an_answer_only_where_any_will_do(tmp_path, free_port):
    with processes.running("a server", command(free_port), **options(tmp_path, free_port)) as child:
        assert not processes.answers(f"{child.url}/no/such/page")
        assert processes.answers(f"{child.url}/no/such/page", whatever=True)
    assert not processes.answers(child.url, whatever=True)


def test_a_child_that_dies_early_is_a_fault_with_its_last_words(tmp_path, free_port):
    dying = [sys.executable, "-c", "raise SystemExit('no database here')"]
    with (
        pytest.raises(StackFault, match=r"ended with code 1(.|\n)*no database here"),
        processes.running("a server", dying, **options(tmp_path, free_port)),
    ):
        pass


def test_a_child_that_never_answers_is_stopped_and_named(tmp_path, free_port):
    pid_file = tmp_path / "pid"
    mute = [
        sys.executable,
        "-c",
        f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    ]
    with (
        pytest.raises(StackFault, match="does not answer"),
        processes.running("a server", mute, **{**options(tmp_path, free_port), "timeout": 1.5}),
    ):
        pass
    assert not _runs(int(pid_file.read_text()))


def test_sigterm_comes_before_sigkill(tmp_path, free_port):
    polite = (
        "import http.server, signal, sys\n"
        f"def leave(*_): open({str(tmp_path / 'left')!r}, 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n" + SERVER
    )
    polite_command = [sys.executable, "-c", polite, str(free_port)]
    with processes.running("a server", polite_command, **options(tmp_path, free_port)) as child:
        pass
    assert (tmp_path / "left").exists()
    assert child.process.returncode == 0


def test_grandchildren_end_when_the_parent_is_killed(tmp_path, free_port):
    parent = f"""
import subprocess, sys, time
from pathlib import Path
from deployments import processes
child = processes.start("a server", [sys.executable, "-c",
    "import subprocess, sys; subprocess.run(sys.argv[1:])",
    sys.executable, "-c", {SERVER!r}, "{free_port}"],
    url="http://127.0.0.1:{free_port}", health="/", log=Path({str(tmp_path)!r}) / "log")
print("up", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"up\n"
        assert processes.answers(f"http://127.0.0.1:{free_port}")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert eventually(lambda: processes.port_is_free(free_port))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
