"""Batches of one turn of the loop, the bound on what is inside, and the time a body may take."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from deployments.serving.app import create_app
from deployments.serving.batch import Batcher
from deployments.serving.ids import new_ids
from deployments.serving.rows import Reader, Rows
from deployments.serving.slots import Slot
from models.errors import DataFault
from models.records import Release

ROW = {"hour": 7, "wind": 1.5, "carrier": "UA"}
BODY = {"dataframe_records": [ROW]}


@pytest.fixture
def slot(serving_double):
    return Slot(Release("tiny", "1", "digest", "window", "run"), serving_double())


@pytest.fixture
def checked(slot):
    reader = Reader(slot.columns, None)

    def make(*hours, carrier="UA"):
        count = len(hours)
        columns = {"hour": list(hours), "wind": [None] * count, "carrier": [carrier] * count}
        return reader.check(Rows(columns, count))

    return make


@pytest.fixture
def calls(slot, monkeypatch):
    """How many rows each call of the model had."""
    seen = []
    answer = slot.model.predict_rows

    def counted(numbers, *others):
        seen.append(len(numbers))
        if (numbers[:, 0] == 13).any():
            raise DataFault("thirteen")
        return answer(numbers, *others)

    monkeypatch.setattr(slot.model, "predict_rows", counted)
    return seen


async def test_a_turn_is_one_call_and_each_gets_its_own_answer(slot, checked, calls):
    batcher = Batcher()
    asked = [checked(1.0), checked(2.0, 3.0, carrier="B6"), checked(4.0, carrier="ZZ")]
    answers = await asyncio.gather(*(batcher.score(slot, rows) for rows in asked))
    assert calls == [4]
    for rows, answer in zip(asked, answers, strict=True):
        alone = slot.answer(rows)
        assert answer.ids == rows.ids
        assert answer.labels == alone.labels
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, rtol=1e-12)


async def test_a_fault_is_its_own_requests_only(slot, checked, calls):
    batcher = Batcher()
    futures = [batcher.score(slot, checked(float(hour))) for hour in (1, 13, 2)]
    found = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(found[1], DataFault)
    assert [found[0].labels, found[2].labels] == [slot.answer(checked(h)).labels for h in (1.0, 2)]


async def test_a_batch_has_a_bound_and_versions_are_never_mixed(slot, checked, serving_double):
    batcher = Batcher(most_rows=4)
    other = Slot(Release("tiny", "2", "digest", "window", "run"), serving_double(bias=5.0))
    jobs = [batcher.score(one, checked(1.0, 2.0)) for _ in range(5) for one in (slot, other)]
    jobs[0].cancel()  # a client that went away
    answers = await asyncio.gather(*jobs[1:])
    for answer, wanted in zip(answers, [other, *[slot, other] * 4], strict=True):
        assert answer.version == wanted.release.version
        right = wanted.answer(checked(1.0, 2.0)).probabilities
        np.testing.assert_allclose(answer.probabilities, right, rtol=1e-12)


def test_ids_are_unique_over_threads_and_forks():
    new_ids(1)
    with ThreadPoolExecutor(4) as pool:
        ids = [i for batch in pool.map(lambda n: new_ids(1 + n % 2), range(4000)) for i in batch]
    assert len(set(ids)) == len(ids) == 6000
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, "".join(new_ids(1)[0] for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 3200).decode()
    ours = {new_ids(1)[0] for _ in range(512)}
    assert ours.isdisjoint(theirs[i : i + 32] for i in range(0, 3200, 32))
    os.close(read)
    os.close(write)


def test_more_than_fits_is_turned_away_at_once_and_nothing_breaks(
    serving, serving_config, serving_alias
):
    alias = serving_alias()
    config = serving_config(maximum_waiting=4)
    app = create_app(config, registry=lambda: alias, load=alias.load)
    with serving(app) as client, ThreadPoolExecutor(16) as pool:
        model = app.state.service.slots.current.model
        answer = model.predict_rows
        model.predict_rows = lambda *rows: (time.sleep(0.05), answer(*rows))[1]
        jobs = [pool.submit(client.post, "/invocations", json=BODY) for _ in range(64)]
        statuses = [job.result().status_code for job in jobs]
        assert set(statuses) == {200, 503}
        model.predict_rows = answer
        assert client.post("/invocations", json=BODY).status_code == 200
        assert app.state.service.gate.inside == 0
        text = client.get("/metrics").text
    refused = statuses.count(503)
    assert f'everfit_requests_total{{endpoint="invocations",status="503"}} {refused}.0' in text
    assert f'everfit_request_seconds_count{{endpoint="invocations"}} {len(jobs) + 1}.0' in text
    assert f'everfit_predictions_total{{version="1"}} {statuses.count(200) + 1}.0' in text


def test_a_body_that_never_comes_costs_nothing_but_its_time(serving, serving_config, serving_alias):
    alias = serving_alias()
    app = create_app(serving_config(timeout_seconds=0.2), registry=lambda: alias, load=alias.load)
    with serving(app) as client:
        port = client.base_url.port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert client.post("/invocations", json=BODY).status_code == 200
            answer = peer.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert app.state.service.gate.inside == 0


def test_a_request_that_waited_too_long_is_not_worked_on(serving, serving_config, serving_alias):
    alias = serving_alias()
    app = create_app(serving_config(timeout_seconds=0.3), registry=lambda: alias, load=alias.load)
    with serving(app) as client, ThreadPoolExecutor(8) as pool:
        model = app.state.service.slots.current.model
        answer = model.predict_rows
        model.predict_rows = lambda *rows: (time.sleep(0.5), answer(*rows))[1]

        def ask(wait):
            time.sleep(wait)
            with httpx.Client(base_url=client.base_url, timeout=20) as own:
                return own.post("/v2/models/tiny/infer", json=tensors())

        found = [job.result() for job in [pool.submit(ask, w) for w in (0, 0.1, 0.1)]]
    assert found[0].status_code == 200
    for late in found[1:]:
        assert late.status_code in (200, 503)
        assert late.status_code == 200 or late.headers["retry-after"] == "1"


def tensors():
    kinds = {"hour": "FP64", "wind": "FP64", "carrier": "BYTES"}
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": kinds[name], "data": [value]}
            for name, value in ROW.items()
        ]
    }
