"""Reading a request's body within its limit, and decoding it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from deployments.serving.errors import RequestFault

T = TypeVar("T")

# A refused body is thrown away as it comes, so that a client that sends before it reads gets the
# answer instead of a broken connection; but only so much of it and for so long.
_DRAIN_BYTES = 32 * 2**20
_DRAIN_SECONDS = 1.0


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    Raises RequestFault 413 as soon as more is announced or has come; no more than `limit` bytes are
    ever held. Raises 400 for an empty body.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        await _drain(request)
        raise _too_large(limit, int(announced))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            chunks.clear()
            await _drain(request)
            raise _too_large(limit, size)
        chunks.append(chunk)
    body = b"".join(chunks)
    if not body.strip():
        raise RequestFault(400, "body", "a body is required", "send rows", received="")
    return body


async def _drain(request: Request) -> None:
    if request.headers.get("expect"):  # the client waits for our word before it sends
        return
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except (TimeoutError, ClientDisconnect):
        return


def _too_large(limit: int, size: int) -> RequestFault:
    return RequestFault(
        413,
        "body",
        f"a body holds at most {limit} bytes",
        "send fewer rows in a request, or raise serving.maximum_body_mb",
        received=size,
        headers={"connection": "close"},
    )


def check_rows(count: int, limit: int) -> None:
    """Raises RequestFault: 413 for more than `limit` rows, 400 for none."""
    if count > limit:
        raise RequestFault(
            413,
            "rows",
            f"a request holds at most {limit} rows",
            "split it into several requests, or raise serving.maximum_rows",
            received=count,
        )
    if count == 0:
        raise RequestFault(400, "rows", "at least one row is required", "send rows", received=0)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type; `NaN` and `Infinity` are read as Python's json writes them.

    Raises RequestFault 400: malformed JSON, nesting too deep, a value of the wrong type (with its
    path).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise _wrong_shape(fault) from None
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        if not any(token in body for token in (b"NaN", b"Infinity")):
            raise _malformed(fault) from None
    # pandas and Python's json write a missing number as NaN, which is not JSON: read it slowly
    try:
        loaded = json.loads(body)
        json.dumps(loaded, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return msgspec.convert(loaded, decoder.type)
    except msgspec.ValidationError as fault:
        raise _wrong_shape(fault) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as fault:
        raise _malformed(fault) from None


def _wrong_shape(fault: msgspec.ValidationError) -> RequestFault:
    rule, _, path = str(fault).partition(" - at `")
    field = path.rstrip("`").removeprefix("$").lstrip(".") or "body"
    return RequestFault(400, field, rule, "correct its type or name")


def _malformed(fault: Exception) -> RequestFault:
    place = re.search(r"byte (\d+)|char (\d+)", str(fault))
    where = f"byte {place[1] or place[2]}" if place else None
    return RequestFault(
        400, "body", "the body is one JSON object", "send valid UTF-8 JSON", received=where
    )


def _too_deep() -> RequestFault:
    return RequestFault(400, "body", "nesting this deep is refused", "send flat rows of scalars")


def media_type(request: Request) -> str:
    """The content type without its parameters; JSON when none is given.

    Raises RequestFault 415 for a charset other than UTF-8.
    """
    header = request.headers.get("content-type") or "application/json"
    kind, _, parameters = header.partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise RequestFault(
            415, "content-type", "the charset is UTF-8", "encode as UTF-8", received=charset[1]
        )
    return kind.strip().lower()


def unsupported(kind: str, allowed: tuple[str, ...]) -> RequestFault:
    """The 415 for a content type that an endpoint does not read."""
    return RequestFault(
        415,
        "content-type",
        f"the content type is {' or '.join(allowed)}",
        "set the header to what is sent",
        received=kind,
    )


def as_list(value: Any, field: str) -> list[Any]:
    """`value` if it is a list. Raises RequestFault 400 that names the field."""
    if not isinstance(value, list):
        raise RequestFault(400, field, "must be a list", "send a list", received=value)
    return value
