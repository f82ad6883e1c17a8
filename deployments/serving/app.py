"""The application of one model: its routes.

A route parses, the slot answers, a protocol writes the answer down; what every request goes
through is in `http.Application`. What takes longer runs in threads, so that health checks stay
quick. A new route is a method of `Endpoints` and a line in `routes`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from deployments.serving import (
    beside,
    docs_page,
    hooks,
    inference_about,
    inference_outputs,
    inference_protocol,
    lane,
    limits,
    openapi,
    protocols,
    routing,
)
from deployments.serving.errors import RequestFault
from deployments.serving.hooks import Hooks
from deployments.serving.http import Application, Reply, Request, Route, json_reply
from deployments.serving.metrics import CONTENT_TYPE
from deployments.serving.rows import Rows
from deployments.serving.service import Service
from deployments.serving.slots import Answer, Slot
from deployments.serving.standstill import Standstill
from deployments.serving.supervisor import FOLDER, beat_file
from deployments.serving.tracing import TraceFilter
from deployments.serving.worker import Worker
from tasks.config import Config, load

_INLINE_BYTES = 65_536  # a larger body is worked on in a thread
_HEADER_IDS = 16  # ids that fit into a header; the body has them all

Sent = TypeVar("Sent")  # what a protocol keeps of a request until it is answered


def create_app(config: Config, **options: Any) -> Application:
    """The application for one model; `options` are those of `Service`, found at `state.service`."""
    service = Service(config, **options)
    tracer = beside.tracer(service, _version())
    app = Application(
        Endpoints(service).routes(),
        lifespan=functools.partial(beside.running, service, tracer, _version()),
        observe=service.answered,
        tracer=tracer,
    )
    app.state.service = service
    return app


def from_environment() -> Worker:
    """The application of a worker: the config's path in EVERFIT_CONFIG, overrides as JSON in
    EVERFIT_OVERRIDES (both set by `deployments.serving.run`)."""
    log_to_stderr()
    overrides = json.loads(os.environ.get("EVERFIT_OVERRIDES", "{}"))
    return watched(create_app(load(os.environ["EVERFIT_CONFIG"], **overrides)))


def log_to_stderr() -> None:
    """A worker's own lines: what the process above it has set up for logging goes."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s%(trace)s", force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(TraceFilter())
    logging.getLogger("deployments.serving").setLevel(logging.INFO)  # swaps are worth a line


def watched(app: Application) -> Worker:
    """The application as a worker has it: it ends when it stands still."""
    service: Service = app.state.service
    folder = os.environ.get(FOLDER)
    beat = beat_file(folder, os.getpid()) if folder else None
    standstill = Standstill(service.config.serving.hang_seconds, service.large.oldest, beat)
    return Worker(app, standstill, lane.of(service))


