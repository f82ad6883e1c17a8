"""Evidently's word on a window, and its report on alarm.

The only package that imports evidently, and only when its tests run or a report is drawn.
"""

from monitoring.reports.signal import drift_report
from monitoring.reports.workspace import WorkspaceRun

__all__ = ["WorkspaceRun", "drift_report"]
