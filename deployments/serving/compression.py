"""Compressed request bodies: gzip and deflate, as Content-Encoding names them."""

from __future__ import annotations

import zlib

from deployments.serving.errors import RequestFault

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before it was compressed; no more than `limit` bytes are ever made of it.

    Raises RequestFault: 415 for another encoding, 413 for a body that grows beyond `limit`, 400 for
    one that is damaged or has anything after its end.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    window = _WINDOWS.get(name)
    if window is None:
        raise RequestFault(
            415,
            "content-encoding",
            f"a body is sent as it is, or as {' or '.join(_WINDOWS)}",
            "send it uncompressed",
            received=encoding,
        )
    stream = zlib.decompressobj(window)
    try:
        whole = stream.decompress(body, limit)
        if not stream.eof:  # an end that was exactly at the limit is found by asking for one more
            whole += stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error:
        raise _damaged(name) from None
    if len(whole) > limit:
        raise RequestFault(
            413,
            "body",
            f"a body holds at most {limit} bytes, uncompressed",
            "send fewer rows in a request, or raise serving.maximum_body_mb",
        )
    if not stream.eof or stream.unused_data:
        raise _damaged(name)
    return whole


def _damaged(name: str) -> RequestFault:
    return RequestFault(
        400, "body", f"the body is one whole {name} stream", "compress it again, or not at all"
    )
