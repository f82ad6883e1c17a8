"""What a person sees while the replay runs: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deployments.demo import axes
from deployments.demo.scoreboard import METRICS, NAMES
from deployments.demo.story import Retrain, Story

if TYPE_CHECKING:
    from rich.console import Console

    from deployments.demo.replay import Day

_SHORT = {"log_loss": "log loss", "roc_auc": "ROC AUC", "error": "error"}


@dataclass(slots=True)
class Progress:
    """Told of every day and every retrain; prints what is worth a line, keeps the panel fresh."""

    console: Console
    days: int
    weeks: int
    _live: Any = None
    _bar: Any = None
    _facts: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        from rich.live import Live
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bar = Bars(
            TextColumn("{task.description}"), BarColumn(40), TimeElapsedColumn(),
            console=self.console,
        )  # fmt: skip
        self._bar.add_task("replaying", total=self.days)
        with Live(self._panel(), console=self.console, refresh_per_second=8) as live:
            self._live = live
            yield
        self._live = None

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def day(self, day: Day, loss: Mapping[str, float]) -> None:
        """A day is done; `loss` so far of each."""
        decision = day.decision
        said = f"{decision.action.value} ({decision.rule})"
        self._facts = {
            "week": f"{day.week} of {self.weeks}, {axes.short_date(day.ends)}",
            "serving": f"version {day.version}",
            "last decision": said,
            "log loss so far": "   ".join(
                f"[{axes.COLOUR[n]}]{n} {loss[n]:.4f}[/]" for n in NAMES if n in loss
            ),
        }
        if self._live is not None:
            self._bar.update(self._bar.task_ids[0], completed=day.number + 1)
            self._live.update(self._panel())
        elif (day.number + 1) % 7 == 0 or day.number + 1 == self.days:
            losses = "  ".join(f"{n} {loss[n]:.4f}" for n in NAMES if n in loss)
            self.say(
                f"week {day.week:>2} of {self.weeks}, {axes.short_date(day.ends):>6}   "
                f"{losses}   version {day.version}   {said}"
            )

    def retrained(self, retrain: Retrain) -> None:
        """A line for every retrain: why, and how it ended."""
        end = f"version {retrain.version} serves" if retrain.passed else "refused"
        why = "; ".join(retrain.reasons)
        start = "from memory" if retrain.warm else "cold"
        self.say(
            f"  retrain {retrain.number}, {axes.short_date(retrain.time)}: {retrain.rule}: {why}\n"
            f"    -> {end} after {retrain.trials} trials ({start}), {retrain.seconds:.1f} s of "
            f"training: {retrain.verdict}"
        )

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.table import Table as Grid

        grid = Grid.grid(padding=(0, 2))
        for name, value in self._facts.items():
            grid.add_row(f"[dim]{name}[/]", value)
        return Group(self._bar, grid)


def final(console: Console, story: Story) -> None:
    """The table that the replay ends with, and its words."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid

    from deployments.demo.report import retrains

    made = retrains(story)
    replayed = f"{story.rows:,} {story.words.rows} over {len(story.weeks)} weeks"
    grid = Grid(
        box=SIMPLE_HEAD,
        title=f"{replayed}, {story.table.rows:,} scored",
        title_justify="left",
    )
    for head in ("", *(_SHORT[m] for m in METRICS), "retrains", "training s"):
        grid.add_column(head, justify="right" if head else "left")
    for name in NAMES:
        grid.add_row(
            name,
            *(f"{story.table.metrics[name][m]:.4f}" for m in METRICS),
            str(made[name]),
            f"{story.training_seconds[name]:.1f}",
        )
    console.print(grid)
    gaps = Grid(
        box=SIMPLE_HEAD,
        title=f"differences, {story.table.confidence:.0%} intervals over whole days",
        title_justify="left",
    )
    for head in ("", *(_SHORT[m] for m in METRICS)):
        gaps.add_column(head, justify="right" if head else "left", no_wrap=True)
    for a, b in (("weekly", "frozen"), ("everfit", "frozen"), ("everfit", "weekly")):
        cells = (story.table.difference(metric, a, b) for metric in METRICS)
        gaps.add_row(
            f"{a}\n[dim]minus {b}[/]",
            *(f"{d.value:+.4f}\n[dim]{d.low:+.4f} to {d.high:+.4f}[/]" for d in cells),
        )
    console.print(gaps)
    for line in story.headline:
        console.print(line, highlight=False, soft_wrap=True)
