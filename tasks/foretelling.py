"""What the performance predictor knows of a model, from the trials that its versions keep."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.performance import Performance, Report, Seen, seen
from models.performance.seen import SECONDS
from tasks import places
from tasks.journal import TRIALS, recorded

if TYPE_CHECKING:
    from models.records import Params, Trial
    from tasks.config import Config

FILE = "performance.json"
log = logging.getLogger(__name__)

_VERSIONS = 60  # whose trials are read, the latest
_OF_A_FAMILY = 80  # trials that are learnt from when a search begins and ends
_ALWAYS = ("latency_ms", "latency_p95_ms", "predict_cpu_ms", "throughput_rows_s", "size_mb",
           "fit_cpu_s", SECONDS)  # fmt: skip


def targets(config: Config) -> tuple[str, ...]:
    """What is foretold: all that a goal may name of cost, and the goal's own metrics."""
    return tuple(dict.fromkeys((*config.train.goal.named, config.train.objective, *_ALWAYS)))


def past(config: Config) -> list[Seen]:
    """The trials of all registered versions, oldest first; a version that lacks them is left out.

    Refused versions count too: what a trial took has nothing to do with the gate.
    """
    releases = sorted(places.registry(config).versions(), key=lambda r: int(r.version))
    found: list[Seen] = []
    for release in releases[-_VERSIONS:]:
        path = places.version_file(config, release, TRIALS)
        if path is not None:
            found += seen(recorded(path.parent), release.window_id or release.version)
    return found


@dataclass(frozen=True)
class Before:
    """What is known when a search begins; `search` is its name among the searches."""

    past: Sequence[Seen]
    performance: Performance
    search: str

    @classmethod
    def of(cls, config: Config, search: str) -> Before:
        try:
            known = [one for one in past(config) if one.search != search]
        except Exception:  # a help, not a need: the search does without
            log.warning("%s: the earlier trials were not read", config.name, exc_info=True)
            known = []
        return cls(known, Performance(known, targets(config), most=_OF_A_FAMILY), search)

    def seconds(self, params: Params) -> float | None:
        """What a trial takes at most, with 95 % probability; None where nothing is known."""
        told = self.performance.foretell(params, SECONDS)
        return None if told is None else told.high


def write(config: Config, folder: Path, before: Before, trials: Sequence[Trial]) -> Path:
    """How well this search's trials were foretold before it, and what is known after it."""
    now = seen(trials, before.search)
    after = Performance([*before.past, *now], targets(config), most=_OF_A_FAMILY)
    told = (before.performance.report_on(now, target) for target in before.performance.targets)
    found = {
        "trials": after.trials,
        "searches": after.searches,
        "before": [asdict(one) for one in told if one is not None],
        "left_out": [asdict(one) for one in after.reports()],
    }
    path = folder / FILE
    path.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return path


def read(path: Path) -> tuple[list[Report], list[Report]]:
    """(of the search's own trials, told before it; of all, each left out in turn)."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    before, left_out = ([Report(**row) for row in raw[key]] for key in ("before", "left_out"))
    return before, left_out


def metrics(path: Path) -> dict[str, float]:
    """R2 and error of each figure for MLflow: on this search's trials where those were foretold
    before they ran, else on each trial left out in turn."""
    before, left_out = read(path)
    best: Mapping[str, Report] = {one.target: one for one in (*left_out, *before)}
    found: dict[str, float] = {}
    for target, told in best.items():
        found[f"predictor.{target}.trials"] = float(told.trials)
        found[f"predictor.{target}.error"] = told.error
        if told.r2 is not None:
            found[f"predictor.{target}.r2"] = told.r2
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    """The reports as a table for people."""
    parts = zip(("told before the search", "each trial left out"), read(path), strict=True)
    return [
        {
            "figure": one.target,
            "held out": how,
            "trials": one.trials,
            "R2": "" if one.r2 is None else f"{one.r2:.2f}",
            "median error": f"{one.error:.0%}" if one.relative else f"{one.error:.3g}",
            "within the 90 % interval": f"{one.held:.0%}",
            "by": ", ".join(f"{family} {shape}" for family, shape in one.shapes.items()),
        }
        for how, reports in parts
        for one in reports
    ]
