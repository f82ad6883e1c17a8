"""Labels of several requests share a transaction, and each is answered as if it had come alone."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from deployments.serving.together import Together
from monitoring.errors import RecordFault, StoreFault
from monitoring.records import Label, LabelResult
from monitoring.telemetry import TelemetryStore

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def labels(*ids):
    return [Label(id_, 1, NOW) for id_ in ids]


class Gate:
    """A store that lets the first call wait until the others have come."""

    def __init__(self, store):
        self.store, self.calls, self.open = store, [], threading.Event()

    def label(self, batch):
        self.calls.append([label.id for label in batch])
        if len(self.calls) == 1:
            assert self.open.wait(10)
        return self.store(batch)


def ask(together, gate, requests):
    """Put `requests` while a first one is stored; what each got, results or a fault."""
    got = {}

    def put(place, batch):
        try:
            got[place] = together.label(batch)
        except Exception as fault:
            got[place] = fault

    threads = [threading.Thread(target=put, args=item) for item in enumerate(requests)]
    threads[0].start()
    while not gate.calls:
        threads[0].join(0.005)
    for thread in threads[1:]:
        waiting = len(together._waiting)
        thread.start()
        while len(together._waiting) == waiting:
            thread.join(0.005)
    gate.open.set()
    for thread in threads:
        thread.join()
    return [got[place] for place in range(len(requests))]


def test_what_comes_while_one_is_stored_is_stored_at_once_and_in_order(tmp_path):
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        gate = Gate(store.label)
        requests = [labels("a"), labels("b", "a"), labels("c"), labels("b"), []]
        got = ask(Together(gate.label), gate, requests)
    assert gate.calls == [["a"], ["b", "a", "c", "b"]]
    unknown, duplicate = LabelResult.UNKNOWN, LabelResult.DUPLICATE
    assert got == [[unknown], [unknown, duplicate], [unknown], [duplicate], []]


def test_one_that_is_at_fault_costs_no_other(tmp_path):
    with TelemetryStore(f"sqlite:///{tmp_path / 't.db'}") as store:
        gate = Gate(store.label)
        got = ask(Together(gate.label), gate, [labels("a"), labels("b"), labels(""), labels("c")])
        assert store.counts()["labels"] == 3
    assert [isinstance(answer, RecordFault) for answer in got] == [False, False, True, False]


def test_a_store_that_is_down_is_everybodys_fault():
    def down(batch):
        raise StoreFault("down")

    gate = Gate(down)
    got = ask(Together(gate.label), gate, [labels("a"), labels("b"), labels("c")])
    assert [type(answer) for answer in got] == [StoreFault] * 3
    with pytest.raises(StoreFault):
        Together(down).label(labels("d"))
