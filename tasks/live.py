"""A search as it is seen on Prefect's page while it runs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    aupdate_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from models.search.reward import learnt_from, loss_of
from tasks import artifacts

if TYPE_CHECKING:
    from models.records import Trial
    from tasks.trials import Search

log = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds between two updates: a request each would cost quick trials their time


@dataclass
class Live:
    """One progress bar and one page of text, updated in place."""

    bar: UUID
    page: UUID
    heading: str
    updated: float

    @classmethod
    async def begin(cls, model: str, search: Search, heading: str) -> Live:
        bar = await acreate_progress_artifact(
            progress=share(search),
            key=artifacts.key(model, "tuning"),
            description=heading,
        )
        page = await acreate_markdown_artifact(
            key=artifacts.key(model, "tuning", "live"),
            markdown=f"# {heading}\n\nThe first trials run.\n",
            description=heading,
        )
        return cls(bar, page, heading, time.monotonic())

    async def show(self, search: Search) -> None:
        """Update both, unless that was done just now."""
        if time.monotonic() - self.updated >= _PAUSE:
            await self._update(search)

    async def end(self, search: Search, stopped: str) -> None:
        await self._update(search, stopped)

    async def _update(self, search: Search, stopped: str = "") -> None:
        self.updated = time.monotonic()
        try:
            progress = 100.0 if stopped else share(search)
            text = markdown(search, self.heading, stopped)
            await aupdate_progress_artifact(self.bar, progress=progress)
            async with get_client() as client:
                await client.update_artifact(self.page, ArtifactUpdate(data=text))
        except Exception:  # a page that is not reached is no reason to end a search
            log.warning("the page of the search was not updated", exc_info=True)


def share(search: Search) -> float:
    """Of what may be spent, trials or seconds, in percent."""
    parts = len(search.trials) / search.allowed, search.seconds / search.limits.seconds
    return min(100.0 * max(parts), 100.0)


def markdown(search: Search, heading: str, stopped: str = "") -> str:
    """Best so far, trials, what the next is expected to gain, seconds left."""
    complete = [trial for trial in search.trials if loss_of(trial) is not None]
    best = min(complete, key=lambda t: (loss_of(t), t.number), default=None)
    failed = sum(learnt_from(trial) is None for trial in search.trials)
    early = sum(trial.status == "stopped" for trial in search.trials)
    left = max(search.limits.seconds - search.seconds, 0.0)
    rows = [
        ("best so far", "none has completed" if best is None else f"{best.loss:.5g}"),
        ("found by trial", "" if best is None else str(best.number)),
        ("trials", f"{len(search.trials)} of {search.allowed}, {failed} failed"),
        ("stopped early", "none" if not early else f"{early}, they could not win any more"),
        ("run now", ", ".join(map(str, sorted(search.running))) or "none"),
        ("expected further gain", expected(search.searcher)),
        ("seconds left", f"{left:.0f} of {search.limits.seconds:g}"),
        ("after", str(search.goal)),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    ended = f"\n**Ended:** {stopped}\n" if stopped else ""
    return f"# {heading}\n{ended}\n| | |\n|---|---|\n{table}\n{_parameters(best)}"


def expected(searcher: Any) -> str:
    """What the searcher expects of the next trial, in units of the loss, if it says."""
    tell = getattr(searcher, "expected_gain", None)
    gain = tell() if tell else None
    return "not known" if gain is None else f"{gain:.3g}"


def _parameters(best: Trial | None) -> str:
    if best is None:
        return ""
    rows = "\n".join(f"| {name} | {artifacts.short(v)} |" for name, v in best.params.items())
    return f"\n## Best parameters\n\n| | |\n|---|---|\n{rows}\n"
