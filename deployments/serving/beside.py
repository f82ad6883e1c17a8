"""What runs beside HTTP where the config asks for it: gRPC and OpenTelemetry, each an extra."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deployments.serving.service import Service
from deployments.serving.tracing import Passing, Tracer
from tasks.config import ConfigFault

_GRPC_SECONDS = 5.0  # that running calls have at shutdown


def tracer(service: Service, version: str) -> Tracer:
    """What traces requests. Raises ConfigFault."""
    endpoint = service.config.serving.otel_endpoint
    if endpoint is None:
        return Passing()
    try:
        from deployments.serving.otel import OtelTracer
    except ImportError as fault:
        raise _missing("otel_endpoint", "otel", fault) from None
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
            try:
                from deployments.serving.grpc_server import GrpcServer
            except ImportError as fault:
                raise _missing("grpc_port", "grpc", fault) from None
            server = GrpcServer(service, tracing, version)
            await server.start(service.config.serving.host, port)
            try:
                yield
            finally:
                await server.stop(_GRPC_SECONDS)
        finally:
            tracing.close()


def _missing(setting: str, extra: str, fault: ImportError) -> ConfigFault:
    return ConfigFault(
        f"serving.{setting} needs the extra {extra!r}, got {fault}: install everfit[{extra}], or "
        "remove the setting"
    )
