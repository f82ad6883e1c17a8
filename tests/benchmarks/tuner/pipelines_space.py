"""The pipelines' space: ten families, the preprocessing that helps them, and their own parameters.

What an engineer who tries the families of scikit-learn on a table would search. Numbers are ordinal
values on the grids that are usual for them (most are even on a log scale), so that every
configuration can be fitted beforehand and a search can be replayed exactly.

>>> SPACE.size()
3650.0
"""

from __future__ import annotations

from models.space import Categorical, Ordinal, Parameter, Space

SCALED = ("logistic", "svm", "knn", "mlp", "bayes")  # families to which the scale of inputs matters
SELECTED = (*SCALED, "tree")  # those that are not better off with every column as it is
FAMILIES = (*SELECTED, "forest", "extra", "boosting", "lda")

_GRIDS: dict[str, dict[str, tuple[float, ...] | tuple[str, ...]]] = {
    "logistic": {
        "c": (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0),
        "weight": ("none", "balanced"),
    },
    "svm": {
        "c": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        "gamma": (1e-3, 3e-3, 0.01, 0.03, 0.1),
    },
    "knn": {
        "k": (1, 2, 3, 5, 8, 12, 20, 30, 50, 80),
        "weight": ("uniform", "distance"),
        "p": (1, 2),
    },
    "mlp": {
        "hidden": (16, 64),
        "rate": (1e-3, 3e-3, 0.01),
        "epochs": (4, 8, 16, 32, 64),
    },
    "bayes": {"smoothing": (1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)},
    "tree": {
        "depth": (2, 3, 4, 6, 8, 12, 20),
        "leaf": (1, 2, 4, 8, 16, 32),
        "criterion": ("gini", "entropy"),
    },
    "forest": {
        "trees": (12, 25, 50, 100, 200),
        "features": (0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
        "leaf": (1, 2, 4, 8, 16),
    },
    "extra": {
        "trees": (12, 25, 50, 100, 200),
        "features": (0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
        "leaf": (1, 2, 4, 8, 16),
    },
    "boosting": {
        "rate": (0.01, 0.03, 0.06, 0.12, 0.25, 0.5),
        "leaves": (4, 8, 16, 31),
        "leaf": (3, 10, 30),
        "iterations": (10, 20, 40, 80, 160),
    },
    "lda": {"shrinkage": (0.0, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)},
}
_CHOICES = ("weight", "criterion")


def own(family: str) -> tuple[Parameter, ...]:
    """A family's own parameters, called 'family_name', active with the family."""
    when = ("family", family)
    return tuple(
        Categorical(f"{family}_{name}", values, when)
        if name in _CHOICES
        else Ordinal(f"{family}_{name}", values, when)
        for name, values in _GRIDS[family].items()
    )


def space() -> Space:
    """Family, scale, selection with its share, then every family's own."""
    return Space(
        (
            Categorical("family", FAMILIES),
            Categorical("scale", ("none", "standard", "robust", "quantile"), ("family", SCALED)),
            Categorical("select", ("none", "pca", "kbest"), ("family", SELECTED)),
            Ordinal("pca_share", (0.7, 0.99), ("select", "pca")),
            Ordinal("kbest_share", (0.35, 0.7), ("select", "kbest")),
            *(parameter for family in FAMILIES for parameter in own(family)),
        )
    )


SPACE = space()
