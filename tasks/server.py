"""What the inference server says of itself."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from tasks.config import Config


@dataclass(frozen=True, slots=True)
class Served:
    """`version` is the one that answers now; `failed` the last one that could not be loaded."""

    running: bool
    version: str | None = None
    failed: str | None = None
    reason: str = ""


@cache
def _context() -> ssl.SSLContext:
    """Made once: reading the machine's certificates takes 30 ms, and the question 1 ms."""
    return ssl.create_default_context()


def served(config: Config, timeout: float = 2.0) -> Served:
    """Ask the server of this config; none there, or another model there, is said so."""
    try:
        answer = httpx.get(
            f"{config.server_url}/v2/models/{config.name}", timeout=timeout, verify=_context()
        )
    except httpx.TransportError:
        return Served(running=False, reason=f"no server answers at {config.server_url}")
    if answer.status_code == 404:
        return Served(
            running=False,
            reason=f"the server at {config.server_url} serves another model than {config.name}",
        )
    try:
        body = answer.json()
    except ValueError:
        return Served(running=False, reason=f"{config.server_url} is not an everfit server")
    versions = body.get("versions") or []
    failed = (body.get("parameters") or {}).get("failed") or {}
    return Served(
        running=True,
        version=str(versions[0]) if versions else None,
        failed=failed.get("version"),
        reason=failed.get("reason", ""),
    )
