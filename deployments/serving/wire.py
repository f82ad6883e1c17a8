"""HTTP/1.1 on sockets: one object a connection, in one thread, on uvloop.

A request whose head was seen before and that comes in one piece, as nearly all do, is answered
without a parser and without a task. Whatever else a client may send goes the long way, with the
same outcome. Bounds: on heads, on what is held of a body, on connections, on the time that a head
takes; on bodies see `admission`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

from deployments.serving.balance import Share
from deployments.serving.errors import RequestFault
from deployments.serving.heads import LONGEST, BadHead, Head, Heads, Unchunk, read
from deployments.serving.http import Application, Reply, json_reply
from deployments.serving.streams import Stream, WireRequest

log = logging.getLogger(__name__)

_INLINE = 65_536  # bytes of a body that is waited for before anybody looks at the request
_HELD = 262_144  # bytes of a stream, or of further requests, that are held before reading stops
_PATIENCE = 0.25  # seconds that an inline body is waited for; then it becomes a stream
_LINGER = 1.0  # seconds for what a client still sends when it has had its answer
_FULL = 0.05  # seconds until connections are taken again after there were too many
_TICK = 1.0  # seconds between two looks at silent connections
_END = b"\r\n\r\n"

STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class Lane(Protocol):
    """Answers some kind of requests in a way of its own: `take` calls `connection.send` once, at
    any time, or hands it back to `connection.answer`."""

    def take(self, connection: Connection, head: Head, body: bytes) -> None: ...


class Wire:
    """The connections of one process, to one application. Used from its loop's thread alone.

    `lanes` gives a head its lane, or None. `idle` is for how many seconds a client may say nothing
    within a head or between requests; `most` how many connections there may be, `share` how they
    are shared out among workers.
    """

    def __init__(
        self,
        application: Application,
        *,
        lanes: Callable[[Head], Lane | None] = lambda _head: None,
        idle: float = 75.0,
        most: int = 4096,
        share: Share | None = None,
    ) -> None:
        self.application = application
        self.lanes = lanes
        self.heads = Heads()
        self.connections: set[Connection] = set()
        self.waiting: dict[Connection, float] = {}  # for the rest of a small body, since when
        self._sweeping = False
        self.draining = False
        self.now = time.monotonic()  # at the last tick; exact enough for silence
        self.date = b""
        self._idle = idle
        self._most = most
        self._share = share or Share()
        self._sockets: list[socket.socket] = []
        self._ticks: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, listening: socket.socket) -> None:
        """Take connections from a listening socket, which others may listen on too."""
        self.loop = asyncio.get_running_loop()
        listening.setblocking(False)
        self._sockets.append(listening)
        self._tick()
        self.loop.add_reader(listening, self._accept, listening)

    async def stop(self, seconds: float) -> None:
        """Take no more; answer what has begun, for at most so many seconds."""
        self.draining = True
        for listening in self._sockets:
            self.loop.remove_reader(listening)
            listening.close()
        for connection in tuple(self.connections):
            if connection.quiet:
                connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    self._gone.clear()
                    await self._gone.wait()
        for connection in tuple(self.connections):
            connection.transport.abort()
        if self._ticks is not None:
            self._ticks.cancel()

    def task(self, work: Any) -> None:
        """Run a coroutine; it is held until it has ended."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listening: socket.socket) -> None:
        """One at a time, so that workers that listen on one socket take turns."""
        if len(self.connections) >= self._most:
            self._later(listening, _FULL)  # they wait in the backlog
            return
        if (wait := self._share.wait()) > 0:
            self._later(listening, wait)  # another worker has fewer: let it
            return
        try:
            peer, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was quicker
            return
        except OSError as fault:
            log.error("a connection could not be taken: %s", fault)
            self._later(listening, _FULL)
            return
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._share.add(1)
        self.task(self._connect(peer))

    def _later(self, listening: socket.socket, seconds: float) -> None:
        self.loop.remove_reader(listening)
        self.loop.call_later(seconds, self._listen_again, listening)

    def _listen_again(self, listening: socket.socket) -> None:
        if not self.draining:
            self.loop.add_reader(listening, self._accept, listening)
            self._accept(listening)

    async def _connect(self, peer: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), peer)
        except OSError:
            self._share.add(-1)
            peer.close()

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.waiting.pop(connection, None)
            self._share.add(-1)
            self._gone.set()

    def move_on(self) -> bool:
        """Whether a connection that has just been answered should end, since this worker has more
        than its share: its client connects anew, and another worker takes it."""
        return self._share.excess > 0 and self._share.give()

    def _tick(self) -> None:
        self.now = time.monotonic()
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        self._share.look()
        for connection in tuple(self.connections):
            if self.now - connection.seen > self._idle and not connection.busy:
                connection.close()
            elif self.now - connection.seen > self._idle and connection.choked:
                connection.transport.abort()  # it does not read what it has asked for
        self._ticks = self.loop.call_later(_TICK, self._tick)

    def wait_for(self, connection: Connection) -> None:
        """The rest of a small body is to come."""
        self.waiting.setdefault(connection, self.loop.time())
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(_PATIENCE, self._sweep)

    def _sweep(self) -> None:
        begun = self.loop.time() - _PATIENCE
        for connection in [c for c, since in self.waiting.items() if since <= begun]:
            del self.waiting[connection]
            connection.no_longer_wait()
        self._sweeping = bool(self.waiting)
        if self._sweeping:
            self.loop.call_later(_PATIENCE, self._sweep)


