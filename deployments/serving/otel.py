"""OpenTelemetry spans of requests, behind the extra `otel` and off unless `serving.otel_endpoint`
is set. Spans leave in batches from a thread of the exporter's; a collector that is down costs
spans, never requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from deployments.serving import tracing

_EXPORT_SECONDS = 1.0  # of a batch, retries included


class OtelSpan:
    """One recorded span; its ids are also those of `tracing.current()`."""

    __slots__ = ("_span", "_token", "header")

    def __init__(self, span: trace.Span, parent_id: str) -> None:
        context = span.get_span_context()
        passed = tracing.Trace(
            f"{context.trace_id:032x}", parent_id, f"{context.span_id:016x}", context.trace_flags
        )
        self._span = span
        self._token = tracing._current.set(passed)
        self.header = passed.header

    def end(self, status: int, answer: Any) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if answer is not None:
            self._span.set_attribute("everfit.model.version", answer.version)
            self._span.set_attribute("everfit.rows", len(answer.ids))
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        tracing._current.reset(self._token)


class OtelTracer:
    """A span for each request, as the caller's child where there is a valid `traceparent`."""

    def __init__(self, endpoint: str, name: str, version: str) -> None:
        resource = Resource.create(
            {"service.name": "everfit", "service.version": version, "everfit.model.name": name}
        )
        self._provider = TracerProvider(resource=resource)  # sampling: OTEL_TRACES_SAMPLER
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("everfit", version)

    def begin(self, route: str, attributes: Mapping[str, str], headers: Any) -> tracing.Span:
        header = headers.get("traceparent")
        caller = tracing.parse(header) if header else None
        context = None
        if caller is not None:
            remote = SpanContext(
                int(caller.trace_id, 16),
                int(caller.parent_id, 16),
                is_remote=True,
                trace_flags=TraceFlags(caller.flags),
            )
            context = trace.set_span_in_context(NonRecordingSpan(remote))
        span = self._tracer.start_span(
            route, context=context, kind=SpanKind.SERVER, attributes=dict(attributes)
        )
        return OtelSpan(span, caller.parent_id if caller else "0" * 16)

    def close(self) -> None:
        """Send what is left; a collector that is down holds this up for a second."""
        self._provider.shutdown()
