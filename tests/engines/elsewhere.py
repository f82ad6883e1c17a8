"""Tests that were written for files, taken to another engine."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection
from typing import Any

from _pytest.fixtures import FixtureFunctionDefinition


def taken(
    package: str, modules: Collection[str], needs: Collection[str], without: Collection[str] = ()
) -> dict[str, Any]:
    """The tests of `package`'s `modules` that take one of the fixtures `needs`, with the modules'
    other fixtures, for the globals of a module whose conftest or self gives `needs` anew."""
    found: dict[str, Any] = {}
    for name in modules:
        module = importlib.import_module(f"{package}.{name}")
        for key, value in vars(module).items():
            if isinstance(value, FixtureFunctionDefinition) and key not in needs:
                found[key] = value
            elif (
                key.startswith("test_")
                and inspect.isfunction(value)
                and value.__module__ == module.__name__
                and {*needs} & {*inspect.signature(value).parameters}
                and key not in without
            ):
                found[f"{key}__{name.removeprefix('test_')}"] = value
    return found
