"""What a person is asked to decide, on Prefect's page: verdict, figures, slices, picture."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact

from tasks.artifacts import key

if TYPE_CHECKING:
    from models.records import Release, Verdict
    from models.registry_approvals import Approval
    from tasks.config import Config

log = logging.getLogger(__name__)

_SLICES = 20  # rows of the table
_PICTURE = 400_000  # bytes


def show(config: Config, challenger: Release, asked: Approval) -> None:
    """The question, or its answer, with all that it is about. A fault here stops nothing."""
    try:
        create_markdown_artifact(
            key=key(config.name, "approval"),
            markdown=page(config, challenger, asked),
            description=str(asked),
        )
    except Exception:
        log.exception("%s: the question about version %s was not shown", config.name, asked.version)


def page(config: Config, challenger: Release, asked: Approval) -> str:
    """The page as markdown."""
    from tasks import lineage

    parts = [f"# {asked}"]
    if asked.waits:
        parts.append(
            f"`everfit approve {config.name} {asked.version} --why '...'`, or `everfit reject`; or "
            f"on MLflow's page set the tag `everfit.approval` of version {asked.version} to "
            "`approved` or `rejected` (and `everfit.approval.why`, `everfit.approval.by`)."
        )
    parts += [f"- did not count: {sentence}" for sentence in asked.refused]
    against = f"version {asked.opponent}" if asked.opponent else "the base rate"
    try:
        made = lineage.read(config, challenger)
    except Exception as fault:  # a foreign version, or artifacts that are down
        return "\n\n".join([*parts, f"Its lineage cannot be read: {fault}"])
    verdict = made.verdict
    trained = f"{made.rows:,} rows" + (
        f" until {made.trained_through:%Y-%m-%d}" if made.trained_through else ""
    )
    parts.append(
        f"Proven against {against} on {verdict.rows:,} rows that neither has learnt: "
        f"**{verdict.reason}**. Trained on {trained}; window `{made.window_id}`."
    )
    parts.append(figures(verdict, against))
    if verdict.slices:
        parts.append(slices(verdict))
    if picture := _picture(config, challenger):
        parts.append(picture)
    return "\n\n".join(parts) + "\n"


def figures(verdict: Verdict, against: str) -> str:
    """Champion and challenger, metric by metric, and the gain with its interval."""
    lines = [f"| metric | {against} | challenger |", "|---|---|---|"]
    for metric, value in verdict.challenger.items():
        other = verdict.champion.get(metric)
        lines.append(f"| {metric} | {'' if other is None else f'{other:.4g}'} | {value:.4g} |")
    if verdict.gain is not None:
        bounds = (
            f" ({verdict.low:.3g} to {verdict.high:.3g})"
            if verdict.low is not None and verdict.high is not None
            else ""
        )
        lines.append(f"| gain of {verdict.metric} a row | | {verdict.gain:.3g}{bounds} |")
    return "\n".join(lines)


def slices(verdict: Verdict) -> str:
    """The gain in each slice, worst first."""
    worst = sorted(verdict.slices, key=lambda part: float(part["gain"]))[:_SLICES]
    lines = ["| slice | rows | gain a row | interval |", "|---|---|---|---|"]
    lines += [
        f"| {part['slice']} = {part['value']} | {part['rows']:,} | {part['gain']:.3g} | "
        f"{part['low']:.3g} to {part['high']:.3g} |"
        for part in worst
    ]
    return "\n".join(lines)


def _picture(config: Config, challenger: Release) -> str:
    """What moved, as it was drawn for the decision; else the search."""
    from tasks import places

    registry, folder = places.registry(config), places.champion_folder(config)
    for name, said in (("drift_picture.png", "what moved"), ("tuning.png", "the search")):
        path: Path | None = registry.fetch_file(challenger.version, name, folder)
        if path is not None and path.stat().st_size <= _PICTURE:
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            return f"![{said}](data:image/png;base64,{data})"
    return ""
