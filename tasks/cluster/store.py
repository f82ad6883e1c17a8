"""The folder through which a search and its nodes speak: what is to be tried, and what came of it.

Schedulers carry numbers and paths alone. A record is written beside its name and then moved there,
so it is whole or absent; that of a trial is on the disk before the scheduler hears of its end.

    cluster/search.json          what all trials have in common
    cluster/7/ask.json           one trial: its parameters, and what it is judged by
    cluster/7/beat.json          the node that runs it, once a second
    cluster/7/trial.json         what came of it
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.records import Params, Trial
from models.search.base import trial_from_json, trial_to_json
from tasks.fitting import Job
from tasks.journal import recorded

if TYPE_CHECKING:
    from models.search.fidelity import Judge

BEAT = 1.0  # seconds between two signs of life


class ClusterFault(Exception):
    """Trials cannot run where the config says: what is wrong there, and the remedy."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign of life of a trial: which node runs it, and how many signs it has given."""

    attempt: int
    host: str
    pid: int
    count: int
    worker: str = ""  # the scheduler's name for it


@dataclass(frozen=True, slots=True)
class Ask:
    """What a node needs to know of one trial, besides what all have in common."""

    number: int
    params: Params
    seconds: float
    judged: int | None = None  # by the first so many of the journal's trials; None: not at all


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of one search, under that of its retrain."""

    retrain: Path

    @property
    def folder(self) -> Path:
        return self.retrain / "cluster"

    def open(self, job: Job, token: str, earlier: Sequence[Trial]) -> None:
        """Say what all trials have in common. token: names this search, so that a node that sees
        an old copy of the folder is told from one that sees it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [trial_to_json(trial) for trial in earlier]
        write(self.folder / "search.json", {"token": token, "job": job.to_json(), "earlier": rows})

    def job(self, token: str, host: str) -> Job:
        """What all trials have in common, as the node `host` sees it. Raises ClusterFault."""
        found = read(self.folder / "search.json")
        if found is None or found.get("token") != token:
            seen = "an older search there" if found else "nothing there"
            raise ClusterFault(
                f"every node must see the folder of the runs, and {host} sees {seen}: mount "
                f"{self.retrain} on it under the same path, for instance by NFS"
            )
        job = Job.from_json(found["job"])
        if not job.training.is_file():
            raise ClusterFault(
                f"every node must see the training rows, and {host} sees no {job.training}: mount "
                "its folder there under the same path"
            )
        return job

    def judge(self, ask: Ask) -> Judge | None:
        """By the trials that had ended when this one was asked for, and those of earlier searches.

        They are read from the journal, to which only the search itself writes.
        """
        from models.search.fidelity import Judge

        if ask.judged is None:
            return None
        ended = recorded(self.retrain)[: ask.judged]
        if len(ended) < ask.judged:
            raise ClusterFault(
                f"{self.retrain} has {len(ended)} of {ask.judged} ended trials: the shared folder "
                "must show what was written and closed elsewhere; mount NFS with actimeo=0"
            )
        earlier = (read(self.folder / "search.json") or {}).get("earlier", ())
        return Judge(ask.params, ended, [trial_from_json(row) for row in earlier])

    def put_ask(self, ask: Ask) -> None:
        self._of(ask.number).mkdir(exist_ok=True)
        write(self._of(ask.number) / "ask.json", {**asdict(ask), "params": dict(ask.params)})

    def ask(self, number: int) -> Ask:
        found = read(self._of(number) / "ask.json")
        if found is None:
            raise ClusterFault(
                f"the shared folder must show what was written elsewhere, and {self._of(number)} "
                "has no ask.json: mount NFS with lookupcache=none"
            )
        return Ask(**found)

    def put_result(self, trial: Trial) -> None:
        path = self._of(trial.number) / "trial.json"
        path.parent.mkdir(exist_ok=True)
        write(path, asdict(trial), on_disk=True)

    def result(self, number: int) -> Trial | None:
        with suppress(OSError):  # a network file system looks anew at a folder that is listed
            os.listdir(self._of(number))
        found = read(self._of(number) / "trial.json")
        return None if found is None else trial_from_json(found)

    def mark(self, number: int) -> Mark | None:
        found = read(self._of(number) / "beat.json")
        return None if found is None else Mark(**found)

    @contextmanager
    def beating(self, number: int, first: Mark) -> Iterator[None]:
        """Give signs of life from a thread while the block runs."""
        ended = threading.Event()
        path = self._of(number) / "beat.json"

        def beat() -> None:
            count = first.count
            while True:
                with suppress(OSError):  # the storage is away: that is what silence says
                    write(path, {**asdict(first), "count": count})
                count += 1
                if ended.wait(BEAT):
                    return

        thread = threading.Thread(target=beat, name=f"trial-{number}-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def close(self) -> None:
        """What was said is in the journal: nothing of it is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _of(self, number: int) -> Path:
        return self.folder / str(number)


def write(path: Path, row: dict[str, Any], *, on_disk: bool = False) -> None:
    """A JSON record, whole or not at all; `on_disk` waits until a power cut would not take it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(row, file)
        if on_disk:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: Path) -> dict[str, Any] | None:
    """A record, or None while there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
