"""The telemetry store's own tests, on PostgreSQL: each that takes a `store` or a `store_url`."""

from __future__ import annotations

import importlib
import inspect

from _pytest.fixtures import FixtureFunctionDefinition

MODULES = (
    "test_claims",
    "test_labels",
    "test_migrations",
    "test_notices",
    "test_recordings",
    "test_request_counts",
    "test_retention",
    "test_rollout",
    "test_shadows",
    "test_storage",
    "test_telemetry",
)


def _wanted(value: object) -> bool:
    return callable(value) and bool({"store", "store_url"} & {*inspect.signature(value).parameters})


for _name in MODULES:
    try:
        _module = importlib.import_module(f"tests.monitoring.{_name}")
    except ModuleNotFoundError as fault:
        if fault.name != f"tests.monitoring.{_name}":
            raise
        continue
    for _test, _value in vars(_module).items():
        if _test.startswith("test_") and inspect.isfunction(_value) and _wanted(_value):
            globals()[f"{_test}__{_name.removeprefix('test_')}"] = _value
        elif isinstance(_value, FixtureFunctionDefinition):
            globals()[_test] = _value
