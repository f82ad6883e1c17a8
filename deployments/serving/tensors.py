"""Tensor data of the Open Inference Protocol as bytes: little-endian, row by row, BYTES elements
with their length in four bytes before them.

https://github.com/kserve/open-inference-protocol (binary tensor data extension). HTTP carries these
bytes behind the JSON header, gRPC as `raw_input_contents` and `raw_output_contents`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from deployments.serving.errors import RequestFault

_DTYPES = {
    "BOOL": np.dtype("u1"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES = (*_DTYPES, "BYTES")
_LENGTH = struct.Struct("<I")


def check_datatype(datatype: str, where: str) -> None:
    """Raises RequestFault 400 for a datatype that the protocol doesn't have."""
    if datatype not in DATATYPES:
        raise RequestFault(
            400,
            f"{where}.datatype",
            f"a datatype is one of {', '.join(DATATYPES)}",
            "correct it",
            received=datatype,
        )


def read(datatype: str, data: bytes | memoryview, count: int, where: str) -> Any:
    """`count` elements: a list of text for BYTES, a list of bool for BOOL, otherwise an array.

    Raises RequestFault 400 for another number of bytes than `count` elements take, and for BYTES
    that are no UTF-8.
    """
    check_datatype(datatype, where)
    if datatype == "BYTES":
        return _read_texts(data, count, where)
    dtype = _DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise RequestFault(
            400,
            where,
            f"{count} elements of {datatype} take {count * dtype.itemsize} bytes",
            "correct shape, datatype or data",
            received=len(data),
        )
    array = np.frombuffer(data, dtype)
    if datatype == "BOOL":
        if (array > 1).any():
            row = int(np.argmax(array > 1))
            raise RequestFault(
                400,
                f"{where}[{row}]",
                "an element of a BOOL tensor is the byte 0 or 1",
                "correct the data",
                received=int(array[row]),
            )
        return array.astype(bool).tolist()
    if datatype == "BF16":
        return (array.astype("<u4") << 16).view("<f4")
    return array


def _read_texts(data: bytes | memoryview, count: int, where: str) -> list[str]:
    texts: list[str] = []
    place, size = 0, len(data)
    while place < size and len(texts) < count:
        end = place + 4
        if end <= size:
            end += _LENGTH.unpack_from(data, place)[0]
        else:
            end = size + 1
        if end > size:
            raise RequestFault(
                400,
                f"{where}[{len(texts)}]",
                "a BYTES element is its length in 4 bytes, little-endian, and that many bytes",
                "correct the data",
                received=f"{size - place} bytes left",
            )
        try:
            texts.append(str(data[place + 4 : end], "utf-8"))
        except UnicodeDecodeError:
            raise RequestFault(
                400,
                f"{where}[{len(texts)}]",
                "BYTES elements are text in UTF-8",
                "encode it as UTF-8",
                received=bytes(data[place + 4 : end])[:20].hex(),
            ) from None
        place = end
    if place != size or len(texts) != count:
        raise RequestFault(
            400,
            where,
            f"as many elements as shape says, {count}",
            "correct shape or data",
            received=len(texts) if place == size else "more",
        )
    return texts


def write(datatype: str, values: Sequence[Any] | np.ndarray) -> bytes:
    """The inverse of `read` for the datatypes that answers have.

    >>> write("FP64", [1.0]).hex(), write("BYTES", ["ab"])
    ('000000000000f03f', b'\\x02\\x00\\x00\\x00ab')
    """
    if datatype == "BYTES":
        parts = []
        for value in values:
            text = str(value).encode()
            parts += (_LENGTH.pack(len(text)), text)
        return b"".join(parts)
    return np.ascontiguousarray(values, _DTYPES[datatype]).tobytes()
