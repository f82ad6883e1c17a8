"""What is drawn of a window that raised an alarm: Evidently's page, and both samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tasks import places
from tasks.evidence import champion_of, lengths, reference_of

if TYPE_CHECKING:
    import pandas as pd

    from monitoring.records import Decision, Signals, Window
    from tasks.config import Config

log = logging.getLogger(__name__)


def drawn(config: Config, decision: Decision, now: datetime) -> Signals:
    """The decision's signals with the places of what was drawn; a fault in drawing stops nothing.

    What cannot be drawn is None there, and the log says why.
    """
    signals = decision.signals
    window = signals.window
    reference = reference_of(config, champion_of(config))
    with places.telemetry(config) as store:
        current = store.rows(window.start, window.end, as_of=now)
        if not len(current):  # a longer window raised the alarm
            window = replace(window, start=window.end - max(lengths(config)))
            current = store.rows(window.start, window.end, as_of=now)
    watched = {name: kind for name, kind in config.watched.items() if name in reference}
    rows = _Rows(reference, current, watched)
    return replace(
        signals,
        moved=signals.moved or _moved(rows, signals),
        report=_kept("report", lambda: _report(config, decision, _readable(config, rows, signals))),
        picture=_kept("picture", lambda: _picture(config, decision, rows, window)),
    )


class _Rows(NamedTuple):
    reference: pd.DataFrame
    current: pd.DataFrame
    columns: Mapping[str, str]


def _moved(rows: _Rows, signals: Signals) -> tuple[str, ...]:
    from monitoring.witnesses import moved

    return moved(*rows, signals.items)


def _readable(config: Config, rows: _Rows, signals: Signals) -> _Rows:
    """Texts as columns that a page can show: their form, and the words that moved."""
    if not config.texts:
        return rows
    from monitoring.text.readable import readable
    from monitoring.text.signal import told

    return _Rows(*readable(*rows, config.texts, told(signals.items)))


def _kept(what: str, draw: Callable[[], Path]) -> str | None:
    try:
        path = draw()
    except Exception:
        log.exception("the %s was not drawn", what)
        return None
    return str(path) if path.exists() else None


def _report(config: Config, decision: Decision, rows: _Rows) -> Path:
    """Evidently's page, also kept in the workspace."""
    from monitoring.reports import WorkspaceRun, drift_report

    window = decision.signals.window
    path = places.report_path(config, window.id)
    drift_report(
        *rows,
        share=config.policy.drifted_share,
        html=path,
        run=WorkspaceRun(
            places.reports_workspace(config), config.name, window.id, window.end, decision.action
        ),
        minimum_rows=config.monitor.minimum_rows,
        always_html=True,
    )
    return path


def _picture(config: Config, decision: Decision, rows: _Rows, seen: Window) -> Path:
    """Both samples as points, and the columns that moved most."""
    from monitoring.movement import movements
    from monitoring.picture import draw_shift

    points, shown = None, _readable(config, rows, decision.signals)
    if config.texts:
        from monitoring.text.readable import cloud

        points = cloud(*rows, config.texts, config.train.seed)
    path = places.picture_path(config, seen.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    return draw_shift(
        *shown,
        path,
        moved=movements(*shown),
        embeddings=points,
        title=f"{config.name}: what the champion learnt, and {seen.start:%d %b %Y %H:%M} to "
        f"{seen.end:%d %b %Y %H:%M} UTC",
        seed=config.train.seed,
    )
