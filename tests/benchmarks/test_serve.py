"""The server's benchmark: the open loop's clock, and what its table says of the aims."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from tests.benchmarks.serve.aims import EMPTY, MLFLOW, OURS, aims, ratios
from tests.benchmarks.serve.load import at_rate

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the open loop is compiled")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def server(seconds, status=ANSWER):
    """Answers one request after the other, each after so long: a queue with one server."""
    loop = asyncio.new_event_loop()
    turn = asyncio.Lock()

    async def serve(reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                async with turn:
                    time.sleep(seconds)
                writer.write(status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()  # closed before the loop ends, whoever hangs up first
            await asyncio.sleep(0)

    async def end():
        started.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0.05)  # the transports say farewell in turns of their own

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        started = loop.run_until_complete(asyncio.start_server(serve, sock=listener))
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(end(), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()


def test_waiting_in_line_is_not_hidden():
    """Twice what the server manages, over one connection: a closed loop would see 10 ms each."""
    with server(0.01) as port:
        found = at_rate(port, "/", b"{}", rate=200, seconds=0.3, connections=1)
    assert found["errors"] == 0
    assert found["p50 ms"] > 300
    assert found["p99 ms"] > found["p50 ms"]


def test_refusals_are_errors():
    refused = ANSWER.replace(b"200 OK", b"503 Busy")
    with server(0.0, refused) as port:
        found = at_rate(port, "/", b"{}", rate=200, seconds=0.5, connections=4)
    assert found["errors"] > 50


def row(server, load, speed, **more):
    figures = {"p95 ms": 5.0, "p99 ms": 8.0, "requests": 1000, "errors": 0}
    about = {"server": server, "model": "mlp", "workers": 1, "load": load}
    return about | figures | {"requests/s": speed} | more


@pytest.fixture
def rows():
    return [
        row(EMPTY, "32", 30_000),
        row(OURS, "32", 16_000),
        row(OURS, "256", 16_000, errors=1),
        row(OURS, "70 %", 11_000),
        row(MLFLOW, "32", 1_700),
        row(OURS, "100 rows", 2_000),
        row(MLFLOW, "100 rows", 100),
    ]


def test_the_aims_are_judged_by_the_same_load(rows):
    found = {line["aim"]: (line["found"], line["holds"]) for line in aims(rows)}
    assert found["> 1,000 requests/s"] == (16_000, True)
    assert found[">= half of the empty handler"] == (16 / 30, True)
    assert found[">= 10 x mlflow models serve"] == (16_000 / 1_700, False)
    assert found["100 rows >= 10 x MLflow"] == (20.0, True)
    assert found["256 connections: errors"] == (1, False)
    assert found["p99 < 10 ms at 70 %"] == (8.0, True)
    assert ">= 10 x BentoML" not in found  # it wasn't there


def test_ratios_are_of_everfit_to_the_others(rows):
    first = ratios(rows)[0]
    assert first["load"] == "32"
    assert first[f"/ {MLFLOW}"] == 16_000 / 1_700
    assert {line["load"] for line in ratios(rows)} == {"32", "256", "100 rows"}


def test_connections_that_end_are_made_anew():
    """A server that ends its connection with every answer costs no error, but for the last."""
    answer = ANSWER.replace(b"content-length", b"connection: close\r\ncontent-length")
    with server(0.0, answer) as port:
        found = at_rate(port, "/", b"{}", rate=100, seconds=0.5, connections=4)
    assert (found["errors"], found["requests"] > 20) == (0, True)
