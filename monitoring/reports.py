"""Evidently's report on every column by itself, with tests that do not change with the sample.

Evidently picks its tests by the size of the reference and, left to that, calls small windows
drifted that are not. Here the tests are fixed: Kolmogorov-Smirnov for numbers, chi-square of
homogeneity for categories (its own takes the reference's shares as exact, which they are not), and
Fisher's exact test of the share of missing values. Their level is divided by the number of tests
(Bonferroni), and rare categories are counted together so that chi-square holds its level.

The schema is checked first. Anything that Evidently cannot read gives a signal that says so, never
'no drift'. This is the one module that imports evidently, and only when a report is drawn.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.embedding import numbers, texts
from monitoring.records import Kind, Signal

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

_METHODS = {"number": "ks", "category": "homogeneity"}  # by their names in Evidently
_EXPECTED = 5.0  # least expected count of a category on the smaller side
_RARE = "(rare)"


@dataclass(frozen=True, slots=True)
class _Column:
    """One column made ready: `tested` when both sides have values to compare."""

    name: str
    kind: str
    tested: bool
    missing: tuple[float, float]  # share of the reference's rows, of the current rows
    missing_p: float | None  # None where no value is missing on either side


def drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    share: float = 0.3,
    html: Path | None = None,
    minimum_rows: int = 200,
    level: float = 0.01,
    always_html: bool = False,
) -> Signal:
    """Share of `columns` (name -> 'number' or 'category') that drifted, breached from `share` on.

    `level` bounds the chance that any column at all is called drifted where nothing moved. `html`
    is written when the signal is breached, or always if `always_html`. Columns of the rows that
    `columns` does not name are not looked at. A column with no value on either side is passed over;
    one that has become empty, or has ceased to be, counts by its missing values.
    """
    threshold = f"drifted share >= {share:g}"

    def silent(reason: str, **detail: Any) -> Signal:
        return Signal(
            "evidently",
            Kind.DRIFT,
            None,
            threshold=threshold,
            rows=len(current),
            reason=reason,
            detail=detail,
        )

    fault = _schema_fault(reference, current, columns, minimum_rows)
    if fault:
        return silent(fault)
    before, after, checked = _prepare(reference, current, columns)
    tests = sum(c.tested for c in checked) + sum(c.missing_p is not None for c in checked)
    if not tests:
        return silent("no column has a value in the reference or in the window")
    corrected = level / tests
    tested = [c for c in checked if c.tested]
    try:
        p_values = _p_values(before, after, tested, corrected)
    except Exception as error:
        _log.exception("Evidently could not compare %s columns", len(tested))
        return silent(f"Evidently failed: {type(error).__name__}: {error}")
    unknown = [c.name for c in tested if not np.isfinite(p_values.get(c.name, np.nan))]
    if unknown:
        return silent(f"Evidently gave no p-value for {unknown}", unknown=unknown)
    details = {c.name: _detail(c, p_values.get(c.name), corrected) for c in checked}
    drifted = [name for name, found in details.items() if found["drifted"]]
    value = len(drifted) / len(columns)
    breached = value >= share
    detail: dict[str, Any] = {
        "drifted": drifted,
        "columns": details,
        "level": level,
        "corrected": corrected,
        "reference_rows": len(reference),
    }
    if html is not None and tested and (breached or always_html):
        detail |= _write(html, before, after, tested, corrected, share)
    return Signal(
        "evidently",
        Kind.DRIFT,
        breached,
        value=value,
        threshold=threshold,
        rows=len(current),
        detail=detail,
    )


def _schema_fault(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Mapping[str, str], minimum_rows: int
) -> str:
    if not columns:
        return "no column is named to be watched"
    wrong = {name: kind for name, kind in columns.items() if kind not in ("number", "category")}
    if wrong:
        return f"a column is a 'number' or a 'category', got {wrong}"
    for name, frame in (("current", current), ("reference", reference)):
        if len(frame) < max(minimum_rows, 2):
            return f"{len(frame):,} {name} rows; at least {max(minimum_rows, 2):,} are needed"
        missing = [column for column in columns if column not in frame]
        if missing:
            return f"the {name} rows lack {missing}: they were not recorded, or are named otherwise"
        doubled = [column for column in columns if (frame.columns == column).sum() > 1]
        if doubled:
            return f"the {name} rows have {doubled} more than once"
    return ""


def _prepare(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[_Column]]:
    """Both frames with clean columns (finite float64, text, NaN for missing) and what they hold."""
    import pandas as pd
    from scipy.stats import fisher_exact

    before, after, checked = {}, {}, []
    for name, kind in columns.items():
        if kind == "number":
            sides = [numbers(frame[name]) for frame in (reference, current)]
            old, new = (pd.Series(np.where(np.isfinite(v), v, np.nan)) for v in sides)
        else:
            old, new = (texts(frame[name]).reset_index(drop=True) for frame in (reference, current))
            old, new = _lump(old, new)
        gaps = (int(old.isna().sum()), int(new.isna().sum()))
        missing_p = None
        if any(gaps):
            table = [[gaps[0], len(old) - gaps[0]], [gaps[1], len(new) - gaps[1]]]
            missing_p = float(fisher_exact(table)[1])
        tested = gaps[0] < len(old) and gaps[1] < len(new)
        shares = (gaps[0] / len(old), gaps[1] / len(new))
        if not tested and gaps == (len(old), len(new)):
            missing_p = None  # no value on either side: nothing to say
        checked.append(_Column(name, kind, tested, shares, missing_p))
        before[name], after[name] = old, new
    return pd.DataFrame(before), pd.DataFrame(after), checked


def _lump(old: pd.Series, new: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Categories too rare for chi-square become one."""
    counts = old.value_counts().add(new.value_counts(), fill_value=0)
    known = (int(old.notna().sum()), int(new.notna().sum()))
    if not min(known):
        return old, new
    rare = counts.index[counts * min(known) / sum(known) < _EXPECTED]
    place = {value: (_RARE if value in set(rare) else value) for value in counts.index}
    return old.map(place), new.map(place)


