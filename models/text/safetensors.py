"""Reading a .safetensors file: a header in JSON and raw arrays, mapped and never unpickled.

The format: 8 bytes, the header's length (little endian); the header, name -> dtype, shape and
[begin, end) in the rest; the rest.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleFault

_KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
_LONGEST = 2**24  # bytes of a header


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of floats by name, as float32; those that are such are views of the mapped file.

    Raises BundleFault for a file that is none.
    """
    try:
        whole = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(whole[:8].tobytes(), "little")
        if not 2 <= length <= min(_LONGEST, len(whole) - 8):
            raise ValueError(f"a header of {length:,} bytes in {len(whole):,}")
        header = json.loads(whole[8 : 8 + length].tobytes())
        body, found = whole[8 + length :], {}
        for name, note in header.items():
            if name == "__metadata__" or note["dtype"].startswith("I"):
                continue
            kind, shape = np.dtype(_KINDS[note["dtype"]]), tuple(map(int, note["shape"]))
            begin, end = map(int, note["data_offsets"])
            if not (
                0 <= begin <= end <= len(body) and end - begin == math.prod(shape) * kind.itemsize
            ):
                raise ValueError(f"{name} of {shape} lies at {begin} to {end} of {len(body)}")
            array = np.asarray(body[begin:end]).view(kind).reshape(shape)
            found[name] = array.astype(np.float32, copy=False)
        return found
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as fault:
        raise BundleFault(
            f"{path} is no readable safetensors file: {type(fault).__name__}: {fault}: get it anew"
        ) from fault
