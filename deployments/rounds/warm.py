"""Importing this imports all that a check needs; the process that others are forked from does it.

No database, no connection and no thread may be opened here: a fork would share them.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil

import monitoring
from deployments import environment

environment.prepare()
# A pool of threads, once made, is not there in the fork; a check's parallelism is over models.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

MODULES = (
    "prefect.artifacts",
    "prefect.client.orchestration",
    "prefect.events.worker",
    "prefect.logging.handlers",
    "prefect.utilities.visualization",
    "flows.reconcile",
    "flows.watch",
    "monitoring.reports.workspace",
    "tasks.approval",
    "sklearn.isotonic",
    "sklearn.linear_model",
    "scipy.stats",
    "pyarrow.parquet",
    "pyarrow.dataset",
)


def imported() -> None:
    from models import registry_warm
    from monitoring.reports import kit

    registry_warm.load()
    kit.load()
    for module in MODULES:
        importlib.import_module(module)
    for module in pkgutil.iter_modules(monitoring.__path__):
        importlib.import_module(f"monitoring.{module.name}")
    gc.collect()
    gc.freeze()  # so that no collection in a fork touches, and thereby copies, what it shares


imported()
