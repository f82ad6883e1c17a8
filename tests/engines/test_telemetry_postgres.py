"""The telemetry store's own tests, on PostgreSQL: each that takes a `store` or a `store_url`."""

from __future__ import annotations

from tests.engines.elsewhere import taken

MODULES = (
    "test_claims",
    "test_migrations",
    "test_recordings",
    "test_request_counts",
    "test_retention",
    "test_shadows",
    "test_storage",
    "test_telemetry",
)

globals().update(taken("tests.monitoring", MODULES, ("store", "store_url")))
