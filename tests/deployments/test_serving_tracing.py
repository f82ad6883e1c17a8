"""Trace context and OpenTelemetry: passed on, never a reason to fail."""

from __future__ import annotations

import logging
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deployments.serving import compression, tracing
from deployments.serving.app import create_app
from deployments.serving.errors import RequestFault
from deployments.serving.service import Pool

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{PARENT}-01"
ROW = {"dataframe_records": [{"hour": 7, "wind": 1.5, "carrier": "UA"}]}


@pytest.fixture
def app(serving_config, serving_alias):
    alias = serving_alias()
    return create_app(serving_config(), registry=lambda: alias, load=alias.load)


def test_the_callers_trace_goes_on(serving, app, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError

    with serving(app) as client:
        for path, body in (("/invocations", ROW), ("/labels", {"id": "x"})):
            answer = client.post(path, json=body, headers={"traceparent": HEADER})
            version, trace, span, flags = answer.headers["traceparent"].split("-")
            assert (version, trace, flags) == ("00", TRACE, "01")
            assert len(span) == 16
            assert span != PARENT
        assert "traceparent" not in client.post("/invocations", json=ROW).headers
        monkeypatch.setattr(app.state.service, "answer", broken)
        caplog.handler.addFilter(tracing.TraceFilter())
        client.post("/invocations", json=ROW, headers={"traceparent": HEADER})
    (record,) = (r for r in caplog.records if "incident" in r.message)
    assert record.trace == f" trace={TRACE}"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        HEADER[:-1],
        HEADER.upper(),
        HEADER + "-x",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        HEADER.replace("-", "_"),
    ],
)
def test_a_header_that_breaks_the_rules_is_no_trace(header):
    assert tracing.parse(header) is None


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known():
    found = tracing.parse(f"cc-{TRACE}-{PARENT}-ff-what-comes")
    assert (found.trace_id, found.parent_id, found.flags) == (TRACE, PARENT, 1)


class Collector(HTTPServer):
    """An OTLP collector: keeps the spans that OpenTelemetry's own exporter sends."""

    def __init__(self):
        self.spans = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, 31)
        sent = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_spans_reach_a_collector_as_children_of_the_callers(serving, serving_config, serving_alias):
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=(0.02,))
    thread.start()
    alias = serving_alias()
    config = serving_config(otel_endpoint=f"http://127.0.0.1:{collector.server_port}/v1/traces")
    try:
        with serving(create_app(config, registry=lambda: alias, load=alias.load)) as client:
            answer = client.post("/invocations", json=ROW, headers={"traceparent": HEADER})
            client.post("/invocations", json={}, headers={"traceparent": HEADER[:-2] + "00"})
            alone = client.post("/invocations", json=ROW)
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    spans = {span.span_id.hex(): span for span in collector.spans}
    child = spans[answer.headers["traceparent"].split("-")[2]]
    assert (child.trace_id.hex(), child.parent_span_id.hex()) == (TRACE, PARENT)
    said = {a.key: a.value.string_value or a.value.int_value for a in child.attributes}
    assert said["http.response.status_code"] == 200
    assert (said["everfit.model.version"], said["everfit.rows"]) == ("1", 1)
    assert (said["http.route"], said["http.request.method"]) == ("/invocations", "POST")
    mine = spans[alone.headers["traceparent"].split("-")[2]]
    assert mine.parent_span_id == b""
    assert [s.trace_id.hex() for s in collector.spans].count(TRACE) == 1  # the other: not sampled


def test_a_collector_that_is_down_costs_no_answer(serving, serving_config, serving_alias, caplog):
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    alias = serving_alias()
    config = serving_config(otel_endpoint="http://127.0.0.1:9/v1/traces")
    with serving(create_app(config, registry=lambda: alias, load=alias.load)) as client:
        assert client.post("/invocations", json=ROW).status_code == 200


async def test_work_in_a_thread_is_of_the_same_trace():
    pool = Pool("test", threads=1, waiting=1)
    span = tracing.Passing().begin("route", {}, {"traceparent": HEADER})
    try:
        assert (await pool.run(tracing.current)).trace_id == TRACE
        span.end(200, None)
        assert await pool.run(tracing.current) is None
    finally:
        pool.close()


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_compressed_bodies_are_bounded_and_whole(name):
    def packed(data):
        maker = zlib.compressobj(wbits=31 if name == "gzip" else 15)
        return maker.compress(data) + maker.flush()

    assert compression.decompress(packed(b"x" * 1000), name.upper(), 1000) == b"x" * 1000
    assert compression.decompress(packed(b""), name, 0) == b""
    for body, encoding, status in (
        (packed(b"x" * 1001), name, 413),
        (packed(b"x" * 10_000_000), name, 413),  # a few kilobytes on the wire
        (packed(b"x" * 1000)[:-1], name, 400),
        (packed(b"x") + b"more", name, 400),
        (b"plain", name, 400),
        (b"", name, 400),
        (packed(b"x"), "br", 415),
        (packed(b"x"), f"{name}, {name}", 415),
    ):
        with pytest.raises(RequestFault) as caught:
            compression.decompress(body, encoding, 1000)
        assert caught.value.status == status
