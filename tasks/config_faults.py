"""What is wrong with a config, in a person's words: the place, the rule, the value, the remedy."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
import typing
from collections.abc import Hashable, Iterable
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tasks.engines import hidden

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")

# The beginning of pydantic's error type -> what to do.
_REMEDIES = (
    ("int", "write a whole number"),
    ("float", "write a number"),
    ("bool", "write true or false"),
    ("string_type", "write text, in quotes if it looks like a number"),
    ("string_pattern", "use lower-case letters, digits, - and _, for instance my-model"),
    ("path", "write a path"),
    ("list", "write a list, for instance [a, b]"),
    ("dict", "write `key: value` lines under it"),
    ("model", "write `key: value` lines under it"),
    ("dataclass", "write `key: value` lines under it"),
    ("greater", "choose a value in this range"),
    ("less", "choose a value in this range"),
    ("too_short", "name more"),
    ("too_long", "name fewer"),
    ("timedelta", "write it as 90s, 30m, 6h, 7d or 2w"),
    ("time_delta", "write it as 90s, 30m, 6h, 7d or 2w"),
)


def faults(raw: Any, model: type[BaseModel]) -> list[str]:
    """One line for each fault of `raw` as a `model`; none if it is one.

    A misspelt key hides what else is wrong in its section, as does a duration that cannot be read,
    so the rest is looked at without it.
    """
    lines: list[str] = []
    misspelt: list[tuple[int | str, ...]] = []
    for _ in range(2):
        try:
            model.model_validate(raw)
        except ValidationError as fault:
            errors = [
                error
                for error in fault.errors(include_url=False)
                # an entry of a list may lack just what was misspelt in it
                if not (error["loc"] and isinstance(error["loc"][-1], int))
                or error["loc"] not in [loc[:-1] for loc in misspelt]
            ]
            lines += [line for error in errors for line in _lines(error, model)]
            misspelt = [error["loc"] for error in errors if error["type"] in _UNKNOWN]
            unread = [(*e["loc"], *_parts(key)) for e in errors for key in _durations(e)]
            raw = _without(raw, [*misspelt, *unread])
    return list(dict.fromkeys(lines))  # the branches of a union say the same, as does the 2nd look


def _without(raw: Any, places: list[tuple[int | str, ...]]) -> Any:
    raw = copy.deepcopy(raw)
    for *parents, last in places:
        inner = raw
        for parent in parents:
            inner = inner[parent]
        inner.pop(last, None)
    return raw


def _durations(error: Any) -> dict[str, str]:
    """The keys of a section whose durations cannot be read, each with its fault."""
    found: dict[str, str] = error["ctx"]["keys"] if error["type"] == "durations" else {}
    return found


def _parts(key: str) -> list[int | str]:
    """The place of a key within its section, which may be in an entry of a list.

    >>> _parts("stages.0.minimum")
    ['stages', 0, 'minimum']
    """
    return [int(part) if part.isdigit() else part for part in key.split(".")]


def _lines(error: Any, model: type[BaseModel]) -> list[str]:
    place = ".".join(str(part) for part in error["loc"])
    unread = [f"{place}.{key}: {fault}" for key, fault in _durations(error).items()]
    return unread or [_line(error, model)]


def _line(error: Any, model: type[BaseModel]) -> str:
    loc, kind = error["loc"], error["type"]
    place = ".".join(str(part) for part in loc) or "(top)"
    if kind in _UNKNOWN:
        return f"{place}: there is no such key: {_nearest(str(loc[-1]), _keys(model, loc[:-1]))}"
    if kind in _MISSING:
        return f"{place}: it must be given: add it"
    received = f"got {hidden(repr(error['input'])):.80}"
    if kind == "literal_error":
        allowed = str(error["ctx"]["expected"])
        names = [name.strip("' ") for name in allowed.replace(" or ", ", ").split(",")]
        return (
            f"{place}: it is one of {allowed}, {received}: {_nearest(str(error['input']), names)}"
        )
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error":  # our own validators: the remedy stands in their text
        shown = "" if isinstance(error["input"], dict) or "got " in message else f", {received}"
        rule, colon, remedy = message.partition(": ")
        return f"{place}: {rule}{shown}{colon}{remedy}"
    rule = re.sub(r"^\w+ should", "it must", message).replace(" after validation", "")
    remedy = next((text for begin, text in _REMEDIES if kind.startswith(begin)), "correct it")
    return f"{place}: {rule}, {received}: {remedy}"


def _nearest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"use one of {', '.join(names)}" if names else "remove it"


def _keys(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where `loc` points, walking down from `model`."""
    for part in loc:
        if isinstance(part, int):
            continue
        model = _record(_annotations(model).get(part))
        if model is None:
            return []
    return list(_annotations(model))


def _annotations(model: Any) -> dict[str, Any]:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    hints = typing.get_type_hints(model)
    return {field.name: hints[field.name] for field in dataclasses.fields(model)}


def _record(annotation: Any) -> Any:
    """The model or dataclass inside an annotation such as list[X] or X | None."""
    if isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation) or issubclass(annotation, BaseModel)
    ):
        return annotation
    for inner in typing.get_args(annotation):
        if (found := _record(inner)) is not None:
            return found
    return None


def duplicates_refused() -> type[yaml.SafeLoader]:
    """YAML's safe loader, but a key that stands twice is an error instead of the last one's win."""
    return _Loader


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
