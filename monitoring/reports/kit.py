"""What is used of Evidently: its test of one column, and its report of all of them.

Evidently picks its tests by the size of the reference and, left to that, calls small windows
drifted that are not. Here they are fixed: Kolmogorov-Smirnov for numbers, chi-square of homogeneity
for categories (its own takes the reference's shares as exact, which they are not).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.reports.columns import Checked

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

METHODS = {"number": "ks", "category": "homogeneity"}  # by their names in Evidently


def p_values(
    before: pd.DataFrame, after: pd.DataFrame, tested: Sequence[Checked], corrected: float
) -> dict[str, float]:
    """Every column by Evidently's own test objects: what a report says, without its drawings."""
    with quiet():
        kit = _evidently()
        return {
            c.name: float(
                kit.tests[c.kind](
                    reference_data=before[c.name].dropna(),
                    current_data=after[c.name].dropna(),
                    feature_type=kit.types[c.kind],
                    threshold=corrected,
                ).drift_score
            )
            for c in tested
        }


def draw(
    before: pd.DataFrame,
    after: pd.DataFrame,
    drawn: Sequence[Checked],
    corrected: float,
    share: float,
    *,
    at: datetime | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    metadata: dict[str, str] | None = None,
) -> Any:
    """Evidently's report of the same tests on the same rows, as a snapshot."""
    with quiet():
        kit = _evidently()
        names = [c.name for c in drawn]
        definition = kit.DataDefinition(
            numerical_columns=[c.name for c in drawn if c.kind == "number"],
            categorical_columns=[c.name for c in drawn if c.kind == "category"],
        )
        chosen: dict[str, Any] = {
            "num_method": METHODS["number"],
            "cat_method": METHODS["category"],
            "num_threshold": corrected,
            "cat_threshold": corrected,
        }
        metrics = [
            kit.DriftedColumnsCount(columns=names, drift_share=share, **chosen),
            *(
                kit.ValueDrift(column=c.name, method=METHODS[c.kind], threshold=corrected)
                for c in drawn
            ),
        ]
        return kit.Report(metrics, include_tests=True).run(
            kit.Dataset.from_pandas(after[names], data_definition=definition),
            kit.Dataset.from_pandas(before[names], data_definition=definition),
            timestamp=at,
            name=name,
            tags=list(tags),
            metadata=dict(metadata or {}),
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Evidently's warnings about its own future, and scipy's note that an exact p was not had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation", RuntimeWarning)
        # Evidently also correlates the columns, and a window may hold a constant one
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
        yield


def load() -> None:
    """Import what the first report imports: for a process that others are forked from."""
    _evidently()


@cache
def _evidently() -> SimpleNamespace:
    """What is used of Evidently, with our test of categories known to it; takes seconds, once."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.legacy.calculations.stattests import StatTest, ks_stat_test, register_stattest
    from evidently.legacy.core import ColumnType
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    test = StatTest(
        name=METHODS["category"],
        display_name="chi-square of homogeneity p_value",
        allowed_feature_types=[ColumnType.Categorical],
    )
    register_stattest(test, default_impl=_homogeneity)
    return SimpleNamespace(
        DataDefinition=DataDefinition,
        Dataset=Dataset,
        DriftedColumnsCount=DriftedColumnsCount,
        Report=Report,
        ValueDrift=ValueDrift,
        tests={"number": ks_stat_test, "category": test},
        types={"number": ColumnType.Numerical, "category": ColumnType.Categorical},
    )


def _homogeneity(
    before: pd.Series, after: pd.Series, _feature_type: Any, threshold: float
) -> tuple[float, bool]:
    """Pearson's chi-square of both samples having the same shares: (p-value, drifted)."""
    from scipy.stats import chi2_contingency

    old, new = before.value_counts(), after.value_counts()
    levels = old.index.union(new.index)
    if len(levels) < 2:
        return 1.0, False
    table = np.stack([s.reindex(levels, fill_value=0).to_numpy() for s in (old, new)])
    p_value = float(chi2_contingency(table, correction=False)[1])
    return p_value, p_value <= threshold
