"""What runs beside HTTP where the config asks for it: gRPC and OpenTelemetry, each an extra."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deployments.serving.tracing import Passing, Tracer
from tasks.config import Config, ConfigFault

if TYPE_CHECKING:
    from deployments.serving.service import Service

_EXTRAS = (  # setting, extra, and a module of it
    ("grpc_port", "grpc", "grpc"),
    ("otel_endpoint", "otel", "opentelemetry.exporter.otlp.proto.http"),
)
_GRPC_SECONDS = 5.0  # that running calls have at shutdown


def require(config: Config) -> None:
    """Raises ConfigFault when a setting asks for an extra that isn't installed."""
    for setting, extra, module in _EXTRAS:
        if getattr(config.serving, setting) is None:
            continue
        try:
            there = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # not even the package that it is in
            there = False
        if not there:
            raise ConfigFault(
                f"serving.{setting} needs the extra {extra!r}, which isn't installed: install "
                f"everfit[{extra}], or remove the setting"
            )


def tracer(service: Service, version: str) -> Tracer:
    """What traces requests. Raises ConfigFault."""
    endpoint = service.config.serving.otel_endpoint
    if endpoint is None:
        return Passing()
    require(service.config)
    from deployments.serving.otel import OtelTracer

    return OtelTracer(endpoint, service.config.name, version)


@asynccontextmanager
async def running(service: Service, tracing: Tracer, version: str) -> AsyncIterator[None]:
    """The service, and gRPC where it has a port. Raises ConfigFault."""
    port = service.config.serving.grpc_port
    async with service.running():
        try:
            if port is None:
                yield
                return
            require(service.config)
            from deployments.serving.grpc_server import GrpcServer

            server = GrpcServer(service, tracing, version)
            await server.start(service.config.serving.host, port)
            try:
                yield
            finally:
                await server.stop(_GRPC_SECONDS)
        finally:
            tracing.close()
