"""What must hold once a fault has been recovered from, read from the stores alone.

By a process of its own each time: MLflow keeps a database open, and the drill puts others in the
place of its files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.drill.work import NOTED, STARTED

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tasks.config import Config


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be judged, and what must be there."""

    config_path: Path
    labels: int  # in the store before the fault
    trials_before: int  # lines on the first champion's trials
    env: Mapping[str, str]
    kept: frozenset[str] = frozenset()  # ids of labels that were acknowledged meanwhile
    back: bool = False  # it was a roll-back

    @property
    def config(self) -> Config:
        from tasks.config import load

        return load(self.config_path)


@dataclass
class Found:
    """What was lost, and what was done twice; both are to be empty."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not (self.lost or self.doubled)


def judge(answer: Connection, case: Case) -> None:
    """In a process of its own; sends what was found."""
    os.environ.update(case.env)
    answer.send(rolled_back(case) if case.back else retrained(case))
    answer.close()


def retrained(case: Case) -> Found:
    """The decided window was retrained once and for all, and nothing is left half done."""
    from tasks import places

    config, found = case.config, Found()
    with places.telemetry(config) as store:
        decisions, state = store.decisions(), store.state(config.name) or {}
        labelled = store.counts()["labels"]
    if labelled < case.labels + len(case.kept):
        found.lost.append(f"labels: {labelled} of {case.labels + len(case.kept)} are there")
    asked = [d["window_id"] for d in decisions if d["action"] == "retrain"]
    if len(asked) != 1:
        found.lost.append(f"decisions to retrain: {asked}")
        return found
    _window(config, asked[0], found)
    _registry(config, found)
    told = state.get("told", [])
    if told.count(f"retrain {asked[0]}") != 1 or state.get("refusals"):
        found.lost.append(f"what the policy was told: {told}, {state.get('refusals')} refusals")
    if len(state.get("attempts", ())) != 1:
        found.doubled.append(f"attempts by the policy's count: {state.get('attempts')}")
    _trials(case, config, asked[0], found)
    return found


def rolled_back(case: Case) -> Found:
    """Version 1 is champion again, version 2 is not, and the policy was told once."""
    from tasks import places

    config, found = case.config, Found()
    registry = places.registry(config)
    champion = registry.champion()
    if champion is None or champion.version != "1":
        found.lost.append(f"the way back: champion is {champion and champion.version}")
    if "rolled_back_at" not in registry.version("2").tags:
        found.lost.append("the story of version 2")
    with places.telemetry(config) as store:
        state = store.state(config.name) or {}
    if state.get("refusals") != 1:
        (found.doubled if state.get("refusals", 0) > 1 else found.lost).append(
            f"refusals: {state.get('refusals')}"
        )
    _registry(config, found, challenger=False)
    return found


def _window(config: Config, window: str, found: Found) -> None:
    from tasks import places

    with places.claims(config) as book:
        claim = book.get(window)
        running = book.running(config.name)
    if claim is None or claim.status != "done" or not (claim.result or {}).get("passed"):
        found.lost.append(f"window {window}: {claim}")
    if running is not None:
        found.lost.append(f"window {running.window_id} is held still")
    made = [r.version for r in places.registry(config).versions() if r.window_id == window]
    if len(made) != 1:
        (found.doubled if made else found.lost).append(f"versions of {window}: {made}")
        return
    champion = places.registry(config).champion()
    if champion is None or champion.version != made[0]:
        found.lost.append(f"champion is {champion and champion.version}, not {made[0]}")
    left = [p.name for p in places.retrain_folder(config, window).glob("*.parquet")]
    if {"training.parquet", "holdout.parquet"} & set(left):
        found.lost.append(f"room on the disk: {left}")


def _registry(config: Config, found: Found, *, challenger: bool = True) -> None:
    from tasks import places

    registry = places.registry(config)
    champion = registry.champion()
    if registry.recorded_champion() != (champion and champion.version):
        found.lost.append(f"the record of champion {champion and champion.version}")
    if challenger and (waiting := registry.challenger_version()):
        found.lost.append(f"an orphan alias: challenger is {waiting}")
    for run in registry.open_runs():
        found.lost.append(f"a half version: run {run.run_id} is open")
    for release in registry.versions():
        registry.download(release.version, config.folder / "serving")  # whole, by its digest


def _trials(case: Case, config: Config, window: str, found: Found) -> None:
    """Of what each process has said of its trials: a noted one is kept, and never run again."""
    from tasks import places
    from tasks.journal import recorded

    noted: set[int] = set()
    lines = (case.config_path.parent / "trials.log").read_text(encoding="utf-8").splitlines()
    for line in lines[case.trials_before :]:
        what, number = json.loads(line)
        if what == STARTED and number in noted:
            found.doubled.append(f"trial {number}")
        elif what == NOTED:
            noted.add(number)
    kept = {trial.number for trial in recorded(places.retrain_folder(config, window))}
    if lost := noted - kept:
        found.lost.append(f"trials {sorted(lost)}")
