"""What the figures must show, and whether they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_PROMPT_MS = 2.0  # an open loop that is later itself cannot judge a server
EMPTY, OURS, MLFLOW, BENTO = (
    "empty handler (granian)",
    "everfit",
    "mlflow models serve",
    "BentoML",
)


def ratios(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Requests/s of everfit over those of each other server, under the same load."""
    result: list[dict[str, Any]] = []
    for ours in _of(rows, OURS):
        line: dict[str, Any] = {k: ours[k] for k in ("model", "workers", "load")}
        if ours["load"] == "70 %":
            continue
        for other in rows:
            same = all(other[k] == ours[k] for k in ("model", "workers", "load"))
            if same and other["server"] != OURS:
                line[f"/ {other['server']}"] = _over(ours, other)
        result.append(line)
    names = dict.fromkeys(name for line in result for name in line)
    return [{name: line.get(name) for name in names} for line in result]


def aims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each aim that can be judged with these figures."""
    result: list[dict[str, Any]] = []
    pairs = dict.fromkeys((row["model"], row["workers"]) for row in rows)
    for model, workers in pairs:
        here = [row for row in rows if (row["model"], row["workers"]) == (model, workers)]

        def judge(
            aim: str,
            value: float | None,
            holds: Callable[[float], bool],
            model: str = model,
            workers: int = workers,
        ) -> None:
            if value is not None:
                about = {"model": model, "workers": workers, "aim": aim}
                result.append(about | {"found": value, "holds": holds(value)})

        closed = _figures(here, OURS, "32")
        if closed:
            judge("> 1,000 requests/s", closed["requests/s"], lambda v: v > 1_000)
            judge("p95 < 200 ms", closed["p95 ms"], lambda v: v < 200)
            share = closed["errors"] / max(closed["requests"], 1)
            judge("errors < 0.1 %", share, lambda v: v < 0.001)
        for peer in (MLFLOW, BENTO):
            judge(f">= 10 x {peer}", _ratio(here, peer, "32"), lambda v: v >= 10)
        judge("100 rows >= 10 x MLflow", _ratio(here, MLFLOW, "100 rows"), lambda v: v >= 10)
        judge(">= half of the empty handler", _ratio(here, EMPTY, "32"), lambda v: v >= 0.5)
        if many := _figures(here, OURS, "256"):
            judge("256 connections: errors", many["errors"], lambda v: v == 0)
        open_ = _figures(here, OURS, "70 %")
        if open_ and open_.get("late ms", 0.0) < _PROMPT_MS:
            judge("p99 < 10 ms at 70 %", open_["p99 ms"], lambda v: v < 10)
    return result


def _of(rows: Sequence[Row], server: str) -> list[Row]:
    return [row for row in rows if row["server"] == server]


def _figures(rows: Sequence[Row], server: str, load: str) -> Row | None:
    return next((row for row in _of(rows, server) if row["load"] == load), None)


def _ratio(rows: Sequence[Row], peer: str, load: str) -> float | None:
    ours, theirs = _figures(rows, OURS, load), _figures(rows, peer, load)
    return _over(ours, theirs) if ours and theirs else None


def _over(ours: Row, theirs: Row) -> float:
    """How many times as many; without end over a server that answered nothing in time."""
    return ours["requests/s"] / theirs["requests/s"] if theirs["requests/s"] else math.inf
