"""Telemetry written in a process of its own, so that workers have their core for answers.

A worker's `TelemetryWriter` keeps what it has answered as ever; it only has the recorder write it:
sends rows as they are, and waits until they are committed. Nothing is promised by the recorder that
the worker would not keep itself: without an answer the rows are still the worker's, and are written
by it, or go to its spool. So it may be killed at any time, and nothing is lost or there twice,
since rows have ids. `supervisor` starts it anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from deployments.serving.metrics import FOLDER
from deployments.serving.served import Batch, Served, joined, packed, ready
from monitoring.errors import RecordFault, StoreFault
from monitoring.recording import Recording

if TYPE_CHECKING:
    from deployments.serving.late_store import LateStore
    from tasks.config import Config

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("=II")  # bytes that follow, rows that are answered for
_PATIENCE = 20.0  # seconds for one write, longer than a store waits for another writer
_LONGEST = 1 << 28  # bytes of a message
_LONGEST_PATH = 100  # characters: of a socket's address
_BEAT = 1.0  # seconds
_NICE = 5  # answers come first where cores are short; half of one is left even beside busy workers

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Done(NamedTuple):
    """Rows that are in the store now and were not, and those that are not in the sample."""

    new: int
    left_out: int


def address(folder: str | Path | None) -> Path | None:
    """Where the recorder of these workers listens; None where there is none."""
    path = Path(folder, "recorder.sock") if folder else None
    return path if path is not None and len(str(path)) <= _LONGEST_PATH else None


class Away:
    """The recorder as a worker has it. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def record(self, batch: Sequence[Served]) -> Done | None:
        """Have rows written. None when that was not to be had: they may be written here.

        Raises RecordFault and StoreFault as the store does.
        """
        try:
            parts = packed(batch)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None  # no message holds them; whoever encodes them says why
        return self.bring(parts)

    def bring(self, parts: Sequence[Batch]) -> Done | None:
        """As `record`, of rows that are packed or encoded already, as the spool has them."""
        try:
            if self._socket is None:
                self._socket = self._connect()
            for part in parts:
                self._socket.sendall(_LENGTH.pack(len(part.data), part.rows))
                self._socket.sendall(part.data)
            self._socket.sendall(_LENGTH.pack(0, 0))
            kind, new, left_out, said = _decode(_receive(self._socket).data)
        except TimeoutError:
            self.close()
            raise StoreFault("the recorder does not answer: rows are kept until it does") from None
        except (OSError, EOFError):
            self.close()
            return None
        if kind == "stored":
            return Done(new, left_out)
        raise RecordFault(said) if kind == "record" else StoreFault(said)

    def _connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(_PATIENCE)
            peer.connect(str(self._path))
        except OSError:
            peer.close()
            raise
        return peer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _receive(peer: socket.socket) -> Batch:
    """One message, empty at the end of a batch. Raises EOFError when there are no more."""
    length, rows = _LENGTH.unpack(_exactly(peer, _LENGTH.size))
    if length > _LONGEST:
        raise EOFError
    return Batch(_exactly(peer, length), rows)


def _exactly(peer: socket.socket, length: int) -> bytes:
    buffer = bytearray(length)
    view, read = memoryview(buffer), 0
    while read < length:
        number = peer.recv_into(view[read:])
        if not number:
            raise EOFError
        read += number
    return bytes(buffer)


class Recorder:
    """The process's part: takes rows from workers and brings them into `store`."""

    def __init__(self, store: LateStore, recording: Recording, path: Path) -> None:
        self._store = store
        self._recording = recording
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)  # a predecessor's
        before = os.umask(0o177)  # rows may be personal data: they are this user's alone
        try:
            self._listening.bind(str(path))
        finally:
            os.umask(before)
        self._listening.listen(64)
        self._listening.settimeout(_BEAT)
        self._busy = threading.Lock()
        self._peers: set[socket.socket] = set()

    def run(self, stop: threading.Event, beat: Path) -> None:
        """Until `stop`; `beat` is touched while it turns."""
        while not stop.is_set():
            with contextlib.suppress(OSError):
                beat.touch()
            try:
                peer, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError as fault:
                log.error("a worker could not be heard: %s", fault)
                time.sleep(_BEAT)
                continue
            peer.settimeout(None)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()
        self._listening.close()
        with self._busy:  # what is being written is written, and answered
            for peer in tuple(self._peers):
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RD)
            self._store.close()

    def _serve(self, peer: socket.socket) -> None:
        self._peers.add(peer)
        with peer:
            try:
                while True:
                    parts: list[Batch] = []
                    while (part := _receive(peer)).data:
                        parts.append(part)
                    answer = _encode(self._write(parts))
                    peer.sendall(_LENGTH.pack(len(answer), 0) + answer)
            except (EOFError, OSError):
                self._peers.discard(peer)  # the worker has ended, or we do

    def _write(self, parts: list[Batch]) -> tuple[str, int, int, str]:
        """As `Away.record` reads it."""
        try:
            with self._busy:
                batch = joined([ready(part, self._recording) for part in parts])
                new = self._store.record_encoded(batch.data, batch.rows).new if batch.rows else 0
            return "stored", new, batch.left_out, ""
        except RecordFault as fault:
            return "record", 0, 0, str(fault)
        except Exception as fault:
            if not isinstance(fault, StoreFault):
                log.exception("rows could not be written")
            return "store", 0, 0, str(fault)


def run(config: Config, path: Path, beat: Path | None = None) -> None:
    """The whole life of the process."""
    from deployments.serving.app import log_to_stderr
    from deployments.serving.late_store import LateStore
    from deployments.serving.supervisor import beat_file, end_with_parent
    from tasks.recording import recording

    log_to_stderr()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    end_with_parent()
    os.nice(_NICE)
    kept = recording(config)
    store = LateStore(config.store_url, kept, lambda: datetime.now(UTC))
    Recorder(store, kept, path).run(
        stop, beat or beat_file(os.environ.get(FOLDER, path.parent), os.getpid())
    )
