"""MLflow imported ahead of use, for a process that others are forked from. Opens nothing."""

from __future__ import annotations

from models import registry

MODULES = (
    "mlflow",
    "mlflow.artifacts",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)


def load() -> None:
    """Import what the first look into a registry imports, with MLflow's switches set."""
    for module in MODULES:
        registry._load(module)
