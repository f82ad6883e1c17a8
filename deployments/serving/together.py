"""Labels of many requests in one transaction: all wait for the disk, but for the same wait."""

from __future__ import annotations

import threading
from collections.abc import Callable

from monitoring.errors import RecordFault, StoreFault
from monitoring.records import Label, LabelResult

Store = Callable[[list[Label]], list[LabelResult]]


class _Waiting:
    """The labels of one request, and what became of them."""

    __slots__ = ("fault", "labels", "results")

    def __init__(self, labels: list[Label]) -> None:
        self.labels = labels
        self.results: list[LabelResult] | None = None
        self.fault: Exception | None = None


class Together:
    """Calls from several threads: while one is stored, those that come wait and are stored next,
    all at once and in the order in which they came. Each is answered as if it had come alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()  # guards _waiting
        self._storing = threading.Lock()
        self._waiting: list[_Waiting] = []

    def label(self, labels: list[Label]) -> list[LabelResult]:
        """Store them, and answer each. Raises what the store raises."""
        mine = _Waiting(labels)
        with self._lock:
            self._waiting.append(mine)
        with self._storing:
            if mine.results is None and mine.fault is None:  # nobody has taken them along
                with self._lock:
                    taken, self._waiting = self._waiting, []
                self._store_all(taken)
        if mine.fault is not None:
            raise mine.fault
        assert mine.results is not None
        return mine.results

    def _store_all(self, taken: list[_Waiting]) -> None:
        try:
            results = self._store([label for one in taken for label in one.labels])
        except RecordFault as fault:  # of one of them; the others are none the worse for it
            if len(taken) == 1:
                taken[0].fault = fault
                return
            for one in taken:
                self._store_all([one])
            return
        except Exception as fault:
            for one in taken:
                one.fault = fault if isinstance(fault, StoreFault) else StoreFault(repr(fault))
            if not isinstance(fault, StoreFault):
                raise
            return
        at = 0
        for one in taken:
            one.results = results[at : at + len(one.labels)]
            at += len(one.labels)
