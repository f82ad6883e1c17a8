"""Share of drifted columns, with tests that do not change with the sample.

Every column is tested by itself, by Evidently's Kolmogorov-Smirnov test for numbers and chi-square
of homogeneity for categories, and by Fisher's exact test of the share of missing values. Their
level is divided by the number of tests (Bonferroni), and rare categories are counted together so
that chi-square holds its level.

The schema is checked first. Anything that Evidently cannot read gives a signal that says so, never
'no drift'.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.records import Kind, Signal
from monitoring.reports import kit, workspace
from monitoring.reports.columns import Checked, prepare, schema_fault
from monitoring.reports.workspace import WorkspaceRun

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

ROWS = 20_000  # of either side; Kolmogorov-Smirnov then sees a distance of 0.02 at level 0.0005
DRAWN = 100  # columns of a report: a page of 7 MB


def drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    share: float = 0.3,
    html: Path | None = None,
    run: WorkspaceRun | None = None,
    minimum_rows: int = 200,
    level: float = 0.01,
    always_html: bool = False,
    rows: int = ROWS,
    seed: int = 0,
) -> Signal:
    """Share of `columns` (name -> 'number' or 'category') that drifted, breached from `share` on.

    `level` bounds the chance that any column at all is called drifted where nothing moved. Of
    either frame at most `rows` are looked at, drawn by `seed`, so that the time does not grow with
    the window. Columns of the rows that `columns` does not name are not looked at. A column with
    no value on either side is passed over; one that has become empty, or has ceased to be, counts
    by its missing values.

    When the signal is breached, or always if `always_html`, Evidently's report is written to `html`
    and kept in the workspace that `run` names. It shows the rows that decided and, of a wider
    table, the 100 columns that moved most. A report that could not be drawn or written is a fault
    in the signal's detail, and changes nothing else of it.
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

    fault = schema_fault(reference, current, columns, minimum_rows)
    if fault:
        return silent(fault)
    before, after, checked = prepare(reference, current, columns, rows=rows, seed=seed)
    tests = sum(c.tested for c in checked) + sum(c.missing_p is not None for c in checked)
    if not tests:
        return silent("no column has a value in the reference or in the window")
    corrected = level / tests
    tested = [c for c in checked if c.tested]
    try:
        p_values = kit.p_values(before, after, tested, corrected)
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
    if (len(before), len(after)) != (len(reference), len(current)):
        detail["sampled"] = {"reference": len(before), "current": len(after), "seed": seed}
    if tested and (breached or always_html):
        shown = _most_moved(tested, p_values)

        summary = {"drifted": f"{len(drifted)} of {len(columns)} columns"}
        if len(shown) < len(tested):
            summary["shown"] = f"the {len(shown)} columns that moved most"

        def draw(**labels: Any) -> Any:
            return kit.draw(before, after, shown, corrected, share, **labels)

        detail |= _keep(draw, html, run, summary)
    return Signal(
        "evidently",
        Kind.DRIFT,
        breached,
        value=value,
        threshold=threshold,
        rows=len(current),
        detail=detail,
    )


def _most_moved(tested: Sequence[Checked], p_values: Mapping[str, float]) -> list[Checked]:
    """The columns to draw, in their own order."""
    chosen = {c.name for c in sorted(tested, key=lambda c: p_values[c.name])[:DRAWN]}
    return [c for c in tested if c.name in chosen]


def _detail(column: Checked, p_value: float | None, corrected: float) -> dict[str, Any]:
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


def _keep(
    draw: Callable[..., Any],
    html: Path | None,
    run: WorkspaceRun | None,
    found: Mapping[str, str],
) -> dict[str, str]:
    """Draw once, for both places; what goes wrong with one leaves the other as it is."""
    drawn: list[Any] = []

    def once() -> Any:
        if not drawn:
            drawn.append(draw(**(run.labels(found) if run else {})))
        return drawn[0]

    said: dict[str, str] = {}
    if html is not None:
        said |= _write(html, once)
    if run is not None:
        said |= workspace.keep(run, once)
    return said


def _write(html: Path, draw: Callable[[], Any]) -> dict[str, str]:
    """Draw the report beside its place, then move it there. A full disk silences no alarm."""
    part = html.with_name(f".{html.name}.{os.getpid()}.part")
    try:
        html.parent.mkdir(parents=True, exist_ok=True)
        with kit.quiet():
            draw().save_html(str(part))
        part.replace(html)
    except Exception as error:  # the drawing as well as the disk may fail
        _log.exception("the report %s was not written", html.name)
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return {"html_fault": f"{type(error).__name__}: {error}"}
    return {"html": str(html)}
