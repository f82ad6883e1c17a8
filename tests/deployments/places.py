"""Where the repository lies, and which environment variables its programs read."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_OF_OTHERS = {  # of the system, of OpenMP, of PostgreSQL's client and of its image
    "DO_NOT_TRACK", "HOME", "MPLCONFIGDIR", "OMP_NUM_THREADS", "PATH", "PGPASSWORD",
    "POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_USER", "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED", "UV_LINK_MODE", "UV_NO_CACHE", "VIRTUAL_ENV",
}  # fmt: skip


def unknown_variables(names: set[str]) -> set[str]:
    """Those that nobody reads: a misspelt one is ignored without a word."""
    left = names - _OF_OTHERS - _ours()
    return {n for n in left if not _is_prefects(n) and not _is_mlflows(n)}


@cache
def _ours() -> set[str]:
    packages = ("deployments", "flows", "tasks", "models", "monitoring")
    text = "\n".join(
        path.read_text(encoding="utf-8") for p in packages for path in (ROOT / p).rglob("*.py")
    )
    return set(re.findall(r"EVERFIT_[A-Z_]+[A-Z]", text))


def _is_prefects(name: str) -> bool:
    import prefect.settings

    return name.startswith("PREFECT_") and hasattr(prefect.settings, name)


def _is_mlflows(name: str) -> bool:
    import mlflow.environment_variables as known

    return name.startswith("MLFLOW_") and hasattr(known, name)
