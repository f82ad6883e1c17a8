"""A roll-out on Prefect's page: its stage, what each guard says, the step that followed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact

from tasks.artifacts import key

if TYPE_CHECKING:
    from monitoring.rollout import Position, Reading, Step

_WORDS = {True: "clearly worse", False: "not clear yet", None: "cannot speak"}


def show(model: str, at: Position, readings: Sequence[Reading], step: Step, now: datetime) -> None:
    """One table of guards under the step and its reasons."""
    reasons = "\n".join(f"- {reason}" for reason in step.reasons)
    lines = [
        f"| {reading.name.replace('_', ' ')} | "
        f"{'within' if reading.fine else _WORDS[reading.worse]} | {reading} |"
        for reading in readings
    ]
    table = "\n".join(["| guard | says | figures |", "|---|---|---|", *lines])
    create_markdown_artifact(
        key=key(model, "rollout"),
        markdown=f"# version {at.version}, {at.mode}: {step.move.value}\n\n"
        f"Against version {at.opponent}, {now:%Y-%m-%d %H:%M:%S} UTC.\n\n{reasons}\n\n{table}\n",
        description=f"version {at.version}, {at.mode}: {step.move.value}",
    )
