"""Import in one thread what fits import where they need it.

A process that never fits starts fast, since fits import the large packages themselves. Two threads
that do it at the same time can find each other's modules half imported (scikit-learn's `cannot
import name 'clone' from partially initialized module`), and then a trial fails that has no fault.
Whoever starts trials on threads calls `ready` first.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping

NEEDS: Mapping[str, tuple[str, ...]] = {
    "logistic": ("sklearn.linear_model", "scipy.sparse"),
    "hgb": ("sklearn.ensemble",),
    "forest": ("sklearn.ensemble", "scipy.sparse"),
    "mlp": ("models.families.network", "torch._dynamo"),  # an optimiser imports it when it begins
    "tfidf": ("sklearn.linear_model", "scipy.sparse"),
    "textnet": ("models.families.text_training", "torch._dynamo"),
    "sentence": ("sklearn.linear_model", "scipy.sparse", "onnxruntime"),
    "custom": ("sklearn.pipeline", "sklearn.linear_model", "sklearn.ensemble"),
}
ADAPTING = ("sklearn.linear_model", "sklearn.metrics")
SERVED = ("skops.io",)  # where a trial is measured in the form that is served


def ready(names: Collection[str], *, adapt: bool = False, served: bool = False) -> None:
    """Import what fits of the families need; of a name that is unknown, nothing."""
    wanted = [module for name in names for module in NEEDS.get(name, ())]
    for module in (*wanted, *(ADAPTING if adapt else ()), *(SERVED if served else ())):
        importlib.import_module(module)
