"""Answered rows on disk while the telemetry store is slow or down: bounded, checked, in order.

Each process writes segments into a folder of its own, whose lock it holds for life: a folder whose
lock is free belongs to a process that has died, and whoever looks takes it over. A segment is a run
of frames; a frame is a header (mark, length, rows, checksum) and a batch of rows as JSON.

What `append` has written survives `kill -9` of the process; `sync`, called once a second, and the
end of a segment bring it to the disk, so that a power cut takes a second at most. The bound counts
all segments in the folder; where it is reached, the oldest segments of this process go first, and
their rows are counted as dropped. A segment is removed when the store has all of it: one that is
sent twice changes nothing there, since rows have ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deployments.serving.served import Batch

log = logging.getLogger(__name__)

_MARK = b"\xffev\xfe"  # no UTF-8 text has these bytes, so no batch does
_HEADER = struct.Struct(">4sIII")  # mark, bytes, rows, checksum of both numbers and the bytes
_SEGMENT_BYTES = (1 << 16, 1 << 23)  # smallest and largest, of a sixteenth of the bound


@dataclass(slots=True)
class Segment:
    """A file of frames. `rows` is what its headers say."""

    path: Path
    rows: int = 0
    bytes: int = 0


class Spool:
    """The segments of one process. Safe for several threads; nothing is written before `append`.

    `dropped` is told of rows that had to go. All methods but `read` raise OSError when the disk
    refuses.
    """

    def __init__(
        self, folder: Path, maximum_bytes: int, dropped: Callable[[int], None] = lambda _rows: None
    ) -> None:
        self._folder = folder
        self._maximum = maximum_bytes
        low, high = _SEGMENT_BYTES
        self._segment_bytes = min(max(maximum_bytes // 16, low), high)
        self._dropped = dropped
        self._lock = threading.RLock()
        self._segments: deque[Segment] = deque()  # oldest first; the last may be the active one
        self._active: int | None = None  # file descriptor
        self._reading: Segment | None = None
        self._unsynced = False
        self._count = 0
        self._owner: Path | None = None
        self._locks: dict[Path, int] = {}  # folders that are ours, by their open lock

    @property
    def rows(self) -> int:
        """Rows that wait here, of this process and of those that it has taken over."""
        return sum(segment.rows for segment in tuple(self._segments))

    @property
    def empty(self) -> bool:
        return not self._segments

    def append(self, batch: Batch) -> None:
        """Write one batch at the end; the oldest ones go where the bound would be passed."""
        numbers = struct.pack(">II", len(batch.data), batch.rows)
        checksum = zlib.crc32(batch.data, zlib.crc32(numbers))
        frame = _HEADER.pack(_MARK, len(batch.data), batch.rows, checksum) + batch.data
        with self._lock:
            if not self._make_room(len(frame)):
                log.error("a batch of %d rows is larger than the spool: dropped", batch.rows)
                self._dropped(batch.rows)
                return
            if self._active is None:
                self._begin()
            assert self._active is not None
            segment = self._segments[-1]
            at = segment.bytes
            try:
                written = 0
                while written < len(frame):
                    written += os.write(self._active, frame[written:])
            except OSError:
                with contextlib.suppress(OSError):  # half a frame would hide nothing, but be read
                    os.ftruncate(self._active, at)
                raise
            segment.rows += batch.rows
            segment.bytes += len(frame)
            self._unsynced = True
            if segment.bytes >= self._segment_bytes:
                self._seal()

    def sync(self) -> None:
        """Bring what has been written to the disk."""
        with self._lock:
            if not self._unsynced or self._active is None:
                return
            self._unsynced = False
            copy = os.dup(self._active)  # so that writers need not wait
        try:
            os.fdatasync(copy) if hasattr(os, "fdatasync") else os.fsync(copy)
        finally:
            os.close(copy)

    def next(self) -> Segment | None:
        """The oldest segment, for `read` and then `done`; what is written later is another."""
        with self._lock:
            if not self._segments:
                return None
            segment = self._segments[0]
            if self._active is not None and len(self._segments) == 1:
                self._seal()
            self._reading = segment
            return segment

    def read(self, segment: Segment) -> Iterator[Batch]:
        """Its batches in order; what is damaged is passed over, and told as dropped."""
        try:
            data = segment.path.read_bytes()
        except OSError as fault:
            log.error("a spooled segment cannot be read, %d rows: %s", segment.rows, fault)
            self._dropped(segment.rows)
            return
        for found in _frames(data):
            if isinstance(found, int):
                log.error("%s: %d rows are damaged: dropped", segment.path, found)
                self._dropped(found)
            else:
                yield found

    def done(self, segment: Segment, *, keep: bool = False) -> None:
        """The store has it: remove it. Or it does not, and is kept."""
        with self._lock:
            self._reading = None
            if keep:
                return
            if segment in self._segments:
                self._segments.remove(segment)
            self._remove(segment)

    def adopt(self) -> int:
        """Take over what dead processes have left, to be sent before ours; returns its rows."""
        if not self._folder.is_dir():
            return 0
        found: list[Segment] = []
        with self._lock:
            for lock in sorted(self._folder.glob("*.lock")):
                owner = lock.with_suffix("")
                if owner in self._locks or (held := locked(lock)) is None:
                    continue
                segments = [_measured(path) for path in sorted(owner.glob("*.segment"))]
                if segments:
                    self._locks[owner] = held
                    found += segments
                else:
                    self._forget(owner, held)
            mine = list(self._segments)
            self._segments = deque(sorted(found, key=lambda s: s.path) + mine)
        rows = sum(segment.rows for segment in found)
        if found:
            log.warning("%d rows of a server that has ended are sent to the store now", rows)
        return rows

    def close(self) -> None:
        """Leave what waits to the next process."""
        with self._lock:
            if self._active is not None:
                self._seal()
            for owner, held in self._locks.items():
                self._forget(owner, held)
            self._locks.clear()
            self._segments.clear()
            self._owner = None

    # -- with the lock held -------------------------------------------------------------------

    def _begin(self) -> None:
        """A new segment. The lock comes before the folder, or others might take it for orphaned."""
        if self._owner is None:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)  # rows may be personal data
            owner = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
            held = locked(owner.with_suffix(".lock"))
            if held is None:
                raise OSError(f"the lock of {owner} is taken")
            owner.mkdir()
            self._owner = owner
            self._locks[owner] = held
        self._count += 1
        path = self._owner / f"{self._count:08d}.segment"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._active = os.open(path, flags, 0o600)
        self._segments.append(Segment(path))
        folder = os.open(self._owner, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, is to outlive a power cut
        finally:
            os.close(folder)

    def _seal(self) -> None:
        assert self._active is not None
        active, self._active = self._active, None
        self._unsynced = False
        try:
            os.fsync(active)
        finally:
            os.close(active)

    def _make_room(self, needed: int) -> bool:
        if needed > self._maximum:
            return False
        taken = self._taken()
        while taken + needed > self._maximum:
            oldest = next((s for s in self._segments if s is not self._reading), None)
            if oldest is None:
                return True  # the rest is another process's, which keeps to the bound itself
            if self._active is not None and oldest is self._segments[-1]:
                self._seal()
            log.error("the spool is full: its %d oldest rows are dropped", oldest.rows)
            self._segments.remove(oldest)
            self._remove(oldest)
            self._dropped(oldest.rows)
            taken -= oldest.bytes
        return True

    def _taken(self) -> int:
        """Bytes of all segments: ours as we know them, others' as the disk says."""
        ours = {s.path for s in self._segments}
        total = sum(s.bytes for s in self._segments)
        for path in self._folder.glob("*/*.segment"):
            if path not in ours:
                with contextlib.suppress(OSError):
                    total += path.stat().st_size
        return total

    def _remove(self, segment: Segment) -> None:
        segment.path.unlink(missing_ok=True)
        owner = segment.path.parent
        if owner != self._owner and not any(s.path.parent == owner for s in self._segments):
            held = self._locks.pop(owner, None)
            if held is not None:
                self._forget(owner, held)

    def _forget(self, owner: Path, held: int) -> None:
        """Let go of a folder, and of its name when nothing is left in it."""
        with contextlib.suppress(OSError):
            owner.rmdir()
        if not owner.exists():
            owner.with_suffix(".lock").unlink(missing_ok=True)
        os.close(held)  # with the lock


