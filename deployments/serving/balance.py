"""How workers that listen on one socket share out its connections.

Each notes in a file, mapped into all of them, how many it has. One with more than another lets that
one take the next; one with more than its share ends some as they are answered, so that their
clients connect anew: after a worker was killed its successor would have none of those that live on.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_COURTESY = 0.002  # seconds that another worker has to take a connection before this one does
_SLACK = 1  # connections more than the mean are no excess
_SLOT = struct.Struct("=q")


class Share:
    """One worker's part; without a file, of a worker that is alone."""

    def __init__(self, file: Path | None = None, worker: int = 0, workers: int = 1) -> None:
        self._worker = worker
        self._workers = workers
        self._counts = [0]
        self._shared: mmap.mmap | None = None
        self._patient = False  # has waited for the others once
        self.excess = 0  # connections that should go to others
        if file is not None and workers > 1:
            with file.open("r+b") as open_file:
                self._shared = mmap.mmap(open_file.fileno(), _SLOT.size * workers)
            self._write(0)

    @staticmethod
    def prepare(file: Path, workers: int) -> None:
        """The file, before the workers start."""
        file.write_bytes(_SLOT.pack(0) * workers)

    @staticmethod
    def ended(file: Path, worker: int) -> None:
        """A worker is gone, and has none: until its successor starts nobody waits for it."""
        with file.open("r+b") as open_file:
            open_file.seek(_SLOT.size * worker)
            open_file.write(_SLOT.pack(-1))

    def _read(self) -> list[int]:
        """The connections of the workers that live, this one's among them."""
        if self._shared is None:
            return self._counts
        return [n for (n,) in _SLOT.iter_unpack(self._shared[:]) if n >= 0]

    def _write(self, count: int) -> None:
        self._counts[0] = count
        if self._shared is not None:
            _SLOT.pack_into(self._shared, _SLOT.size * self._worker, count)

    def add(self, number: int) -> None:
        """So many connections more."""
        self._write(max(self._counts[0] + number, 0))

    def wait(self) -> float:
        """For how many seconds the next connection should be left to others; 0 to take it."""
        if self._shared is None:
            return 0.0
        self._patient = not self._patient and self._counts[0] > min(self._read())
        return _COURTESY if self._patient else 0.0

    def look(self) -> None:
        """Once a second: is it more than its share?"""
        if self._shared is None:
            return
        self._write(self._counts[0])  # a predecessor may have written meanwhile
        counts = self._read()
        mean = -(-sum(counts) // max(len(counts), 1))
        # half of it at a time: the others may be on their way to having some
        self.excess = (max(self._counts[0] - mean - _SLACK, 0) + 1) // 2

    def give(self) -> bool:
        """One of the excess goes."""
        self.excess -= 1
        return True
