"""Live progress of a search, read from the trials that it writes down as they end.

The search may run in this process or, resumed, have begun in another; the journal tells of both.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ASKS = "asks.jsonl"  # beside the journal; written when a trial starts


@contextmanager
def trials(
    journal: Path, budget: int, console: Console | None = None, seconds: float | None = None
) -> Iterator[None]:
    """Show trials done of `budget` and the best loss while the block runs; only on a terminal.

    seconds: what the search may take, of which the rest is shown from its first trial on.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    over = threading.Event()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("reading the rows", total=budget)

    def follow() -> None:
        began: float | None = None
        while not over.wait(0.3):
            done, best = tally(journal)
            if began is None and (journal.parent / ASKS).exists():
                began = time.monotonic()
            if done:
                told = "no trial has succeeded" if best is None else f"best loss {best:.4f}"
                ended = done >= budget
                if seconds is not None and began is not None and not ended:
                    told += f", {max(seconds - time.monotonic() + began, 0):.0f} s left"
                bar.update(
                    task,
                    completed=done,
                    description=f"{'fitting and proving' if ended else 'tuning'}, {told}",
                )

    with bar:
        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()


def tally(journal: Path) -> tuple[int, float | None]:
    """(trials done, best loss) of a journal of trials; a line still being written is left out."""
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0, None
    losses, done = [], 0
    for line in lines:
        try:
            loss = json.loads(line)["loss"]
        except (json.JSONDecodeError, KeyError):
            break
        done += 1
        if loss is not None:
            losses.append(loss)
    return done, min(losses, default=None)
