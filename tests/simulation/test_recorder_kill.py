"""kill -9 and a stop of the recorder of a real server: every answered row is in the store."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import httpx
import pytest

from monitoring.telemetry import TelemetryStore
from tasks.config import load
from tests.simulation.test_server_kill import ROW, config_path, server, wait

pytestmark = pytest.mark.timeout(120)

__all__ = ["config_path"]  # a fixture


def recorders(parent: int) -> list[int]:
    found = []
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        for child in file.read().split():
            with open(f"/proc/{child}/comm") as comm:
                if comm.read().strip() == "everfit-recorde":  # of which the system keeps 15 letters
                    found.append(int(child))
    return found


def ask(client: httpx.Client, count: int) -> list[str]:
    body = {"dataframe_records": [ROW]}
    return [client.post("/invocations", json=body).json()["ids"][0] for _ in range(count)]


def test_a_recorder_that_is_killed_or_stopped_costs_no_row(config_path) -> None:
    config = load(config_path)
    with server(config_path) as (process, url), httpx.Client(base_url=url) as client:
        (first,) = wait(lambda: recorders(process.pid), process)
        ids = ask(client, 50)
        os.kill(first, signal.SIGKILL)
        ids += ask(client, 50)
        time.sleep(2 * config.serving.flush_seconds)
        (second,) = wait(lambda: [p for p in recorders(process.pid) if p != first], process)
        ids += ask(client, 50)
        os.kill(second, signal.SIGSTOP)
        ids += ask(client, 50)
        label = {"id": ids[-1], "label": "late"}
        answer = client.post("/labels", json=label, timeout=30)
        # kept, whether or not its row is there; or refused, where it was stopped in a transaction
        assert answer.status_code in (200, 202, 503)
        with contextlib.suppress(ProcessLookupError):  # its silence may have been noticed by now
            os.kill(second, signal.SIGCONT)
        ids += ask(client, 50)
        wait(lambda: client.post("/labels", json=label).status_code == 200, process)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with TelemetryStore(config.store_url) as store:
        frame = store.rows(None, None).set_index("id")
    assert set(ids) <= set(frame.index)
    assert frame["label"][ids[199]] == "late"
