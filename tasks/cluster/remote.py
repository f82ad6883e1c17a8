"""Starts trials on nodes and looks after them until each has ended, here or at a second try.

A trial has ended when its record is in the shared folder, whatever the scheduler says. It is tried
again where its node was lost: the scheduler says so, or the node has given no sign of life for
`silent` seconds. The seed is the same, so it does not matter which of two tries is read.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from models.records import Params, Trial
from tasks.cluster.store import Ask, ClusterFault, Mark, Store
from tasks.journal import Journal

log = logging.getLogger(__name__)

SILENT = 20.0  # seconds without a sign of life after which a node is taken for lost
_SEEN = 30.0  # seconds after which a record that was written must be seen
_LOOK = 0.5  # seconds between two looks into the folder
_PAUSES = (0.5, 5.0, 15.0)  # seconds before each further try


class Nodes(ABC):
    """A kind of places to run at."""

    tries = 3  # of a trial, until it is taken for what takes its nodes down

    @abstractmethod
    def submit(self, number: int, attempt: int) -> Any:
        """Send a trial; answers Prefect's future. Called where the flow's context is current."""

    @abstractmethod
    def stop(self, future: Any, mark: Mark | None) -> None:
        """End a trial that does not end by itself, as far as that can be done; never raises."""

    def again(self, fault: BaseException) -> bool:  # noqa: ARG002 - for those who can tell
        """Whether a trial whose end was `fault` may be tried once more."""
        return True

    def gone(self) -> str:
        """What is told when no trial can be sent any more, since the scheduler is lost; '' else."""
        return ""

    def free(self, number: int) -> None:  # noqa: B027 - most have nothing to do
        """The trial has ended, whatever came of it."""


@dataclass
class _Flight:
    """A trial under way."""

    number: int
    params: Params
    seed: int
    finished: Callable[[Trial], None]
    sent: float
    attempt: int = 0
    future: Any = None
    mark: Mark | None = None
    began: float | None = None  # when its node was first heard of
    heard: float = 0.0
    returned: float | None = None  # when the scheduler said that it has ended
    stopped: bool = False


class Remote:
    """Trials of one search on `nodes`. See `tasks.trials.Care` for what the search asks of it."""

    def __init__(
        self,
        nodes: Nodes,
        store: Store,
        journal: Journal,
        seed: int,
        *,
        judged: bool = False,
        silent: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes, self._store, self._journal, self._seed = nodes, store, journal, seed
        self._judged, self._clock = judged, clock
        self._silent = SILENT if silent is None else silent
        self._flights: dict[int, _Flight] = {}
        self._fault: ClusterFault | None = None
        self._looked = float("-inf")
        self._context = contextvars.copy_context()  # the flow's, in which trials are sent

    def start(
        self, params: Params, number: int, seconds: float, finished: Callable[[Trial], None]
    ) -> None:
        judged = len(self._journal.trials) if self._judged else None
        self._store.put_ask(Ask(number, params, seconds, judged))
        flight = _Flight(number, params, self._seed + number, finished, self._clock())
        self._flights[number] = flight
        self._send(flight)

    def began(self, number: int) -> float | None:
        """When the trial began to run, by this machine's clock; None while it waits for a node."""
        flight = self._flights.get(number)
        return None if flight is None else flight.began

    def stop(self, number: int) -> None:
        """Nobody waits for it any more: end it where that can be done."""
        if (flight := self._flights.get(number)) is not None:
            flight.stopped = True
            self._nodes.stop(flight.future, flight.mark)

    def look(self) -> None:
        """Read what the nodes have written. Raises ClusterFault when one of them lacks something
        that all trials need."""
        if self._fault is not None:
            raise self._fault
        now = self._clock()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        for flight in list(self._flights.values()):
            self._look_at(flight, now)
        if self._fault is not None:
            raise self._fault

    def _look_at(self, flight: _Flight, now: float) -> None:
        if self._read(flight):
            return
        mark = self._store.mark(flight.number)
        if mark is not None and mark.attempt == flight.attempt and mark != flight.mark:
            flight.mark, flight.heard = mark, now
            flight.began = now if flight.began is None else flight.began
        elif flight.began is not None and now - flight.heard > self._silent and not flight.stopped:
            host = flight.mark.host if flight.mark else "its node"
            self._nodes.stop(flight.future, None)
            silence = f"{host} gave no sign of life for {now - flight.heard:.0f} s"
            self._failed(flight, TimeoutError(silence))
        elif flight.returned is not None and now - flight.returned > _SEEN:
            self._fault = ClusterFault(
                f"trial {flight.number} has ended, and its record is not seen in "
                f"{self._store.folder}: all nodes and this one must share that folder"
            )

    def _send(self, flight: _Flight) -> None:
        if self._flights.get(flight.number) is not flight:
            return  # its record came meanwhile
        loop, number, attempt = asyncio.get_running_loop(), flight.number, flight.attempt
        try:
            future = flight.future = self._nodes.submit(number, attempt)
        except Exception as fault:
            loop.call_soon(self._failed, flight, fault, context=self._context)
            return

        def told() -> None:
            """In a thread of its own: asking for the result inside a callback may block."""
            fault: BaseException | None = None
            try:
                future.result(timeout=30.0)
            except BaseException as raised:
                fault = raised
            with suppress(RuntimeError):  # the search has ended meanwhile, and its loop
                loop.call_soon_threadsafe(
                    self._ended, number, attempt, fault, context=self._context
                )

        future.add_done_callback(lambda _: threading.Thread(target=told, daemon=True).start())

    def _ended(self, number: int, attempt: int, fault: BaseException | None) -> None:
        flight = self._flights.get(number)
        if flight is None or self._read(flight) or flight.attempt != attempt:
            return
        if fault is None:
            flight.returned = self._clock()  # network file systems may take a while to show it
        elif isinstance(fault, ClusterFault):
            self._fault = fault
        else:
            self._failed(flight, fault)

    def _failed(self, flight: _Flight, fault: BaseException) -> None:
        if gone := self._nodes.gone():
            self._fault = ClusterFault(gone)
            return
        told = f"{type(fault).__name__}: {fault}"
        more = flight.attempt + 1 < self._nodes.tries and self._nodes.again(fault)
        if more and not flight.stopped:
            pause = _PAUSES[min(flight.attempt, len(_PAUSES) - 1)]
            log.warning("trial %d is tried again: %s", flight.number, told)
            flight.attempt += 1
            flight.began = flight.returned = flight.mark = None
            self._nodes.free(flight.number)
            loop = asyncio.get_running_loop()
            loop.call_later(pause, self._send, flight, context=self._context)
            return
        tries = f"its node was lost {flight.attempt + 1} times, at last by " * bool(flight.attempt)
        spent = self._clock() - (flight.sent if flight.began is None else flight.began)
        lost = Trial(
            flight.number, flight.params, "failed", None, spent, flight.seed, error=tries + told
        )
        self._over(flight, lost)

    def _read(self, flight: _Flight) -> bool:
        """Whether the trial's record is there; if so, it has ended."""
        found = self._store.result(flight.number)
        if found is None or dict(found.params) != dict(flight.params):
            return False
        self._over(flight, replace(found, params=flight.params))
        return True

    def _over(self, flight: _Flight, trial: Trial) -> None:
        del self._flights[flight.number]
        self._nodes.free(flight.number)
        flight.finished(trial)