def locked(path: Path) -> int | None:
    """The open lock file, locked; None when its owner lives."""
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # somebody else may have taken it over and removed it between the two calls
        if path.exists() and os.fstat(held).st_ino == path.stat().st_ino:
            return held
    except OSError:
        pass
    os.close(held)
    return None


def _measured(path: Path) -> Segment:
    """Size and rows as the headers say; `read` looks closer."""
    segment = Segment(path)
    with contextlib.suppress(OSError), path.open("rb") as file:
        segment.bytes = os.fstat(file.fileno()).st_size
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            mark, length, rows, _ = _HEADER.unpack(header)
            if mark != _MARK:
                break
            segment.rows += rows
            file.seek(length, os.SEEK_CUR)
    return segment


def _frames(data: bytes) -> Iterator[Batch | int]:
    """Batches, and where one is damaged the number of its rows as far as it is known."""
    at = 0
    while at < len(data):
        batch, rows = _frame(data, at)
        if batch is not None:
            yield batch
            at += _HEADER.size + len(batch.data)
            continue
        at = data.find(_MARK, at + 1)
        if rows:
            yield rows
        if at < 0:
            return


def _frame(data: bytes, at: int) -> tuple[Batch | None, int]:
    """The frame at `at`; None, and how many rows it had, when it is not whole."""
    if len(data) - at < _HEADER.size:
        return None, 0
    mark, length, rows, checksum = _HEADER.unpack_from(data, at)
    if mark != _MARK:
        return None, 0
    start = at + _HEADER.size
    body = data[start : start + length]
    numbers = struct.pack(">II", length, rows)
    if len(body) == length and zlib.crc32(body, zlib.crc32(numbers)) == checksum:
        return Batch(body, rows), rows
    return None, rows if rows < 1 << 20 else 0
