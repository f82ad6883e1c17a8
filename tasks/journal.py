"""What a search writes down as it goes, so that a killed one goes on and any one can be replayed.

`trials.jsonl` holds the trials in the order in which they ended, as the searcher was told of them.
`asks.jsonl` holds what happened between: each ask with the numbers that had ended and those that
were under way, and each end, with the seconds since the search began. The seed, the order of the
ends and the asks determine every trial.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.records import Params, Trial
from models.search.base import trial_from_json

if TYPE_CHECKING:
    from models.search import Searcher
    from models.search.cost import Left

TRIALS, ASKS = "trials.jsonl", "asks.jsonl"
KILLED = "Killed: the process ended while the trial ran"


@dataclass
class Journal:
    """The two files of one search in `folder`."""

    folder: Path
    trials: list[Trial] = field(default_factory=list)  # in the order of their ends
    spent: float = 0.0  # seconds of search before this process

    @property
    def path(self) -> Path:
        return self.folder / TRIALS

    @property
    def killed(self) -> int:
        """Trials that a process took with it; they cost a number, and nothing of the budget."""
        return sum(trial.error == KILLED for trial in self.trials)

    def unended(self) -> list[int]:
        """Numbers of the trials in the files that were started and have no end."""
        events = _rows(self.folder / ASKS)
        ended = {trial.number for trial in recorded(self.folder)}
        asked = [event["number"] for event in events if event["event"] == "asked"]
        return [number for number in asked if number not in ended]

    def replay(self, searcher: Searcher, finished: Collection[int] = ()) -> None:
        """Tell the searcher all that an earlier process had finished, and what died with it.

        A half-written last line is dropped. A trial that was started and never ended failed: it may
        be what brought the process down. Those in `finished` have ended elsewhere.
        """
        self.trials = recorded(self.folder)
        events = _rows(self.folder / ASKS)
        self.spent = max((event["at"] for event in events), default=0.0)
        _rewrite(self.path, [asdict(trial) for trial in self.trials])
        _rewrite(self.folder / ASKS, events)
        for trial in self.trials:
            searcher.tell(trial)
        ended = {trial.number for trial in self.trials}
        for event in events:
            if event["event"] == "asked" and event["number"] not in {*ended, *finished}:
                lost = Trial(
                    event["number"], event["params"], "failed", None, 0.0, event["seed"], {}, KILLED
                )
                searcher.tell(lost)
                self.ended(lost, self.spent)

    def asked(
        self,
        number: int,
        params: Params,
        *,
        seed: int,
        pending: Sequence[int],
        passed_over: Sequence[Params],
        at: float,
        left: Left | None = None,
        frontier: bool = False,
    ) -> None:
        """A trial starts. passed_over: what was proposed before and would have taken too long, or
        could not have kept a limit.

        left: what the searcher was told might still be spent, where it weighs that. frontier: it
        was proposed to widen the front, not by the searcher.
        """
        self._event(
            "asked",
            number=number,
            params=dict(params),
            seed=seed,
            ended=[trial.number for trial in self.trials],
            pending=list(pending),
            passed_over=[dict(other) for other in passed_over],
            at=round(at, 3),
            **({} if left is None else {"left": [left.seconds, left.trials, left.share]}),
            **({"frontier": True} if frontier else {}),
        )

    def ended(self, trial: Trial, at: float) -> None:
        self.trials.append(trial)
        _append(self.path, asdict(trial))
        self._event("ended", number=trial.number, at=round(at, 3))

    def _event(self, event: str, **fields: Any) -> None:
        _append(self.folder / ASKS, {"event": event, **fields})


def recorded(folder: Path) -> list[Trial]:
    """The trials of the search in `folder`, in the order of their ends."""
    return [trial_from_json(row) for row in _rows(folder / TRIALS)]


def ends(folder: Path) -> dict[int, float]:
    """Seconds since the search began at which each trial ended."""
    rows = _rows(folder / ASKS)
    return {row["number"]: row["at"] for row in rows if row["event"] == "ended"}


def _rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    found: list[dict[str, Any]] = []
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict):
            break
        found.append(row)
    return found


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _rewrite(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if path.exists():  # whole or not at all: a kill in here must lose no finished trial
        fresh = path.with_suffix(".part")
        fresh.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(fresh, path)
