"""Workers that crash or stand still are started anew, and the other goes on.

`everfit bench workers` has every way in which a worker ends, and how long it is missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from deployments.serving.supervisor import Backoff

pytestmark = pytest.mark.timeout(120)

CONFIG = """\
name: faulty
data: {source: rows.csv, target: y, columns: {x: number}, classes: [0, 1]}
train: {families: [logistic]}
serving: {port: PORT, workers: 2, hang_seconds: 10, poll_seconds: 0.2}
"""
CRASH = -1.0

# An event loop that is watched, and then does what it is told.
WATCHED = """
import asyncio, ctypes, sys, time
from deployments.serving.standstill import Standstill
began = time.monotonic()
busy = (lambda: time.monotonic() - began) if sys.argv[1] == "thread" else (lambda: 0.0)
async def main():
    Standstill(0.5, busy).start(asyncio.get_running_loop())
    await asyncio.sleep(1.2 if sys.argv[1] == "fine" else 0.1)
    if sys.argv[1] == "locked":
        ctypes.PyDLL(None).sleep(60)  # in native code that keeps the interpreter's lock
    elif sys.argv[1] == "python":
        while True: pass
    elif sys.argv[1] == "thread":
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("how", "code"), [("locked", 1), ("python", 1), ("thread", 70), ("fine", 0)]
)
def test_a_process_that_stands_still_ends_itself_and_says_where(how, code):
    started = time.monotonic()
    command = [sys.executable, "-c", WATCHED, how]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert ended.returncode == code
    assert time.monotonic() - started < 40
    assert ("in main" in ended.stderr) == (how in ("locked", "python"))


@pytest.fixture
def server(tmp_path, free_port):
    (tmp_path / "rows.csv").write_text("x,y\n1,0\n")
    path = tmp_path / "faulty.yaml"
    path.write_text(CONFIG.replace("PORT", str(free_port)))
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "faulty_server.py"), str(path)],
            stderr=log,
            stdout=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        )
    try:
        yield f"http://127.0.0.1:{free_port}", tmp_path
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found


def figures(url):
    try:
        return httpx.get(f"{url}/metrics", timeout=1).text
    except httpx.TransportError:
        return ""


def tell(url, what):
    """Ask on a connection of one's own; the worker that gets it may not live to answer."""
    try:
        body = {"inputs": [[what]]}
        return httpx.post(f"{url}/invocations", json=body, timeout=10).status_code
    except httpx.TransportError:
        return None


def test_a_crash_in_native_code_is_made_good_and_the_other_worker_goes_on(server):
    url, folder = server
    until(lambda: 'everfit_workers{state="alive"} 2.0' in figures(url))
    stop, answers = threading.Event(), []

    def customer():
        while not stop.is_set():
            answers.append(tell(url, 1.0))

    thread = threading.Thread(target=customer, daemon=True)
    thread.start()
    until(lambda: list(folder.rglob("proven.json")))  # or the model would be the one to blame
    assert tell(url, CRASH) is None
    until(lambda: 'everfit_worker_restarts_total{reason="SIGSEGV"} 1.0' in figures(url))
    until(lambda: 'everfit_workers{state="alive"} 2.0' in figures(url))
    before = len(answers)
    until(lambda: len(answers) > before + 20)
    stop.set()
    thread.join()
    assert answers.count(200) >= 0.9 * len(answers)
    assert set(answers) <= {200, None}  # nobody was told a lie


def test_a_worker_that_ends_again_and_again_waits_longer_each_time():
    backoff = Backoff()
    waits = [backoff.after(0, 1.0) for _ in range(12)]
    assert waits[:4] == [0.0, 0.5, 1.0, 2.0]
    assert waits[-1] == 30.0
    assert backoff.after(1, 1.0) == 0.0  # the others are none the worse for it
    assert backoff.after(0, 61.0) == 0.0
