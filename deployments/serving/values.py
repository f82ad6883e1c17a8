"""The values of one column as they were sent, checked and read: numbers, categories, texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deployments.serving.errors import RequestFault

FLOAT32_MAX = float(np.finfo(np.float32).max)  # models see numbers as float32
NUMBER_TYPES = frozenset((int, float, bool, type(None)))
_CATEGORY_TYPES = NUMBER_TYPES | {str}
_TEXT_TYPES = frozenset((str, type(None)))
MAXIMUM_TEXT = 100_000  # characters of one text, where nobody says otherwise

# What pandas reads as missing in a CSV file, so that both ways of serving a model agree.
_MISSING_TEXT = frozenset(
    [
        *("", "nan", "-nan", "NaN", "-NaN", "n/a", "N/A", "NA", "<NA>", "null", "NULL", "None"),
        *("#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    ]
)


def read_number(name: str, values: Any, as_text: bool) -> tuple[np.ndarray, Sequence[Any]]:
    """One number column as float64 (n,) and as it came."""
    if isinstance(values, np.ndarray):
        array = values.astype(np.float64)
        values = values.tolist()
    else:
        if as_text:
            values = [_number_from_text(name, row, value) for row, value in enumerate(values)]
        if not NUMBER_TYPES.issuperset(map(type, values)):
            _refuse(name, values, lambda v: isinstance(v, int | float | None), "a number or null")
        try:
            array = np.array(values, dtype=np.float64)  # None becomes NaN
        except OverflowError:  # an integer beyond float64
            array = np.array([math.inf if _is_huge(v) else 0.0 for v in values])
    if (np.abs(array) > FLOAT32_MAX).any():
        row = int(np.argmax(np.abs(array) > FLOAT32_MAX))
        raise RequestFault(
            400,
            f"column {name!r}, row {row}",
            f"a number is finite and at most {FLOAT32_MAX:.3g} in size",
            "send null for a missing value",
            received=values[row],
        )
    return array, values


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > FLOAT32_MAX


def _number_from_text(name: str, row: int, value: str) -> float | None:
    value = value.strip()
    if value in _MISSING_TEXT:
        return None
    try:
        return float(value)
    except ValueError:
        if value.lower() in ("true", "false"):
            return float(value.lower() == "true")
        raise RequestFault(
            400,
            f"column {name!r}, row {row}",
            "a number or an empty field is required",
            "correct the value",
            received=value,
        ) from None


def read_category(name: str, values: Any, as_text: bool) -> Sequence[Any]:
    """One category column as it came, None where missing; nothing is infinite."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    elif as_text:
        return [None if value in _MISSING_TEXT else value for value in values]
    types = set(map(type, values))
    if not types <= _CATEGORY_TYPES:
        _refuse(name, values, lambda v: isinstance(v, str | int | float | None), "a text or null")
    if float in types:
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
        if any(isinstance(v, float) and math.isinf(v) for v in values):
            _refuse(name, values, lambda v: v not in (math.inf, -math.inf), "finite or null")
    return values


def read_text(name: str, values: Any, as_text: bool, maximum: int = MAXIMUM_TEXT) -> Sequence[Any]:
    """One text column as it came, None where missing: at most `maximum` characters each.

    Raises RequestFault: 400 for what is no text, 413 for one that is too long; it shows no more of
    a text than its length.
    """
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if as_text:  # of CSV, where pandas reads some words as missing
        values = [None if value in _MISSING_TEXT else value for value in values]
    elif not _TEXT_TYPES.issuperset(map(type, values)):
        values = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
        if not _TEXT_TYPES.issuperset(map(type, values)):
            _refuse(name, values, lambda v: isinstance(v, str | None), "a text or null")
    if max(map(len, filter(None, values)), default=0) > maximum:
        row = next(row for row, value in enumerate(values) if value and len(value) > maximum)
        raise RequestFault(
            413,
            f"column {name!r}, row {row}",
            f"a text has at most {maximum:,} characters",
            "send its beginning, or raise serving.maximum_text",
            received=len(values[row]),
        )
    return values  # type: ignore[no-any-return]


def _refuse(name: str, values: list[Any], fits: Callable[[Any], bool], rule: str) -> None:
    row = next(row for row, value in enumerate(values) if not fits(value))
    raise RequestFault(
        400,
        f"column {name!r}, row {row}",
        f"a value of this column is {rule}",
        "correct the value",
        received=values[row],
    )
