"""The Open Inference Protocol over gRPC, beside HTTP in the same worker process.

The same slots, limits, faults, counts and telemetry as over HTTP; a fault's status becomes a gRPC
status code, and its text says field, rule, what was received and the remedy. Needs the extra
`grpc`. Workers share the port (SO_REUSEPORT).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from deployments.serving import (
    grpc_convert,
    inference_about,
    inference_outputs,
    inference_protocol,
    routing,
)
from deployments.serving.errors import RequestFault
from deployments.serving.grpc_messages import SERVICE, message
from deployments.serving.rows import Rows
from deployments.serving.service import Service
from deployments.serving.slots import Answer, Slot
from deployments.serving.tracing import Tracer

log = logging.getLogger(__name__)

_INLINE_BYTES = 65_536  # a larger message is worked on in a thread
_HEADER_IDS = 16
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,  # too many rows; gRPC itself refuses too many bytes
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Method = Callable[[Any, Any], Awaitable[Any]]


class GrpcServer:
    """Serves one `Service` on `host:port` between `start` and `stop`."""

    def __init__(self, service: Service, tracer: Tracer, version: str) -> None:
        self._service = service
        self._tracer = tracer
        self._version = version
        self._server: Any = None
        self.port = 0  # the one that is listened on, once started

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises RuntimeError when the port is taken."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._service.limit),
                ("grpc.max_send_message_length", -1),  # an answer is bounded by its rows
            ]
        )
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._measured(name, method),
                response_serializer=message(f"{name}Response").SerializeToString,
            )
            for name, method in (
                ("ServerLive", self._live),
                ("ServerReady", self._ready),
                ("ModelReady", self._model_ready),
                ("ServerMetadata", self._server_metadata),
                ("ModelMetadata", self._model_metadata),
                ("ModelInfer", self._infer),
            )
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.port = self._server.add_insecure_port(address)
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Finish running calls within `seconds`, take no new ones."""
        if self._server is not None:
            await self._server.stop(seconds)

    def _measured(self, name: str, method: Method) -> Method:
        """`method` with its faults answered, its time counted and its trace passed on, as HTTP's
        routes are."""
        route = "infer" if name == "ModelInfer" else f"grpc_{name}"
        about = {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": name}
        decode = message(f"{name}Request").FromString

        async def measured(sent: bytes, context: Any) -> Any:
            started = time.perf_counter()
            status, answer = 200, None
            span = self._tracer.begin(
                f"{SERVICE}/{name}", about, dict(context.invocation_metadata())
            )
            metadata = [("traceparent", span.header)] if span and span.header else []
            try:
                try:
                    request = decode(sent)
                except DecodeError:
                    raise RequestFault(
                        400, "message", f"the message is a {name}Request", "encode it as one"
                    ) from None
                reply = await method(request, context)
                if isinstance(reply, tuple):
                    reply, answer = reply
                    metadata += _metadata(answer)
                if metadata:
                    await context.send_initial_metadata(metadata)
            except RequestFault as fault:
                status = fault.status
                code = _CODES.get(status, grpc.StatusCode.UNKNOWN)
                if retry := fault.headers.get("retry-after"):
                    metadata.append(("retry-after", retry))
                await context.abort(code, fault.text(), tuple(metadata))
            except Exception:
                status, incident = 500, uuid.uuid4().hex
                log.exception("incident %s at %s", incident, name)
                text = f"server: every request is answered, this one failed: report {incident}"
                await context.abort(grpc.StatusCode.INTERNAL, text, tuple(metadata))
            finally:
                self._service.answered(route, status, time.perf_counter() - started, answer)
                if span:
                    span.end(status, answer)
            return reply

        return measured

    def _slot(self, name: str, version: str) -> Slot:
        if name != self._service.config.name:
            raise RequestFault(
                404,
                "model",
                f"the model served is {self._service.config.name}",
                "correct the name",
                received=name,
            )
        return self._service.slots.get(version or None)

    async def _live(self, _request: Any, _context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _ready(self, _request: Any, _context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._service.slots.current is not None)

    async def _model_ready(self, request: Any, _context: Any) -> Any:
        try:
            self._slot(request.name, request.version)
        except RequestFault as fault:
            if fault.status != 503:
                raise
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=True)

    async def _server_metadata(self, _request: Any, _context: Any) -> Any:
        return message("ServerMetadataResponse")(name="everfit", version=self._version)

    async def _model_metadata(self, request: Any, _context: Any) -> Any:
        slot = self._slot(request.name, request.version)
        about = inference_about.metadata(slot)
        properties = {
            "digest": slot.release.digest,
            "window_id": slot.release.window_id,
            "runtime": slot.runtime,
            "runtime_reason": slot.runtime_reason,
        }
        return message("ModelMetadataResponse")(**about, properties=properties)

    async def _infer(self, request: Any, context: Any) -> tuple[Any, Answer]:
        started = time.perf_counter()
        service = self._service
        slot = self._slot(request.model_name, request.model_version)
        pinned = bool(request.model_version)
        key = dict(context.invocation_metadata() or ()).get(routing.HEADER)

        def parse() -> tuple[Slot, Rows, inference_protocol.Inference]:
            rows, sent = grpc_convert.parse(request, service.config.serving.maximum_rows)
            inference_outputs.check_outputs(sent, slot.classes)
            return slot if pinned else service.routed(slot, rows, key), rows, sent

        def render(answer: Answer, sent: inference_protocol.Inference) -> tuple[Any, Answer]:
            raw = len(request.raw_input_contents) > 0
            return grpc_convert.render(answer, sent, raw=raw), answer

        def whole() -> tuple[Any, Answer]:
            asked, rows, sent = parse()
            return render(service.score(asked, rows, started, pinned=pinned), sent)

        with service.gate:
            if request.ByteSize() > _INLINE_BYTES:
                return await service.large.run(whole)
            asked, rows, sent = parse()
            return render(await service.answer(asked, rows, started, pinned=pinned), sent)


def _metadata(answer: Answer) -> tuple[tuple[str, str], ...]:
    """What HTTP's answer has as headers."""
    version = ("x-model-version", answer.version)
    if len(answer.ids) > _HEADER_IDS:
        return (version,)
    return version, ("x-prediction-ids", ",".join(quote(id_, safe="") for id_ in answer.ids))