class Connection(asyncio.Protocol):
    """One client. At most one request is worked on; what it sends meanwhile waits.

    `busy`: a request is under way; `choked`: the client does not read; `seen`: when it last sent.
    """

    __slots__ = (
        "_ended",
        "_held",
        "_linger",
        "_patient",
        "_paused",
        "_stream",
        "busy",
        "choked",
        "seen",
        "transport",
        "wire",
    )

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.busy = False
        self.choked = False
        self.seen = wire.now
        self._held = b""  # sent, not yet looked at
        self._stream: Stream | None = None  # the body of the request under way
        self._paused = False
        self._linger = False  # has had its last answer
        self._patient = True
        self._ended = False  # the client sends no more
        self.transport: Any = None

    # -- what the loop calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.wire.connections.add(self)
        if self.wire.draining:
            self.close()

    def data_received(self, data: bytes) -> None:
        wire = self.wire
        self.seen = wire.now
        if not self.busy and not self._held:
            end = data.find(_END)
            head = wire.heads.get(data[:end]) if end > 0 else None
            if head is not None and len(data) == end + 4 + head.length:
                self._begin(head, data[end + 4 :])
                return
        if self._linger:
            return
        if self._stream is not None and not self._stream.complete:
            self._held = self._stream.feed(data)
            self.breathe()
            return
        self._held += data
        if self.busy:
            self.breathe()
        else:
            self._advance()

    def eof_received(self) -> bool:
        """It sends no more. What has come whole is answered still."""
        if self._stream is not None and not self._stream.complete:
            self._stream.lose()
        self._ended = True
        return self.busy  # True keeps our side open

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._stream is not None:
            self._stream.lose()
        self.wire.closed(self)

    def pause_writing(self) -> None:
        self.choked = True
        self.breathe()

    def resume_writing(self) -> None:
        self.choked = False
        self.breathe()
        if not self.busy and self._held:
            self._advance()

    # -- requests -----------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Between two requests."""
        return not self.busy and not self._held

    def no_longer_wait(self) -> None:
        """The body takes its time: whoever answers may see what there is of the request."""
        self._patient = False
        if not self.busy and self._held:
            self._advance()

    def _begin(self, head: Head, body: bytes) -> None:
        self.busy = True
        lane = head.lane
        if lane is not None:
            lane.take(self, head, body)
        else:
            self.answer(head, body)

    def answer(self, head: Head, body: bytes) -> None:
        """By the application, in a task."""
        self.wire.task(self._handle(WireRequest(head, body, None)))

    def _advance(self) -> None:
        """Look for the next request in what is held. Nothing is under way."""
        held = self._held
        if held[:1] in (b"\r", b"\n"):
            held = self._held = held.lstrip(b"\r\n")
        end = held.find(_END)
        if end < 0 or end > LONGEST:
            if len(held) > LONGEST:
                self._refuse(431, "head", f"a head has at most {LONGEST} bytes", "shorten it")
            elif b"\n\n" in held:
                self._refuse(400, "head", "lines end with CR LF", "send HTTP/1.1")
            return
        raw = held[:end]
        head = self.wire.heads.get(raw)
        chunks: Unchunk | None = None
        if head is None:
            try:
                head, chunks = read(raw + _END)
            except BadHead as fault:
                self._refuse(400, "head", "a request of HTTP/1.1", "correct it", str(fault))
                return
            if head.length <= _INLINE:
                head.lane = self.wire.lanes(head)
                self.wire.heads.keep(raw, head)
        rest = held[end + 4 :]
        if head.chunked or head.length > _INLINE or head.expects:
            self._open(head, rest, chunks)
        elif len(rest) >= head.length:
            self.wire.waiting.pop(self, None)
            self._patient = True
            self._held = rest[head.length :]
            self._begin(head, rest[: head.length])
        elif self._patient:
            self.wire.wait_for(self)
        else:
            self._open(head, rest, chunks)

    def _open(self, head: Head, rest: bytes, chunks: Unchunk | None) -> None:
        """A request whose body comes while it is worked on."""
        self.busy = True
        self._patient = True
        stream = self._stream = Stream(self, head, chunks)
        self._held = stream.feed(rest)
        self.wire.task(self._handle(WireRequest(head, None, stream)))
        self.breathe()

    async def _handle(self, request: WireRequest) -> None:
        reply = await self.wire.application.handle(request)
        head = request.head
        close = not head.keep
        lines = [STATUS.get(reply.status) or f"HTTP/1.1 {reply.status} -\r\n".encode()]
        for name, value in reply.headers:
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
            close = close or (name == "connection" and value == "close")
        if head.old and not close:
            lines.append(b"connection: keep-alive\r\n")
        body = b"" if head.method == "HEAD" else reply.body
        length = f"content-length: {len(reply.body)}\r\n".encode()
        self.send(b"".join([*lines, length]), body, close)

    def send(self, head: bytes, body: bytes, close: bool = False) -> None:
        """The answer to the request under way: its status line and headers, without the empty
        line; and its body."""
        wire = self.wire
        stream, self._stream = self._stream, None
        late = stream is not None and not stream.complete
        told = b"connection: close\r\n" in head
        close = close or late or told or self._ended or wire.draining or wire.move_on()
        if self.transport.is_closing():
            self.busy = False
            return
        ending = b"connection: close\r\n" if close and not told else b""
        self.transport.write(b"%b%b%b\r\n%b" % (head, ending, wire.date, body))
        if close:
            self._finish(late)
            return
        self.busy = False
        if self._held or self._paused:
            self.breathe()
            if self._held:
                wire.loop.call_soon(self._next)  # not from within: many may wait

    def _next(self) -> None:
        if not self.busy and self._held and not self.choked and not self.transport.is_closing():
            self._advance()

    def _finish(self, late: bool) -> None:
        """The last answer is on its way; what the client still sends is thrown away for a moment,
        or it might lose the answer with the connection."""
        self._linger = True
        self._held = b""
        if not late:
            self.close()
            return
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self.breathe()
        self.wire.loop.call_later(_LINGER, self.close)

    def _refuse(
        self, status: int, field: str, rule: str, remedy: str, received: str | None = None
    ) -> None:
        """What is no request is answered, too; nobody counts it, since it has no route."""
        fault = RequestFault(status, field, rule, remedy, received=received)
        reply: Reply = json_reply(fault.body(), status)
        head = STATUS[status] + b"content-type: application/json\r\n"
        self.busy = True
        self.send(head + f"content-length: {len(reply.body)}\r\n".encode(), reply.body, close=True)

    def close(self) -> None:
        """End it when what was written is on its way."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    def breathe(self) -> None:
        """Read on, or no more, by what is held and by what the client takes."""
        held = len(self._held)
        if self._stream is not None:
            held += self._stream.size
        full = not self._linger and (held > _HELD or self.choked)
        if full != self._paused and not self.transport.is_closing():
            self._paused = full
            (self.transport.pause_reading if full else self.transport.resume_reading)()
