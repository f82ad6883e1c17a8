"""The HTTP core without a server: routes, faults, bodies, and the ASGI adapter's lifespan."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx
import pytest

from deployments.serving.app import create_app
from deployments.serving.asgi import Asgi
from deployments.serving.errors import RequestFault
from deployments.serving.http import Application, Disconnected, Request, Route, json_reply


class Sent(Request):
    """A request made by hand: its body comes in the chunks given."""

    def __init__(self, method, path, chunks=(), headers=None):
        super().__init__()
        self.method, self.path, self.query = method, path, ""
        self.headers = headers or {}
        self.taken = 0
        self._chunks = chunks

    async def chunks(self):
        for chunk in self._chunks:
            self.taken += len(chunk)
            yield chunk


@pytest.fixture
def seen():
    return []


@pytest.fixture
def app(seen):
    async def show(request):
        return json_reply({"params": dict(request.params)})

    async def fail(request):
        raise RequestFault(422, "x", "rule", "remedy", headers={"retry-after": "1"})

    async def gone(request):
        raise Disconnected

    return Application(
        [
            Route("GET", "/models/{name}", show, "model"),
            Route("GET", "/models/all", show, "all"),
            Route("POST", "/models/{name}", fail, "fail"),
            Route("GET", "/models/{name}/versions/{version}", show, "version"),
            Route("GET", "/gone", gone, "gone"),
        ],
        observe=lambda name, status, seconds, answer: seen.append((name, status)),
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "has"),
    [
        ("GET", "/models/all", 200, b'"params":{}'),
        ("GET", "/models/a b", 200, b'{"name":"a b"}'),
        ("HEAD", "/models/a", 200, b'{"name":"a"}'),
        ("GET", "/models/a/versions/3", 200, b'{"name":"a","version":"3"}'),
        ("POST", "/models/a", 422, b'"remedy":"remedy"'),
        ("POST", "/models/all", 405, b"GET, HEAD"),
        ("PUT", "/models/a", 405, b"GET, HEAD, POST"),
        ("GET", "/models/", 404, b"no such path"),
        ("GET", "/models/a/", 404, b"no such path"),
        ("GET", "/models/a/versions/3/x", 404, b"no such path"),
        ("GET", "/gone", 499, b""),
    ],
)
async def test_routes(app, method, path, status, has):
    for _ in range(2):  # a path with names is remembered
        reply = await app.handle(Sent(method, path))
        assert reply.status == status
        assert has in reply.body


async def test_what_is_counted_is_what_had_a_route(app, seen):
    for method, path in (("GET", "/models/a"), ("POST", "/models/a"), ("GET", "/x"), ("GET", "/")):
        await app.handle(Sent(method, path))
    assert seen == [("model", 200), ("fail", 422)]


async def test_made_up_names_do_not_fill_the_memory(app):
    for number in range(3_000):
        assert (await app.handle(Sent("GET", f"/models/{number}"))).status == 200
    assert len(app._remembered) <= 1024


async def test_a_large_body_is_never_held(app):
    request = Sent("POST", "/", [b"x" * 1000] * 100)
    with pytest.raises(RequestFault, match="at most 5000 bytes") as fault:
        await request.body(5_000)
    assert fault.value.status == 413
    assert request.taken == 100_000  # the rest was thrown away, so that the client reads the answer
    waiting = Sent("POST", "/", [b"x"], {"content-length": "10000", "expect": "100-continue"})
    with pytest.raises(RequestFault):
        await waiting.body(5_000)
    assert waiting.taken == 0


async def test_half_a_body_is_no_body():
    with pytest.raises(Disconnected):
        await Sent("POST", "/", [b"[1, 2"], {"content-length": "10"}).body(100)
    assert await Sent("POST", "/", [b"[1", b"]"], {"content-length": "3"}).body(100) == b"[1]"
    assert await Sent("POST", "/", [b"[1", b"]"]).body(3) == b"[1]"


async def test_the_application_as_asgi(serving_config, serving_alias):
    alias = serving_alias()
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    await app.startup()
    try:
        app.state.service.follower.first_look(5)
        transport = httpx.ASGITransport(app=Asgi(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            row = {"hour": 7, "wind": 1.5, "carrier": "UA"}
            answer = await client.post("/invocations", json={"dataframe_records": [row]})
            assert answer.status_code == 200
            assert answer.headers["content-length"] == str(len(answer.content))
            assert len(answer.json()["ids"]) == 1
            head = await client.head("/v2/health/live")
            assert (head.status_code, head.content) == (200, b"")
            assert (await client.get("/v2/models/tiny/versions/2")).status_code == 404
    finally:
        await app.shutdown()


@pytest.mark.parametrize("fault", [None, OSError("no disk")])
async def test_the_lifespan_is_entered_and_left(fault):
    passed, sent = [], []

    @asynccontextmanager
    async def lifespan():
        if fault:
            raise fault
        passed.append("in")
        yield
        passed.append("out")

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message["type"].removeprefix("lifespan."))

    call = Asgi(Application([], lifespan=lifespan))({"type": "lifespan"}, receive, send)
    if fault:
        with pytest.raises(OSError, match="no disk"):
            await call
        assert sent == ["startup.failed"]
    else:
        await call
        assert passed == ["in", "out"]
        assert sent == ["startup.complete", "shutdown.complete"]
