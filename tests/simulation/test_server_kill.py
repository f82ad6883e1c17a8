"""kill -9 of the serving process under load: what was promised is there afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from models import families
from models.records import Verdict
from models.registry import Registry
from models.schema import Column, Schema
from models.training import fit_bundle
from monitoring.telemetry import TelemetryStore
from tasks.config import load

pytestmark = pytest.mark.timeout(300)

CONFIG = """\
name: tiny
data:
  source: flights.csv
  target: late
  time: due
  columns: {carrier: category, hour: number, wind: number, visibility: number}
  classes: [on time, late]
train: {families: [logistic]}
"""
ROW = {"carrier": "UA", "hour": 7, "wind": 1.5, "visibility": None}
SLACK = 1.0  # seconds for one write on a busy machine, beyond the flush interval


@pytest.fixture(scope="module")
def config_path(tmp_path_factory, make_frame):
    """A config whose registry has one champion."""
    home = tmp_path_factory.mktemp("kill")
    frame = make_frame(400)
    frame.to_csv(home / "flights.csv", index=False)
    path = home / "tiny.yaml"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path.write_text(CONFIG + f"serving: {{port: {port}}}\n")
    config = load(path)
    schema = Schema(
        tuple(Column(name, kind) for name, kind in config.data.columns.items()),
        target=config.data.target,
        classes=tuple(config.data.classes),
        time=config.data.time,
    )
    params = families.space(["logistic"]).sample(np.random.default_rng(0))
    folder = config.folder / "bundle"
    candidate = fit_bundle(frame, schema, params, folder=folder, seed=0)
    verdict = Verdict(True, "better", 100, "log_loss", {}, {}, 0.1, 0.05, 0.15, 0.95)
    registry = Registry(config.registry_url, config.name, config.artifacts)
    now = datetime.now(UTC)
    made = registry.register(folder, candidate, verdict, window_id="w", now=now)
    registry.promote(made.version, expected=None, decision_id="d", who="t", why="t", now=now)
    return path


@contextmanager
def server(path, workers=1):
    """The server in a process group of its own, ready; ended when the block ends."""
    code = f"from deployments.serving.run import serve; serve({str(path)!r}, workers={workers})"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    url = load(path).server_url
    try:
        wait(lambda: ask(url, "/v2/health/ready"), process)
        yield process, url
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def ask(url, path):
    try:
        answer = httpx.get(url + path, timeout=5)
    except httpx.TransportError:
        return None
    return answer if answer.status_code == 200 else None


def wait(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server is not ready in time"
        time.sleep(0.05)
    return found


def customer(url, number, predicted, labelled, stop):
    """Asks and labels until the server is gone; keeps what was acknowledged, and when."""
    with httpx.Client(base_url=url, timeout=5) as client:
        for count in range(100_000):
            if stop.is_set():
                return
            id_ = f"{number}-{count}"
            try:
                body = {"dataframe_records": [ROW], "ids": [id_]}
                if client.post("/invocations", json=body).status_code != 200:
                    continue
                predicted[id_] = time.monotonic()
                if count % 3 == 0:
                    value = "late" if count % 2 else "on time"
                    answer = client.post("/labels", json={"id": id_, "label": value})
                    if answer.status_code == 200:
                        labelled[id_] = value
            except httpx.TransportError:
                return


def test_a_kill_loses_no_label_and_at_most_one_flush_interval(config_path):
    config = load(config_path)
    predicted, labelled, stop = {}, {}, threading.Event()
    with server(config_path) as (process, url):
        version = ask(url, "/v2/health/ready").json()["model_version"]
        threads = [
            threading.Thread(target=customer, args=(url, i, predicted, labelled, stop))
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(3)
        os.killpg(process.pid, signal.SIGKILL)  # the worker and its supervisor
        killed = time.monotonic()
        process.wait()
        stop.set()
        for thread in threads:
            thread.join()
    assert len(labelled) > 20
    with TelemetryStore(config.store_url) as store:
        frame = store.rows(None, None).set_index("id")
        counts = store.counts()
    assert {id_: frame["label"].get(id_) for id_ in labelled} == labelled
    assert counts["conflicts"] == 0
    promised = killed - config.serving.flush_seconds - SLACK
    due = {id_ for id_, at in predicted.items() if at < promised}
    assert len(due) > 20
    assert due <= set(frame.index)

    with server(config_path) as (process, url):  # the same champion, and all it was told
        assert ask(url, "/v2/health/ready").json()["model_version"] == version
        id_, value = next(iter(labelled.items()))
        again = httpx.post(f"{url}/labels", json={"id": id_, "label": value})
        assert again.json()["result"] == "duplicate"

        ids = []
        for _ in range(50):
            answer = httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]})
            ids += answer.json()["ids"]
        process.send_signal(signal.SIGTERM)  # an orderly end loses nothing at all
        process.wait(20)
    with TelemetryStore(config.store_url) as store:
        assert set(ids) <= set(store.rows(None, None)["id"])


def test_one_of_two_workers_is_killed(config_path):
    """The other goes on, a new one comes, and the figures at /metrics are of all of them."""
    with server(config_path, workers=2) as (process, url):
        workers = wait(lambda: ready_workers(process.pid), process)
        for _ in range(20):
            httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]}).raise_for_status()
        time.sleep(0.5)  # counts of the last tenth of a second go with their worker
        os.kill(workers[0], signal.SIGKILL)
        wait(lambda: set(ready_workers(process.pid)) - set(workers), process)
        assert wait(lambda: ask(url, "/v2/health/ready"), process)
        text = httpx.get(f"{url}/metrics").text
        assert 'everfit_predictions_total{version="1"} 20.0' in text, text
        assert 'everfit_serving_version{version="1"} 1.0' in text


def test_workers_end_in_good_order_when_their_supervisor_is_killed(config_path):
    """What they have answered reaches the store, and the port is free for the next server."""
    with server(config_path, workers=2) as (process, url):
        workers = wait(lambda: ready_workers(process.pid), process)
        body = {"dataframe_records": [ROW]}
        ids = [httpx.post(f"{url}/invocations", json=body).json()["ids"][0] for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while any(os.path.exists(f"/proc/{pid}") for pid in workers):
            assert time.monotonic() < deadline, "a worker outlives its supervisor"
            time.sleep(0.05)
    with TelemetryStore(load(config_path).store_url) as store:
        assert set(ids) <= set(store.rows(None, None)["id"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger
        probe.bind(("127.0.0.1", int(url.rpartition(":")[2])))


def test_an_answer_under_way_is_finished_after_sigterm(config_path):
    with server(config_path) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as peer:
            body = b'{"dataframe_records": [{"carrier":"UA","hour":7,"wind":1,"visibility":null}]}'
            head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            peer.sendall(head.encode() + body[:20])
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(httpx.TransportError):  # nobody new is let in
                httpx.get(f"{url}/v2/health/live", timeout=5)
            peer.sendall(body[20:])
            assert peer.recv(65_536).startswith(b"HTTP/1.1 200 ")
        process.wait(20)
        assert process.returncode == 0


def ready_workers(parent):
    """Process ids of the workers, the children of `parent`, once there are two."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stat:
                owner = int(stat.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{entry}/comm") as comm:
                works = comm.read().startswith("everfit-worker")
        except OSError:  # it has ended meanwhile
            continue
        if owner == parent and works:
            found.append(int(entry))
    return found if len(found) >= 2 else []
