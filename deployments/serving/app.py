"""The HTTP application: routes, and what every request goes through.

A route parses, the slot answers, a protocol writes the answer down; faults, timing and counting are
in one place, `_measured`. What takes longer runs in threads, so that health checks stay quick.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.serving import inference_protocol, limits, protocols
from deployments.serving.errors import RequestFault, error_body
from deployments.serving.metrics import CONTENT_TYPE
from deployments.serving.service import Service
from deployments.serving.slots import Answer, Slot
from tasks.config import Config, load

log = logging.getLogger(__name__)

_INLINE_BYTES = 16_384  # a larger body is worked on in a thread
_HEADER_IDS = 16  # ids that fit into a header; the body has them all

Handler = Callable[[Request], Awaitable[Response]]


def create_app(config: Config, **options: Any) -> Starlette:
    """The application for one model; `options` are those of `Service`."""
    service = Service(config, **options)
    endpoints = Endpoints(service)

    def route(path: str, handler: Handler, method: str, name: str) -> Route:
        return Route(path, _measured(service, name, handler), methods=[method])

    model = "/v2/models/{name}"
    app = Starlette(
        routes=[
            route("/invocations", endpoints.invocations, "POST", "invocations"),
            route(f"{model}/infer", endpoints.infer, "POST", "infer"),
            route(model + "/versions/{version}/infer", endpoints.infer, "POST", "infer"),
            route("/labels", endpoints.labels, "POST", "labels"),
            route("/ping", endpoints.ready, "GET", "ready"),
            route("/version", endpoints.version, "GET", "version"),
            route("/metrics", endpoints.metrics, "GET", "metrics"),
            route("/v2", endpoints.server, "GET", "server"),
            route("/v2/health/live", endpoints.live, "GET", "live"),
            route("/v2/health/ready", endpoints.ready, "GET", "ready"),
            route(model, endpoints.model, "GET", "model"),
            route(f"{model}/ready", endpoints.ready, "GET", "ready"),
            route(model + "/versions/{version}", endpoints.model, "GET", "model"),
            route(model + "/versions/{version}/ready", endpoints.ready, "GET", "ready"),
        ],
        exception_handlers={HTTPException: _no_such_route},
        lifespan=service.running,
    )
    app.state.service = service
    return app


def from_environment() -> Starlette:
    """The application of a worker: the config's path in EVERFIT_CONFIG, overrides as JSON in
    EVERFIT_OVERRIDES (both set by `deployments.serving.run`)."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("deployments.serving").setLevel(logging.INFO)  # swaps are worth a line
    overrides = json.loads(os.environ.get("EVERFIT_OVERRIDES", "{}"))
    return create_app(load(os.environ["EVERFIT_CONFIG"], **overrides))


class Endpoints:
    """One method for each route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._config = service.config

    async def invocations(self, request: Request) -> Response:
        started = time.perf_counter()
        kind = limits.media_type(request)
        if kind not in (protocols.JSON, protocols.CSV):
            raise limits.unsupported(kind, (protocols.JSON, protocols.CSV))
        slot = self._service.slots.get()

        def answer(body: bytes) -> Response:
            rows = protocols.parse(body, kind, self._config.serving.maximum_rows)
            request.state.answer = answer = self._service.score(slot, rows, started)
            return _answered(answer, protocols.render(answer))

        return await self._small_or_large(request, answer)

    async def infer(self, request: Request) -> Response:
        started = time.perf_counter()
        if "inference-header-content-length" in request.headers:
            raise limits.unsupported("binary tensors", (protocols.JSON,))
        kind = limits.media_type(request)
        if kind != protocols.JSON:
            raise limits.unsupported(kind, (protocols.JSON,))
        slot = self._slot(request)

        def answer(body: bytes) -> Response:
            rows, sent = inference_protocol.parse(body, self._config.serving.maximum_rows)
            inference_protocol.check_outputs(sent, slot.classes)
            request.state.answer = answer = self._service.score(slot, rows, started)
            return _answered(answer, inference_protocol.render(answer, sent))

        return await self._small_or_large(request, answer)

    async def _small_or_large(
        self, request: Request, answer: Callable[[bytes], Response]
    ) -> Response:
        body = await limits.read_body(request, self._service.limit)
        if len(body) <= _INLINE_BYTES:
            return answer(body)
        return await self._service.large.run(answer, body)

    async def labels(self, request: Request) -> Response:
        kind = limits.media_type(request)
        if kind != protocols.JSON:
            raise limits.unsupported(kind, (protocols.JSON,))
        body = await limits.read_body(request, self._service.limit)
        status, content = await self._service.labelling.run(self._service.label, body)
        return _json(content, status)

    async def live(self, _request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        slot = self._slot(request)
        return _json({"ready": True, "model_version": slot.release.version})

    async def server(self, _request: Request) -> Response:
        return _json({"name": "everfit", "version": _version(), "extensions": []})

    async def model(self, request: Request) -> Response:
        slot = self._slot(request)
        about = inference_protocol.metadata(slot)
        about["parameters"] = {
            "loaded": slot.loaded.isoformat(),
            "window_id": slot.release.window_id,
            "digest": slot.release.digest,
            "swaps": self._service.slots.swaps,
            "failed": self._service.slots.failure,
        }
        return _json(about)

    async def version(self, _request: Request) -> Response:
        return Response(_version(), media_type="text/plain")

    async def metrics(self, _request: Request) -> Response:
        self._service.metrics.pending(self._service.writer.pending)
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    def _slot(self, request: Request) -> Slot:
        name = request.path_params.get("name", self._config.name)
        if name != self._config.name:
            raise RequestFault(
                404,
                "model",
                f"the model served is {self._config.name}",
                "correct the name in the path",
                received=name,
            )
        return self._service.slots.get(request.path_params.get("version"))


def _answered(answer: Answer, content: bytes) -> Response:
    headers = {"x-model-version": answer.version}
    if len(answer.ids) <= _HEADER_IDS:
        headers["x-prediction-ids"] = ",".join(quote(id_, safe="") for id_ in answer.ids)
    return Response(content, headers=headers, media_type=protocols.JSON)


def _json(content: Any, status: int = 200) -> Response:
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(body, status, media_type=protocols.JSON)


def _version() -> str:
    try:
        return importlib.metadata.version("everfit")
    except importlib.metadata.PackageNotFoundError:  # run from the source tree
        return "0"


def _measured(service: Service, name: str, handler: Handler) -> Handler:
    """`handler` with its faults answered and its time counted."""

    async def measured(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except RequestFault as fault:
            response = Response(
                fault.body(), fault.status, headers=fault.headers, media_type=protocols.JSON
            )
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it; it is counted
        except Exception:
            response = _broken(name)
        answer = getattr(request.state, "answer", None)
        service.answered(name, response.status_code, time.perf_counter() - started, answer)
        return response

    return measured


def _broken(name: str) -> Response:
    """A fault of our own: an id for the log, and nothing else, leaves the server."""
    incident = uuid.uuid4().hex
    log.exception("incident %s at %s", incident, name)
    body = error_body(
        "server",
        "every request is answered, this one failed",
        None,
        "report the incident id to the operator",
        incident=incident,
    )
    return Response(body, 500, media_type=protocols.JSON)


async def _no_such_route(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    if fault.status_code == 405:
        allowed = (fault.headers or {}).get("Allow", "")
        body = error_body("method", f"this path takes {allowed}", request.method, "use it")
    else:
        body = error_body(
            "path", "no such path", request.url.path[:200], "see GET /v2 and the documentation"
        )
    return Response(body, fault.status_code, headers=fault.headers, media_type=protocols.JSON)