def _p_values(
    before: pd.DataFrame, after: pd.DataFrame, tested: list[_Column], corrected: float
) -> dict[str, float]:
    """Every column by Evidently's own test objects: what a report says, without its drawings."""
    with _quiet():
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


def _draw(
    before: pd.DataFrame, after: pd.DataFrame, tested: list[_Column], corrected: float, share: float
) -> Any:
    """Evidently's report of the same tests on the same rows, as a snapshot."""
    kit = _evidently()
    names = [c.name for c in tested]
    definition = kit.DataDefinition(
        numerical_columns=[c.name for c in tested if c.kind == "number"],
        categorical_columns=[c.name for c in tested if c.kind == "category"],
    )
    chosen: dict[str, Any] = {
        "num_method": _METHODS["number"],
        "cat_method": _METHODS["category"],
        "num_threshold": corrected,
        "cat_threshold": corrected,
    }
    metrics = [
        kit.DriftedColumnsCount(columns=names, drift_share=share, **chosen),
        *(
            kit.ValueDrift(column=c.name, method=_METHODS[c.kind], threshold=corrected)
            for c in tested
        ),
    ]
    return kit.Report(metrics, include_tests=True).run(
        kit.Dataset.from_pandas(after[names], data_definition=definition),
        kit.Dataset.from_pandas(before[names], data_definition=definition),
    )


def _detail(column: _Column, p_value: float | None, corrected: float) -> dict[str, Any]:
    moved = p_value is not None and p_value <= corrected
    gaps = column.missing_p is not None and column.missing_p <= corrected
    return {
        "kind": column.kind,
        "drifted": moved or gaps,
        "test": None if not column.tested else "ks" if column.kind == "number" else "chi-square",
        "p_value": p_value,
        "missing_before": column.missing[0],
        "missing_now": column.missing[1],
        "missing_p_value": column.missing_p,
        "why": " and ".join(["values"] * moved + ["missing values"] * gaps),
    }


def _write(html: Path, *drawn: Any) -> dict[str, str]:
    """Draw the report beside its place, then move it there. A full disk silences no alarm."""
    part = html.with_name(f".{html.name}.{os.getpid()}.part")
    try:
        html.parent.mkdir(parents=True, exist_ok=True)
        with _quiet():
            _draw(*drawn).save_html(str(part))
        part.replace(html)
    except Exception as error:  # the drawing as well as the disk may fail
        _log.exception("the report %s was not written", html.name)
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return {"html_fault": f"{type(error).__name__}: {error}"}
    return {"html": str(html)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently's warnings about its own future, and scipy's note that an exact p was not had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation", RuntimeWarning)
        # Evidently also correlates the columns, and a window may hold a constant one
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
        yield


@cache
def _evidently() -> SimpleNamespace:
    """What is used of Evidently, with our test of categories known to it; takes seconds, once."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.legacy.calculations.stattests import StatTest, ks_stat_test, register_stattest
    from evidently.legacy.core import ColumnType
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    test = StatTest(
        name=_METHODS["category"],
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
