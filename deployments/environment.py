"""The environment that every process of everfit starts in.

Prefect and MLflow read their settings from the environment when they are imported, and OpenMP
when its first library is loaded. So `prepare` runs before any of them: first thing in the command
line, and first thing in the test suite. What the user has set already always wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Small fits are fastest on one thread each; parallelism runs over trials and workers.
_THREADS = {"OMP_NUM_THREADS": "1"}

_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # a temporary server may need longer than Prefect's own 20 s on a busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # leases kept in memory are lost with the server that held them
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # flow runs would be kept for ever otherwise, 12 KB for a check; decisions are in our own store
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 86_400),
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    # a run of which nothing is heard for a few of these is taken for dead
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",  # the server still keeps all of it
    "PREFECT_CLI_PROMPT": "false",
}

_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its seven job consumers have nothing to do
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # models are saved without pickle
    "GIT_PYTHON_REFRESH": "quiet",  # no git is needed, and none may be there
}

DEFAULTS: Mapping[str, str] = {**_THREADS, **_PREFECT, **_MLFLOW, "MPLBACKEND": "Agg"}


def prepare() -> None:
    """Set what is not set yet. Cheap, and harmless when called twice."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def prefect_home(folder: Path) -> Path:
    """Where the Prefect of one runs folder keeps its database, profile and logs."""
    return folder / "prefect"


def point_prefect_at(api_url: str, home: Path) -> None:
    """Send this process and its children to the server at `api_url`.

    Prefect reads this when it is imported. Raises RuntimeError when that has happened already,
    since the setting would be ignored without a word.
    """
    import sys

    if "prefect.settings" in sys.modules and os.environ.get("PREFECT_API_URL") != api_url:
        raise RuntimeError(
            f"PREFECT_API_URL must be set before prefect is imported, got {api_url} afterwards: "
            "start the server first"
        )
    os.environ["PREFECT_API_URL"] = api_url
    os.environ.setdefault("PREFECT_HOME", str(home))


def child(**extra: str) -> dict[str, str]:
    """The environment of a child process: this one's, the defaults, and `extra` on top."""
    return {**DEFAULTS, **os.environ, **extra}


def messages_over(redis_url: str) -> dict[str, str]:
    """What each of several Prefect API servers on one database is started with besides.

    Events, their order, leases and the turns of its own services then go over one Redis, so that
    what one server hears is acted on once. Needs the extra redis.
    """
    return {
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": redis_url,
        "PREFECT_SERVER_DOCKET_URL": redis_url,
    }
