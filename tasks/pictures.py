"""What is drawn of a window that raised an alarm: Evidently's page, and both samples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import places
from tasks.evidence import champion_of, reference_of

if TYPE_CHECKING:
    import pandas as pd

    from monitoring.records import Decision, Signals
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
    return replace(
        signals,
        moved=signals.moved or _moved(config, reference, current),
        report=_kept("report", lambda: _report(config, decision, reference, current)),
        picture=_kept("picture", lambda: _picture(config, decision, reference, current)),
    )


def _moved(config: Config, reference: pd.DataFrame, current: pd.DataFrame) -> tuple[str, ...]:
    from monitoring.witnesses import moved

    return moved(reference, current, config.watched)


def _kept(what: str, draw: Callable[[], Path]) -> str | None:
    try:
        path = draw()
    except Exception:
        log.exception("the %s was not drawn", what)
        return None
    return str(path) if path.exists() else None


def _report(
    config: Config, decision: Decision, reference: pd.DataFrame, current: pd.DataFrame
) -> Path:
    """Evidently's page, also kept in the workspace."""
    from monitoring.reports import WorkspaceRun, drift_report

    window = decision.signals.window
    path = places.report_path(config, window.id)
    drift_report(
        reference,
        current,
        config.watched,
        share=config.policy.drifted_share,
        html=path,
        run=WorkspaceRun(
            places.reports_workspace(config), config.name, window.id, window.end, decision.action
        ),
        minimum_rows=config.monitor.minimum_rows,
        always_html=True,
    )
    return path


def _picture(
    config: Config, decision: Decision, reference: pd.DataFrame, current: pd.DataFrame
) -> Path:
    """Both samples as points, and the columns that moved most."""
    from monitoring.movement import movements
    from monitoring.picture import draw_shift

    window, columns = decision.signals.window, config.watched
    path = places.picture_path(config, window.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    return draw_shift(
        reference,
        current,
        columns,
        path,
        moved=movements(reference, current, columns),
        title=f"{config.name}: what the champion learnt, and {window.start:%d %b %Y %H:%M} to "
        f"{window.end:%d %b %Y %H:%M} UTC",
        seed=config.train.seed,
    )
