"""Structs of names that are known at run time only, such as a model's columns and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


def struct(
    name: str, fields: Mapping[str, Any], *, closed: bool = False
) -> type[msgspec.Struct] | None:
    """A struct that is an object of these names in JSON; `fields` gives their types in order.

    None for names that msgspec refuses: with quotes, backslashes or control characters, or twice
    the same. `closed`: other names are refused when it is read.

    >>> msgspec.json.encode(struct("Row", {"a b": float})(1.5))
    b'{"a b":1.5}'
    >>> struct("Row", {'a"b': float})
    """
    places = {f"f{place}": field for place, field in enumerate(fields)}
    types = list(zip(places, fields.values(), strict=True))
    try:
        return msgspec.defstruct(name, types, rename=places, forbid_unknown_fields=closed, gc=False)
    except ValueError:
        return None