class Endpoints:
    """One method for each route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._config = service.config
        key, folder = hooks.secret(), service.config.folder / "serving"
        self._hooks = Hooks(key, self._config.name, lambda: hooks.call(folder)) if key else None

    def routes(self) -> list[Route]:
        """Method, path, handler, and the name it is counted under."""
        model = "/v2/models/{name}"
        version = model + "/versions/{version}"
        return [
            Route("POST", "/invocations", self.invocations, "invocations"),
            Route("POST", f"{model}/infer", self.infer, "infer"),
            Route("POST", f"{version}/infer", self.infer, "infer"),
            Route("POST", "/labels", self.labels, "labels"),
            Route("GET", "/ping", self.ready, "ready"),
            Route("GET", "/health", self.ready, "ready"),  # MLflow's other name for it
            Route("GET", "/openapi.json", self.description, "openapi"),
            Route("GET", "/docs", self.page, "docs"),
            Route("GET", "/version", self.version, "version"),
            Route("GET", "/metrics", self.metrics, "metrics"),
            Route("GET", "/v2", self.server, "server"),
            Route("GET", "/v2/", self.server, "server"),  # so the specification writes it
            Route("GET", "/v2/health/live", self.live, "live"),
            Route("GET", "/v2/health/ready", self.ready, "ready"),
            Route("GET", model, self.model, "model"),
            Route("GET", f"{model}/ready", self.ready, "ready"),
            Route("GET", version, self.model, "model"),
            Route("GET", f"{version}/ready", self.ready, "ready"),
            Route("GET", f"{model}/config", self.configuration, "config"),
            Route("GET", f"{version}/config", self.configuration, "config"),
            Route("POST", "/v2/repository/index", self.index, "index"),
            *([Route("POST", hooks.PATH, self.hook, "hook")] if self._hooks else []),
        ]

    async def hook(self, request: Request) -> Reply:
        assert self._hooks is not None
        return json_reply(self._hooks.receive(request.headers, await request.body(hooks.LIMIT)))

    async def invocations(self, request: Request) -> Reply:
        started = time.perf_counter()
        kind = limits.media_type(request)
        if kind not in (protocols.JSON, protocols.CSV):
            raise limits.unsupported(kind, (protocols.JSON, protocols.CSV))
        slot = self._service.slots.get()

        def parse(body: bytes) -> tuple[Rows, None]:
            return protocols.parse(body, kind, self._config.serving.maximum_rows), None

        def render(answer: Answer, _sent: None) -> Reply:
            return _answered(answer, protocols.render(answer))

        return await self._scored(request, slot, started, parse, render)

    async def infer(self, request: Request) -> Reply:
        started = time.perf_counter()
        header = request.headers.get(inference_protocol.HEADER)
        kind = limits.media_type(request)
        allowed = (protocols.JSON,)
        if header is not None:
            allowed += (inference_protocol.BINARY,)
        if kind not in allowed:
            raise limits.unsupported(kind, allowed)
        slot = self._slot(request)

        def parse(body: bytes) -> tuple[Rows, inference_protocol.Inference]:
            found = inference_protocol.parse(body, self._config.serving.maximum_rows, header)
            inference_outputs.check_outputs(found[1], slot.classes)
            return found

        def render(answer: Answer, sent: inference_protocol.Inference) -> Reply:
            return _answered(answer, *inference_outputs.render(answer, sent))

        return await self._scored(request, slot, started, parse, render)

    async def _scored(
        self,
        request: Request,
        slot: Slot,
        started: float,
        parse: Callable[[bytes], tuple[Rows, Sent]],
        render: Callable[[Answer, Sent], Reply],
    ) -> Reply:
        """Rows in, an answer out: small bodies here, together with others; large ones apart."""
        service = self._service
        with service.gate:
            body = await service.reading.body(request, service.limit)
            if len(body) <= _INLINE_BYTES:
                rows, sent = parse(body)
                asked, pinned = self._asked(request, slot, rows)
                answer = await service.answer(asked, rows, started, pinned=pinned)
                request.answer = answer
                return render(answer, sent)

            def whole() -> Reply:
                rows, sent = parse(body)
                asked, pinned = self._asked(request, slot, rows)
                request.answer = answer = service.score(asked, rows, started, pinned=pinned)
                return render(answer, sent)

            return await service.large.run(whole)

    def _asked(self, request: Request, slot: Slot, rows: Rows) -> tuple[Slot, bool]:
        """Who answers, and whether it must be that one: of callers that name no version, a share
        goes to a canary."""
        if "version" in request.params:
            return slot, True
        return self._service.routed(slot, rows, request.headers.get(routing.HEADER)), False

    async def labels(self, request: Request) -> Reply:
        kind = limits.media_type(request)
        if kind != protocols.JSON:
            raise limits.unsupported(kind, (protocols.JSON,))
        body = await self._service.reading.body(request, self._service.limit)
        status, content = await self._service.labelling.run(self._service.label, body)
        return json_reply(content, status)

    async def live(self, _request: Request) -> Reply:
        return json_reply({"live": True})

    async def ready(self, request: Request) -> Reply:
        slot = self._slot(request)
        return json_reply({"ready": True, "model_version": slot.release.version})

    async def server(self, _request: Request) -> Reply:
        extensions = inference_about.EXTENSIONS
        return json_reply({"name": "everfit", "version": _version(), "extensions": extensions})

    async def model(self, request: Request) -> Reply:
        slot = self._slot(request)
        about = inference_about.metadata(slot)
        about["parameters"] = {
            "loaded": slot.loaded.isoformat(),
            "window_id": slot.release.window_id,
            "digest": slot.release.digest,
            "runtime": slot.runtime,
            "runtime_reason": slot.runtime_reason,
            "swaps": self._service.slots.swaps,
            "beside": self._service.slots.told(),
            "failed": self._service.slots.failure,
        }
        return json_reply(about)

    async def configuration(self, request: Request) -> Reply:
        return json_reply(inference_about.configuration(self._slot(request)))

    async def index(self, _request: Request) -> Reply:
        slot = self._service.slots.current
        return json_reply(inference_about.index(slot, self._config.name))

    async def description(self, _request: Request) -> Reply:
        return json_reply(self._described())

    async def page(self, _request: Request) -> Reply:
        headers = [("content-type", "text/html; charset=utf-8")]
        return Reply(200, headers, docs_page.render(self._described()))

    def _described(self) -> dict[str, Any]:
        return openapi.describe(self._config, self._service.slots.current, _version())

    async def version(self, _request: Request) -> Reply:
        return Reply(200, [("content-type", "text/plain; charset=utf-8")], _version().encode())

    async def metrics(self, _request: Request) -> Reply:
        return Reply(200, [("content-type", CONTENT_TYPE)], self._service.figures())

    def _slot(self, request: Request) -> Slot:
        name = request.params.get("name", self._config.name)
        if name != self._config.name:
            raise RequestFault(
                404,
                "model",
                f"the model served is {self._config.name}",
                "correct the name in the path",
                received=name,
            )
        return self._service.slots.get(request.params.get("version"))


def _answered(answer: Answer, content: bytes, json_bytes: int | None = None) -> Reply:
    """`json_bytes`: how many bytes of `content` are JSON, where tensors follow it."""
    headers = [
        ("content-type", protocols.JSON if json_bytes is None else inference_protocol.BINARY),
        ("x-model-version", answer.version),
    ]
    if len(answer.ids) <= _HEADER_IDS:
        headers.append(("x-prediction-ids", ",".join(map(_quoted, answer.ids))))
    if json_bytes is not None:
        headers.append((inference_protocol.HEADER, str(json_bytes)))
    return Reply(200, headers, content)


def _quoted(id_: str) -> str:
    plain = id_.isascii() and id_.isalnum()  # our own are
    return id_ if plain else quote(id_, safe="")


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("everfit")
    except importlib.metadata.PackageNotFoundError:  # run from the source tree
        return "0"
