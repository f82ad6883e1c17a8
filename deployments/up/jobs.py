"""What is done once, while everything runs: webhooks registered, first champions trained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deployments import environment
from deployments.processes import Child, last_words, spawn
from deployments.stack import python, reached
from deployments.up.plan import Model, Plan


@dataclass(frozen=True, slots=True)
class Job:
    """One command of everfit, and how it is spoken of."""

    model: Model
    what: str  # as in "the training"
    arguments: tuple[str, ...]
    trains: bool = False

    @property
    def log(self) -> Path:
        return self.model.config.folder / "logs" / f"{self.arguments[0]}.log"


def trainings(models: Sequence[Model]) -> Iterator[Job]:
    """The first champion of each."""
    for model in models:
        yield Job(model, "the training", ("train", str(model.path)), trains=True)


def webhooks(chosen: Plan) -> Iterator[Job]:
    """Each of our MLflow servers is to wake the servers of its models when somebody moves an alias
    on its page; only with a secret in the environment."""
    from deployments.serving.hooks import PATH, secret

    if secret() is None:
        return
    for model in chosen.models:
        part, serving = chosen.mlflow.get(model.name), model.config.serving
        if part is None or part.external:
            continue
        url = f"http://{reached(serving.host)}:{serving.port}{PATH}"
        given = ("webhook", str(model.path), "--mlflow", part.server.url, "--url", url)
        yield Job(model, "its webhook", given)


class Jobs:
    """Runs them in a thread of its own, one after another; what one did not finish goes on when it
    is asked for again. `training` hears which model is trained since when, and at its end None and
    what has failed."""

    def __init__(
        self,
        jobs: Sequence[Job],
        chosen: Plan,
        told: Callable[[str, str], None],
        training: Callable[[str, datetime | None, str], None],
    ) -> None:
        self._jobs = jobs
        self._env = environment.child(
            PREFECT_API_URL=chosen.api, PREFECT_HOME=str(chosen.place.prefect)
        )
        self._told = told
        self._training = training
        self._over = threading.Event()
        self._child: Child | None = None
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._child is not None:
            self._child.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        for job in self._jobs:
            if self._over.is_set():
                return
            if job.trains:
                self._told(job.model.name, f"trains its first champion; log: {job.log}")
                self._training(job.model.name, datetime.now(UTC), "")
            failed = self._do(job)
            if job.trains:
                self._training(job.model.name, None, failed)

    def _do(self, job: Job) -> str:
        """What has failed; empty when nothing has."""
        job.log.unlink(missing_ok=True)
        command = [*python("deployments"), *job.arguments]
        child = spawn(job.what, command, url="", log=job.log, env=self._env)
        self._child = child
        while child.alive and not self._over.wait(0.2):
            pass
        child.stop()
        if self._over.is_set():
            return ""
        if child.process.returncode:
            failed = f"{job.what} failed, see {job.log}: {_said(job.log)}"
            self._told(job.model.name, failed)
            return failed
        if not job.trains:
            self._told(job.model.name, _said(job.log))
        return ""


def _said(log: Path) -> str:
    return last_words(log, 1).splitlines()[-1].strip()
