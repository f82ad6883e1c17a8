"""What a request may be: its body, its size and its kind."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from deployments.serving.compression import decompress
from deployments.serving.errors import RequestFault
from deployments.serving.http import Request

T = TypeVar("T")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    A compressed one is given as it was before, within the same limit. Raises RequestFault 413 as
    soon as more is announced or has come, and 400 for an empty body.
    """
    body = await request.body(limit)
    encoding = request.headers.get("content-encoding")
    if encoding is not None:
        body = decompress(body, encoding, limit)
    if not body or body.isspace():
        raise RequestFault(400, "body", "a body is required", "send rows", received="")
    return body


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
    if header == "application/json":
        return header
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
