"""Bodies of a form that was seen before: what is the same in all of them is compared, not read.

A client's requests differ in their values alone. Where the text before and after the values is
that of an earlier body, which was read whole, the values are all that is left to read; a JSON value
between the same two texts makes the same whole. Anything else is None: it is read the long way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from deployments.serving.inference_protocol import quickly
from deployments.serving.protocols import Invocation, parse
from deployments.serving.rows import Column, Rows
from deployments.serving.structs import struct

Table = Sequence[Sequence[Any]]  # rows of values

_SPACE = rb"[ \t\r\n]*"
_TEXT = rb'"[^"\\]*"'  # JSON text without escapes


def _pattern(*words: bytes) -> re.Pattern[bytes]:
    return re.compile(_SPACE.join((b"", *words, b"")))


_SPLIT = _pattern(  # no array has a colon in it: behind the bracket it is a key
    rb"\{", rb'"dataframe_split"', rb":", rb"\{", rb'"columns"', rb":", rb"\[[^\]]*\]", rb",",
    rb'"data"', rb":",
)  # fmt: skip
_SPLIT_END = re.compile(_pattern(rb"\}", rb"\}").pattern + rb"\Z")
_LISTED = _pattern(rb"\{", rb'"(?:inputs|instances)"', rb":")
_RECORDS = _pattern(rb"\{", rb'"dataframe_records"', rb":")
_END = re.compile(_pattern(rb"\}").pattern + rb"\Z")
_TENSOR = _pattern(
    rb"\{", rb'"inputs"', rb":", rb"\[", rb"\{", rb'"name"', rb":", _TEXT, rb",",
    rb'"shape"', rb":", rb"\[", rb"([0-9]+)", rb",", rb"([0-9]+)", rb"\]", rb",",
    rb'"datatype"', rb":", rb'"FP(?:16|32|64)"', rb",", rb'"data"', rb":",
)  # fmt: skip
_TENSOR_END = re.compile(_pattern(rb"\}", rb"\]", rb"\}").pattern + rb"\Z")

_FLOATS = frozenset((float, type(None)))
_KINDS: dict[str, Any] = {  # of the values of a column in JSON
    "number": float | int | None,
    "category": float | int | None | str,
    "text": str | None,
}
_MOST = 8  # forms that are remembered
_TRIES = 256  # bodies that are looked at for a form, then no more
_LONGEST_END = 32


class Form(NamedTuple):
    """The text around the values, and what reads these."""

    start: bytes
    end: bytes
    read: Callable[[memoryview], Table | None]


class Found(NamedTuple):
    """Rows of a request that asks for nothing but their answer; `id` is the protocol's own."""

    rows: Rows
    id: str | None = None


class Bodies:
    """Reads the bodies of one protocol for one model: values of rows in the schema's order."""

    def __init__(self, schema: Sequence[Column], maximum_rows: int) -> None:
        self._order = tuple(column.name for column in schema)
        self._plain = all(column.kind == "number" for column in schema)
        self._maximum = maximum_rows
        self._forms: list[Form] = []
        self._tries = _TRIES
        kinds = [_KINDS[column.kind] for column in schema]
        record = struct("Record", dict(zip(self._order, kinds, strict=True)), closed=True)
        self._records = record and msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    def table(self, body: bytes) -> Table | None:
        """The rows of a body whose form is known."""
        for form in self._forms:
            if body.startswith(form.start) and body.endswith(form.end):
                try:
                    found = form.read(memoryview(body)[len(form.start) : -len(form.end)])
                except ValueError:  # of all decoders; what the values are, their checks find out
                    return None
                return found if found and len(found) <= self._maximum else None
        return None

    def whole(self, body: bytes) -> Found | None:
        """The rows of any other body that asks for nothing special. Raises RequestFault."""
        raise NotImplementedError

    def _learn(self, body: bytes, form: Form | None, rows: Rows) -> None:
        """Keep a form if it reads the body that it is taken from."""
        self._tries -= 1
        if form is None:
            return
        self._forms.append(form)
        given = None if rows.positional is None else [list(row) for row in rows.positional]
        found = self.table(body)
        if found is None or [list(row) for row in found] != given:
            self._forms.remove(form)

    @property
    def _curious(self) -> bool:
        return self._tries > 0 and len(self._forms) < _MOST

    def _lists(self, values: memoryview) -> Table | None:
        found = orjson.loads(values)
        width = len(self._order)
        if type(found) is not list or not {list}.issuperset(map(type, found)):
            return None
        return found if {width}.issuperset(map(len, found)) else None

    def _named(self, values: memoryview) -> Table | None:
        if self._records is None:
            return None
        return list(map(msgspec.structs.astuple, self._records.decode(values)))

    def _matrix(self, count: int) -> Callable[[memoryview], Table | None]:
        width = len(self._order)

        def read(values: memoryview) -> Table | None:
            found = orjson.loads(values)
            if type(found) is not list or len(found) != count * width:
                return None
            if not _FLOATS.issuperset(map(type, found)):  # whole numbers are made floats elsewhere
                return None
            return [found[at : at + width] for at in range(0, len(found), width)]

        return read


class Invocations(Bodies):
    """Those of `protocols`: tables with names in the schema's order, records, and lists."""

    def whole(self, body: bytes) -> Found | None:
        rows = parse(body, "application/json", self._maximum)
        if rows.ids is not None or rows.times is not None or rows.positional is None:
            return None
        if self._curious and (rows.names is None or set(rows.names) == set(self._order)):
            self._learn(body, self._form(body), rows)
        return Found(rows)

    def _form(self, body: bytes) -> Form | None:
        for start, end, read in (
            (_SPLIT, _SPLIT_END, self._lists),
            (_LISTED, _END, self._lists),
            (_RECORDS, _END, self._named),
        ):
            first = start.match(body)
            last = end.search(body, max(len(body) - _LONGEST_END, 0))
            if first is None or last is None:
                continue
            if start is _SPLIT:
                head = msgspec.json.decode(first[0] + b"[]" + last[0], type=Invocation)
                split = head.dataframe_split
                if split is None or tuple(split.columns) != self._order:
                    return None  # the same names in another order are read the long way
            return Form(first[0], last[0], read)
        return None


class Inferences(Bodies):
    """Those of `inference_protocol`: one tensor of all columns."""

    def whole(self, body: bytes) -> Found | None:
        found = quickly(body, self._maximum)
        if found is None or found[1].parameters or found[1].outputs:
            return None
        rows, sent = found
        if self._curious and self._plain and rows.names is None and sent.id is None:
            self._learn(body, self._form(body), rows)
        return Found(rows, sent.id)

    def _form(self, body: bytes) -> Form | None:
        first = _TENSOR.match(body)
        last = _TENSOR_END.search(body, max(len(body) - _LONGEST_END, 0))
        if first is None or last is None or int(first[2]) != len(self._order):
            return None
        return Form(first[0], last[0], self._matrix(int(first[1])))
