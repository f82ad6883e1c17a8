"""Reports kept in an Evidently workspace, so that its page shows all alarms of a model over time.

One project per model, one run per window. Both have ids made from their names, so that a window
checked again, or by two processes at once, is one run. Files are written beside the workspace and
moved in whole: a reader never sees half a run, and the page that watches the folder sees a run
come (of a file renamed inside the folder it hears nothing).
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from monitoring.reports import kit

_log = logging.getLogger(__name__)

_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "everfit")
MOST_RUNS = 500  # of one model: a run is some 100 kB, and the page reads all of them
_PROJECT, _RUNS = "metadata.json", "snapshots"  # by their names in Evidently's local workspace


@dataclass(frozen=True, slots=True)
class WorkspaceRun:
    """Where a report is kept: `workspace` is a folder, `project` the model's name.

    `at` is the time that the run has on the page, in UTC: the end of the window. `decision` is the
    action decided on the window, '' where none was. Of a model's runs the `most` that were written
    last are kept; None: all.
    """

    workspace: Path
    project: str
    window: str
    at: datetime
    decision: str = ""
    most: int | None = MOST_RUNS

    @property
    def project_id(self) -> uuid.UUID:
        return project_id(self.project)

    @property
    def path(self) -> Path:
        """The run's file; it exists when the run is kept."""
        run = uuid.uuid5(self.project_id, self.window)
        return self.workspace / str(self.project_id) / _RUNS / f"{run}.json"

    def labels(self, found: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """Time, name, tags and metadata of the snapshot, with what was `found` in the last."""
        decision = str(self.decision)  # an Action is a str of another type
        tags = [self.window, *([decision] if decision else [])]
        metadata = {"window": self.window, "model": self.project, **found}
        if decision:
            metadata["decision"] = decision
        at = self.at.astimezone(UTC) if self.at.tzinfo else self.at.replace(tzinfo=UTC)
        return {"at": at, "name": self.window, "tags": tags, "metadata": metadata}


def project_id(project: str) -> uuid.UUID:
    """The id of a model's project, the same in every process."""
    return uuid.uuid5(_SPACE, project)


def project_page(workspace: Path, project: str) -> str:
    """Path of the model's reports on Evidently's page; '' while there are none."""
    place = str(project_id(project))
    return f"projects/{place}/reports" if (workspace / place / _PROJECT).exists() else ""


def keep(run: WorkspaceRun, draw: Callable[[], Any]) -> dict[str, str]:
    """Keep the snapshot that `draw` makes, unless the window's is there already.

    Returns what to say about it: where it is, or the fault that kept it from being written. A full
    disk silences no alarm.
    """
    try:
        if not run.path.exists():
            run.workspace.mkdir(parents=True, exist_ok=True)
            _open_project(run)
            _write(run, draw())
            _prune(run)
    except Exception as error:  # the drawing as well as the disk may fail
        _log.exception("the report on window %s was not kept in the workspace", run.window)
        return {"workspace_fault": f"{type(error).__name__}: {error}"}
    return {"workspace_run": str(run.path)}


def _open_project(run: WorkspaceRun) -> None:
    """The model's project with its panels, made by whichever process comes first."""
    place = run.workspace / str(run.project_id)
    if (place / _PROJECT).exists():
        return
    with kit.quiet():
        from evidently.sdk.models import ProjectModel
        from evidently.ui.storage.local.base import LocalState

        with _beside(run.workspace) as folder:
            state = LocalState(str(folder))
            model = ProjectModel(
                id=run.project_id,
                name=run.project,
                description="Reports on the windows in which drift was seen or the model acted on.",
            )
            state.write_project(model)
            state.write_dashboard(run.project_id, _dashboard())
            (folder / str(run.project_id) / _RUNS).mkdir()
            try:
                (folder / str(run.project_id)).rename(place)
            except OSError:
                if not (place / _PROJECT).exists():
                    raise


def _write(run: WorkspaceRun, snapshot: Any) -> None:
    with kit.quiet():
        from evidently.ui.storage.local.base import LocalState

        with _beside(run.workspace) as folder:
            state = LocalState(str(folder))
            state.write_snapshot(run.project_id, run.path.stem, snapshot.to_snapshot_model())
            written = folder / str(run.project_id) / _RUNS / run.path.name
            run.path.parent.mkdir(parents=True, exist_ok=True)
            written.replace(run.path)


def _prune(run: WorkspaceRun) -> None:
    """Drop the runs beyond `run.most`, those written first; another process may do so too."""
    if run.most is None:
        return
    written: list[tuple[int, Path]] = []
    for path in run.path.parent.glob("*.json"):
        with suppress(FileNotFoundError):
            written.append((path.stat().st_mtime_ns, path))
    written.sort()
    for _, path in written[: max(0, len(written) - max(run.most, 1))]:
        if path != run.path:
            path.unlink(missing_ok=True)


def _dashboard() -> Any:
    """How many columns drifted, over time and in the newest report."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import bar_plot_panel, counter_panel

    def metric(value: str, legend: str) -> Any:
        return PanelMetric(
            legend=legend, metric="DriftedColumnsCount", metric_labels={"value_type": value}
        )

    panels = [
        bar_plot_panel(
            "Share of drifted columns",
            [metric("share", "share of drifted columns")],
            "In every window whose report was drawn: those with drift, and those acted on.",
        ),
        counter_panel(
            "Drifted columns in the newest report", [metric("count", "columns")], size="half"
        ),
    ]
    tab = DashboardTabModel(title="Drift", panels=[panel.id for panel in panels])
    return DashboardModel(tabs=[tab], panels=panels)


@contextmanager
def _beside(workspace: Path) -> Iterator[Path]:
    """A folder on the same disk, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{workspace.name}-", dir=workspace.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
