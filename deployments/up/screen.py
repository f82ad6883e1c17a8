"""What a person sees: one live screen on a terminal, and plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deployments.up.events import Event, Events
from deployments.up.overview import decision

_COLOURS = {
    "healthy": "green", "starting": "yellow", "waiting": "dim", "unwell": "red",
    "restarting": "red", "failed": "bold red", "stopping": "yellow", "stopped": "dim",
}  # fmt: skip
_EVENTS = 6  # below the table
_EVERY = 0.5  # seconds


class Lines:
    """For a log, a pipe or a service manager: each event as it happens."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def look(self, event: Event) -> None:
        with suppress(OSError):  # whoever read them has gone; what runs, runs on
            self._write(str(event))

    def show(self, state: dict[str, Any]) -> None:
        """Nothing: the events have said it."""


class Nothing:
    """For one that runs detached: its log file has it all."""

    def look(self, event: Event) -> None: ...

    def show(self, state: dict[str, Any]) -> None: ...


class Page:
    """The live screen; what it showed last stays."""

    def __init__(self, live: Live, events: Events) -> None:
        self._live = live
        self._events = events

    def show(self, state: dict[str, Any]) -> None:
        self._live.update(page(state, self._events.last(_EVENTS), datetime.now(UTC)))


@contextmanager
def live(console: Console, events: Events) -> Iterator[Page]:
    with Live(console=console, refresh_per_second=2, vertical_overflow="crop") as shown:
        yield Page(shown, events)
        shown.refresh()


def page(state: Mapping[str, Any], events: list[Event], now: datetime) -> RenderableType:
    """The whole screen."""
    since = datetime.fromisoformat(state["started"])
    head = Text.assemble(
        ("everfit up", "bold"),
        f"  {state['phase']}  since {since:%Y-%m-%d %H:%M} UTC ({span(now - since)})  ",
        (_shortened(state["home"]), "dim"),
    )
    keys = Text(
        "Ctrl-C stops everything in order"
        if state["phase"] in ("starting", "running")
        else "Ctrl-C again: at once",
        "dim",
    )
    shown: list[RenderableType] = [head, Text(), parts(state), Text(), models(state, now), Text()]
    shown += [Text(str(event), "dim", no_wrap=True, overflow="ellipsis") for event in events]
    return Group(*shown, *([] if state["phase"] == "stopped" else [keys]))


def parts(state: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for part in state["parts"]:
        health = Text(*_health(part))
        if part["detail"]:
            health.append(f"  {part['detail']}", "dim")
        if part["restarts"]:
            health.append(f"  started anew {part['restarts']} times", "dim")
        where = part["page"] if part["url"] else f"log: {_shortened(part['page'])}"
        table.add_row(Text(part["part"], "bold"), Text(where), health)
    return table


def _health(part: Mapping[str, Any]) -> tuple[str, str]:
    if part["state"] == "healthy" and not part["ready"]:
        return "waits", "yellow"
    return part["state"], _COLOURS.get(part["state"], "")


def models(state: Mapping[str, Any], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for model in state["models"]:
        for number, (what, text) in enumerate(about(model, now)):
            table.add_row(Text("" if number else model["name"], "bold"), what, Text(text))
    return table


def about(model: Mapping[str, Any], now: datetime) -> list[tuple[str, str]]:
    """What is known of one model, as pairs of a word and a text."""
    if "champion" not in model:
        return [("", model.get("fault") or "...")]
    champion = model["champion"]
    none = "none yet: `everfit train " + model["config"] + "` in another terminal"
    text = [("champion", f"version {champion}" if champion else none)]
    if model.get("training") and not champion:
        text[0] = ("champion", f"none yet; the first is trained since {clock(model['training'])}")
    elif model.get("failed") and not champion:
        text[0] = ("champion", f"none; {model['failed']}")
    if going := model.get("rollout"):
        since = clock(going["since"])
        text.append(("roll-out", f"version {going['version']} is {going['stage']} since {since}"))
    if asked := model.get("approval"):
        text.append(("approval", f"{asked['said']}: `everfit approve` or `everfit reject`"))
    if going := model.get("retrain"):
        text.append(
            ("retrain", f"window {going['window_id']}, since {clock(going['since'])}"
             + (f": {going['stage']}" if going["stage"] else ""))
        )  # fmt: skip
    for run in model.get("running") or []:
        since = f" since {clock(run['since'])}" if run["since"] else ""
        text.append(("runs now", f"{run['flow']}{since} ({run['run']})"))
    last = model.get("decision")
    text.append(
        ("decision", f"{clock(str(last['time']))}  {decision(last)}" if last else "none yet")
    )
    due = model.get("next_check")
    if due:
        when = datetime.fromisoformat(due)
        late = f"is late by {span(now - when)}" if when < now else f"in {span(when - now)}"
        text.append(("next check", f"{when:%Y-%m-%d %H:%M} UTC, {late}"))
    else:
        text.append(("next check", "none is scheduled"))
    if model.get("fault"):
        text.append(("fault", model["fault"]))
    return text


def clock(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M} UTC"


def span(length: Any) -> str:
    """A length of time in two units at most.

    >>> from datetime import timedelta
    >>> span(timedelta(seconds=9)), span(timedelta(minutes=61)), span(timedelta(hours=49))
    ('9 s', '1 h 1 min', '2 d 1 h')
    """
    seconds = max(int(length.total_seconds()), 0)
    for unit, size, below, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part} {below}"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


def _shortened(path: str) -> str:
    """Relative to where the person stands, if it lies below."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path
