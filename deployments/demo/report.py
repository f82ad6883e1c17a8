"""The report of a replay: one HTML file that needs nothing else, and the picture as a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from deployments.demo import axes, drawing
from deployments.demo.scoreboard import EVERFIT, FROZEN, METRICS, NAMES, WEEKLY, Difference
from deployments.demo.story import Story

NAMED = {"log_loss": "log loss", "roc_auc": "ROC AUC", "error": "error"}
BETTER = {"log_loss": "lower", "roc_auc": "higher", "error": "lower"}


def write(story: Story, path: Path, *, ui: str = "everfit ui runs/demo/everfit.yaml") -> Path:
    """Write the HTML report; links to Evidently pages are relative to it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("deployments.demo", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["date"] = axes.short_date
    page = environment.get_template("report.html.j2").render(
        story=story,
        table=story.table,
        svg=drawing.draw(story),
        words=story.words,
        ends=story.start + timedelta(days=story.days),
        names=NAMES,
        frozen=FROZEN,
        weekly=WEEKLY,
        everfit=EVERFIT,
        metrics=METRICS,
        named=NAMED,
        better=BETTER,
        colour=axes.COLOUR,
        retrains=retrains(story),
        rows=[_difference_row(story, metric) for metric in METRICS],
        acted=[c for c in story.checks if c.action != "keep"],
        by_window={r.window_id: r for r in story.retrains},
        passed=sum(r.passed for r in story.retrains),
        silent=sum(c.mmd_p_value is None for c in story.checks),
        proof=_proof(story.gate_margin, story.words.row),
        lookback="day" if story.window_days == 1 else f"{story.window_days:g} days",
        ui=ui,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def retrains(story: Story) -> Mapping[str, int]:
    """Retrains after the first champion, by name; refused ones count."""
    return {FROZEN: 0, WEEKLY: story.weekly_retrains, EVERFIT: len(story.retrains)}


def _proof(margin: float, row: str) -> str:
    """What the gate asks of a challenger, in words."""
    if margin < 0:
        return f"not worse by more than {-margin:g} log loss a {row}"
    return "better" if margin == 0 else f"better by more than {margin:g} log loss a {row}"


def _difference_row(story: Story, metric: str) -> list[str]:
    pairs = ((WEEKLY, FROZEN), (EVERFIT, FROZEN), (EVERFIT, WEEKLY))
    return [NAMED[metric], *(interval(story.table.difference(metric, a, b)) for a, b in pairs)]


def interval(difference: Difference) -> str:
    """
    >>> interval(Difference("log_loss", "everfit", "frozen", -0.0512, -0.06, -0.0414))
    '-0.0512 (-0.0600 to -0.0414)'
    """
    d = difference
    return f"{d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f})"
