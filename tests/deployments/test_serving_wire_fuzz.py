"""However a stream of requests is cut, and whatever is remembered of heads, it is the same requests
that h11 finds in it: a difference would be a way to smuggle one past a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import random

import h11
import pytest

from deployments.serving.http import Application, Disconnected, Reply, Route
from deployments.serving.wire import Connection, Wire

METHODS = ("GET", "POST", "PUT")
PATHS = ("/a", "/b?x=1", "/%61%20b")
NAMES = {"/a": "/a", "/b?x=1": "/b", "/%61%20b": "/a b"}


class Transport:
    """Takes what is written to the client."""

    def __init__(self):
        self.sent = b""
        self.ended = False
        self.paused = False

    def write(self, data):
        assert not self.ended
        self.sent += data

    def is_closing(self):
        return self.ended

    def close(self):
        self.ended = True

    abort = close

    def write_eof(self):
        pass

    def pause_reading(self):
        assert not self.paused
        self.paused = True

    def resume_reading(self):
        assert self.paused
        self.paused = False


def request(rng):
    """A request as text; some bodies look like requests, and some lengths are chosen to mislead."""
    method, path = rng.choice(METHODS), rng.choice(PATHS)
    lines = [f"{method} {path} HTTP/1.1", "host: x"]
    if rng.random() < 0.3:
        lines.append("x-more: " + "y" * rng.randrange(3))
    head = "\r\n".join(lines).encode()
    if method == "GET" and rng.random() < 0.8:
        return head + b"\r\n\r\n"
    inside = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
    body = rng.choice([b"", b"x", inside, inside[:-1], b"\r\n\r\n", inside * 2, b"z" * 70_000])
    if rng.random() < 0.1:
        head += b"\r\ntransfer-encoding: chunked\r\n\r\n"
        parts = [body[: len(body) // 2], body[len(body) // 2 :]]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts if p)
        return head + chunks + b"0\r\n\r\n"
    if rng.random() < 0.3:  # as long as a head that is one byte longer would make it
        length = len(head) + len(b"\r\ncontent-length: 99") - 2
        body = (inside * 4)[:length] if length <= 99 else body
    return head + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def expected(stream):
    """(method, path, body) of each whole request, by h11; up to a chunked one, after which the
    connection ends here, or to the first fault."""
    found = []
    with contextlib.suppress(h11.RemoteProtocolError):
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        parser.receive_data(stream)
        while isinstance(event := parser.next_event(), h11.Request):
            target = event.target.decode()
            chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
            body = b""
            while isinstance(part := parser.next_event(), h11.Data):
                body += bytes(part.data)
            if not isinstance(part, h11.EndOfMessage):
                break
            found.append((event.method.decode(), NAMES[target], body))
            if chunked:
                break
            parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            parser.send(h11.EndOfMessage())
            parser.start_next_cycle()
    return found


async def got(wire, seen, parts):
    """What the application was asked by a connection that is sent `parts`."""
    seen.clear()
    transport = Transport()
    connection = Connection(wire)
    connection.connection_made(transport)
    for part in parts:
        if transport.ended:
            break
        connection.data_received(part)
        for _ in range(5):
            await asyncio.sleep(0)
    for _ in range(2_000):
        await asyncio.sleep(0)
        if connection.quiet and not wire._tasks:
            break
    if not transport.ended:
        connection.eof_received()
        transport.close()
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return list(seen)


def cuts(rng, stream):
    """The stream in random parts: often whole, or at places where heads and bodies meet."""
    marks = [at + d for at in range(len(stream)) if stream[at : at + 4] == b"\r\n\r\n" for d in (0, 3, 4, 5)]  # fmt: skip  # noqa: E501
    kind = rng.randrange(4)
    if kind == 0:
        places = []
    elif kind == 1:
        places = rng.sample(marks, min(len(marks), 3))
    elif kind == 2:
        places = [rng.randrange(len(stream) + 1) for _ in range(rng.randrange(1, 6))]
    else:
        places = list(range(0, min(len(stream), 300)))
    ends = [*sorted(p for p in places if p <= len(stream)), len(stream)]
    return [stream[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


@pytest.mark.parametrize("seed", range(2))
async def test_the_same_requests_are_found_however_the_stream_is_cut(seed):
    rng = random.Random(seed)
    seen = []

    async def answer(asked):
        with contextlib.suppress(Disconnected):
            seen.append((asked.method, asked.path, await asked.body(1 << 20)))
        return Reply(200, [])

    routes = [Route(m, p, answer, "x") for m in METHODS for p in NAMES.values()]
    wire = Wire(Application(routes))
    wire.loop = asyncio.get_running_loop()
    for _ in range(60):
        stream = b"".join(request(rng) for _ in range(rng.randrange(1, 5)))
        if rng.random() < 0.3:
            stream = stream[: rng.randrange(len(stream))]
        wanted = expected(stream)
        for _ in range(3):
            parts = cuts(rng, stream)
            assert await got(wire, seen, parts) == wanted, parts
    assert len(wire.heads) > 20  # they were remembered from stream to stream


async def test_a_head_that_is_remembered_is_no_request_by_itself():
    """One byte behind a head without its empty line, and a length that would fit: no request."""
    seen = []

    async def answer(asked):
        seen.append(await asked.body(1_000))
        return Reply(200, [])

    wire = Wire(Application([Route("POST", "/a", answer, "x")]))
    wire.loop = asyncio.get_running_loop()
    start = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: "
    head = start + b"%d" % (len(start) + 2 - 2)
    body = b"x" * len(start)
    assert await got(wire, seen, [head + b"\r\n\r\n" + body]) == [body]
    assert head in wire.heads
    assert await got(wire, seen, [head + b"\r"]) == []
    assert await got(wire, seen, [head + b"\r", b"\n\r\n" + body]) == [body]
