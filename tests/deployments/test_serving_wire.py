"""HTTP/1.1 byte by byte: what clients may send, and what they may not."""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path

import pytest

from deployments.serving.app import create_app
from deployments.serving.balance import Share
from deployments.serving.heads import LONGEST, BadHead, Heads, read

ROW = b'{"dataframe_records": [{"hour": 7, "wind": 1.5, "carrier": "UA"}]}'
HEAD = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
POST = HEAD + b"content-length: %d\r\n\r\n" % len(ROW) + ROW
GET = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def app(serving_config, serving_alias):
    alias = serving_alias()
    return create_app(serving_config(), registry=lambda: alias, load=alias.load)


@pytest.fixture(scope="module")
def address(app, serving):
    with serving(app) as client:
        yield client.base_url.host, client.base_url.port


class Peer:
    """A client that says exactly what it is told."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=10)
        self.read = b""

    def send(self, *parts, pause=0.0):
        for part in parts:
            self.socket.sendall(part)
            time.sleep(pause)

    def answer(self, *, body=True):
        """(status, headers, body) of the next answer."""
        while b"\r\n\r\n" not in self.read:
            self._more()
        head, _, self.read = self.read.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self.read) < length:
            self._more()
        found, self.read = self.read[:length], self.read[length:]
        return int(first.split()[1]), headers, found

    def _more(self):
        data = self.socket.recv(65_536)
        assert data, f"the connection ended after {self.read!r}"
        self.read += data

    def ended(self):
        """Whether the server ends the connection without another word."""
        return self.socket.recv(10) == b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.fixture
def peer(address):
    with Peer(address) as peer:
        yield peer


def predictions(answer):
    status, _, body = answer
    assert status == 200, body
    return json.loads(body)["predictions"]


def test_one_connection_takes_request_after_request_however_they_are_cut(peer):
    peer.send(POST)
    whole = predictions(peer.answer())
    cuts = [(POST[:n], POST[n:]) for n in (1, 5, len(HEAD), len(HEAD) + 21, len(POST) - len(ROW))]
    for first, second in [*cuts, (POST[:-1], POST[-1:])]:
        peer.send(first, second, pause=0.01)
        assert predictions(peer.answer()) == whole
    peer.send(*(POST[i : i + 1] for i in range(len(POST))))
    assert predictions(peer.answer()) == whole
    peer.send(b"\r\n" + GET)  # an empty line before a request is forgiven
    assert peer.answer()[0] == 200


def test_requests_that_are_sent_at_once_are_answered_in_order(peer):
    peer.send((GET + POST) * 30 + POST[:-5])
    for _ in range(30):
        assert json.loads(peer.answer()[2]) == {"live": True}
        assert predictions(peer.answer())
    peer.send(POST[-5:])
    assert predictions(peer.answer())


def test_chunks_are_read_and_end_the_connection(peer):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (ROW[:7], ROW[7:])) + b"0\r\n\r\n"
    request = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks
    peer.send(request[:-9], request[-9:], pause=0.02)
    status, headers, _ = answer = peer.answer()
    assert predictions(answer)
    assert (status, headers["connection"]) == (200, "close")
    assert peer.ended()


def test_bad_chunks_are_refused(peer):
    peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n")
    status, headers, body = peer.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert "chunks" in json.loads(body)["error"]["rule"]


def test_a_client_that_asks_first_is_told_to_go_on(peer):
    peer.send(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(ROW))
    assert peer.answer(body=False)[0] == 100
    peer.send(ROW)
    assert predictions(peer.answer())


def test_head_has_no_body_and_the_length_of_one(peer):
    peer.send(GET.replace(b"GET", b"HEAD"))
    status, headers, _ = peer.answer(body=False)
    assert (status, headers["content-length"]) == (200, str(len('{"live":true}')))
    peer.send(GET)
    assert json.loads(peer.answer()[2]) == {"live": True}


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET /ping HTTP/1.1\r\nhost: x\r\n", True),
        (b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", False),
        (b"GET /ping HTTP/1.0\r\n", False),
        (b"GET http://x/ping HTTP/1.1\r\nhost: x\r\n", True),
        (b"GET /%70ing?a=1 HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n", True),
    ],
)
def test_connections_stay_or_end_as_the_client_wishes(peer, head, stays):
    for _ in range(2 if stays else 1):
        peer.send(head + b"\r\n")
        status, headers, _ = peer.answer()
        assert status == 200
        assert headers["date"].endswith("GMT")
        assert ("connection" in headers) is not stays
    if not stays:
        assert peer.ended()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.0\n\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost x\r\n\r\n", 400),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello", 400),
        (HEAD + b"content-length: -5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * LONGEST + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * LONGEST, 431),
        (HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n", 400),
        (HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"transfer-encoding: identity\r\n\r\nhello", 400),
        (HEAD + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello", 400),
        (HEAD + b"content-length: 0x5\r\n\r\nhello", 400),
        (HEAD + b"content-length: 99999999999999999999\r\n\r\nhello", 400),
        (HEAD + b"content-length : 5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n", 400),  # a folded line
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\rx: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: x\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nhost: x\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_answered_and_ends_the_connection(peer, sent, status):
    peer.send(sent)
    found, headers, body = peer.answer()
    assert (found, headers["connection"]) == (status, "close")
    assert json.loads(body)["error"]["remedy"]
    assert peer.ended()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://elsewhere:99/v2/health/live?x#y", 200),
        (b"/v2/health/live?a=%00", 200),
        (b"*", 404),
        (b"/v2/health/live/../live", 404),
        (b"/v2/models/%2e%2e/%ff", 404),
        (b"//v2/health/live", 404),
    ],
)
def test_targets(peer, target, status):
    peer.send(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
    assert peer.answer()[0] == status
    assert peer.answer()[0] == 200


def test_an_answer_comes_though_the_body_does_not(peer):
    peer.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
    status, headers, _ = peer.answer()
    assert (status, headers["connection"]) == (404, "close")
    peer.send(b"more")  # read and thrown away
    assert peer.ended()


def test_a_client_that_stops_sending_has_its_answer(peer):
    peer.send(POST)
    peer.socket.shutdown(socket.SHUT_WR)
    assert predictions(peer.answer())
    assert peer.ended()


def test_a_client_that_does_not_read_holds_up_itself_alone(address):
    with Peer(address) as deaf, Peer(address) as other:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.socket.settimeout(0.3)
        many = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000_000
        with pytest.raises(TimeoutError):
            deaf.send(many)
        other.send(POST)
        assert predictions(other.answer())


def test_a_connection_that_is_reset_harms_nobody(address):
    for part in (POST[:40], POST[:-3], POST + POST):
        with Peer(address) as rude:
            rude.send(part)
            linger = struct.pack("ii", 1, 0)  # a reset instead of an end
            rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    with Peer(address) as other:
        other.send(POST)
        assert predictions(other.answer())


def test_heads_are_remembered_up_to_a_bound():
    heads = Heads()
    for number in range(1_000):
        raw = b"GET /%d HTTP/1.1\r\nhost: x" % number
        heads.keep(raw, read(raw + b"\r\n\r\n")[0])
    assert 0 < len(heads) <= 512
    raw = b"GET / HTTP/1.1\r\nexpect: 100-continue"
    heads.keep(raw, read(raw + b"\r\n\r\n")[0])
    assert raw not in heads
    with pytest.raises(BadHead):
        read(b"GET / HTTP/1.1\r\n")


def test_workers_share_their_connections_out(tmp_path: Path):
    file = tmp_path / "share"
    Share.prepare(file, 3)
    first, second, third = (Share(file, n, 3) for n in range(3))
    assert first.wait() == 0.0
    first.add(9)
    assert first.wait() > 0  # the others have fewer: they may take it
    assert first.wait() == 0.0  # they have not
    assert second.wait() == 0.0
    first.look()
    second.look()
    assert (first.excess, second.excess) == (3, 0)  # half of what is above the mean of 3, and 1
    second.add(4)
    third.add(5)
    first.look()
    assert first.excess == 1
    Share.ended(file, 1)  # it was killed: nobody waits for it
    assert third.wait() == 0.0
    again = Share(file, 1, 3)
    assert third.wait() > 0
    assert again.wait() == 0.0
    assert Share().wait() == 0.0
