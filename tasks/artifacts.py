"""What a person sees of a run on Prefect's pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from tasks.steps import is_sparing

if TYPE_CHECKING:
    from models.records import Trial, Verdict
    from monitoring.records import Decision, Signal, Signals


def key(*parts: str) -> str:
    """An artifact key: Prefect allows lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _verdict_word(signal: Signal) -> str:
    return {True: "breached", False: "fine", None: "could not speak"}[signal.breached]


def signals_table(model: str, signals: Signals) -> None:
    if is_sparing():
        return
    create_table_artifact(
        key=key(model, "signals"),
        table=[
            {
                "signal": s.name,
                "says": _verdict_word(s),
                "value": _number(s.value),
                "p-value": _number(s.p_value),
                "interval": f"{_number(s.low)} to {_number(s.high)}" if s.low is not None else "",
                "threshold": s.threshold,
                "rows": s.rows,
                "why silent": s.reason if s.breached is None else "",
            }
            for s in signals.items
        ],
        description=f"{signals.window.id}: {signals.window.rows} rows, "
        f"{signals.window.coverage:.0%} labelled",
    )


def decision_markdown(model: str, decision: Decision) -> None:
    if is_sparing() and decision.action.value == "keep":
        return
    reasons = "\n".join(f"- {reason}" for reason in decision.reasons)
    if decision.nearly:
        reasons += "\n\nRules that nearly fired:\n\n"
        reasons += "\n".join(f"- {near}" for near in decision.nearly)
    if decision.signals.moved:
        reasons += "\n\nWhat moved, most first:\n\n"
        reasons += "\n".join(f"- {sentence}" for sentence in decision.signals.moved)
    create_markdown_artifact(
        key=key(model, "decision"),
        markdown=f"# {decision.action.value}\n\nRule **{decision.rule}** on window "
        f"`{decision.window_id}`, {decision.time:%Y-%m-%d %H:%M} UTC.\n\n{reasons}\n",
        description=f"{decision.action.value}: {decision.rule}",
    )
    if decision.signals.report:
        create_link_artifact(
            key=key(model, "drift-report"),
            link=f"file://{decision.signals.report}",
            link_text=f"Evidently report of {decision.window_id}",
        )


def picture(model: str, name: str, path: Path, description: str) -> None:
    """A PNG on the page. It is sent along, since a browser does not open a server's files; inside
    markdown, since Prefect prints an image artifact's whole address under it."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    create_markdown_artifact(
        key=key(model, name),
        markdown=f"![{description}](data:image/png;base64,{data})\n\n`{path}`\n",
        description=description,
    )


def trials_table(
    model: str, trials: Sequence[Trial], stopped: str, metrics: Sequence[str] = ()
) -> None:
    """The trials in the order of their ends, with those of their metrics that were asked for."""
    create_table_artifact(
        key=key(model, "trials"),
        table=[
            {
                "trial": t.number,
                "status": t.status,
                "loss": _number(t.loss),
                **{name: _number(t.metrics.get(name)) for name in metrics},
                "seconds": round(t.seconds, 2),
                "of its budget": f"{t.fidelity:.0%}",
                "parameters": ", ".join(f"{k}={short(v)}" for k, v in t.params.items()),
                "why it ended": t.error[:200],
            }
            for t in trials
        ],
        description=f"search ended: {stopped}",
    )


def predictor_table(model: str, rows: list[dict[str, Any]]) -> None:
    """How well latency, cost and score were foretold; nothing while too little is known."""
    if rows:
        create_table_artifact(
            key=key(model, "predictor"),
            table=rows,
            description="the performance predictor, on trials that it had not learnt",
        )


def verdict_markdown(model: str, verdict: Verdict, names: Mapping[str, str]) -> None:
    rows = "\n".join(
        f"| {metric} | {_number(verdict.champion.get(metric))} | {_number(value)} |"
        for metric, value in verdict.challenger.items()
    )
    create_markdown_artifact(
        key=key(model, "verdict"),
        markdown=f"# {'passed' if verdict.passed else 'refused'}\n\n{verdict.reason}\n\n"
        f"| metric | {names['champion']} | {names['challenger']} |\n|---|---|---|\n{rows}\n",
        description=verdict.reason,
    )


def short(value: Any) -> str:
    """A parameter's value for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
