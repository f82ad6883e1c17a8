"""First champions, trained while all else runs already: `everfit train`, one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from deployments import environment
from deployments.processes import Child, last_words, spawn
from deployments.stack import python
from deployments.up.place import Place
from deployments.up.plan import Model


class Training:
    """Runs in a thread of its own; what was not finished goes on with the next `everfit train`."""

    def __init__(
        self, models: Sequence[Model], api: str, place: Place, told: Callable[[str, str], None]
    ) -> None:
        self._models = models
        self._env = environment.child(PREFECT_API_URL=api, PREFECT_HOME=str(place.prefect))
        self._told = told
        self._over = threading.Event()
        self._child: Child | None = None
        self._thread: threading.Thread | None = None

    def start(self, tell: Callable[[str, datetime | None], None]) -> None:
        """`tell` hears which model is trained, and since when."""
        self._thread = threading.Thread(
            target=self._run, args=(tell,), name="training", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._child is not None:
            self._child.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, tell: Callable[[str, datetime | None], None]) -> None:
        for model in self._models:
            if self._over.is_set():
                return
            log = model.config.folder / "logs" / "train.log"
            log.unlink(missing_ok=True)
            self._told(model.name, f"trains its first champion; log: {log}")
            tell(model.name, datetime.now(UTC))
            command = [*python("deployments"), "train", str(model.path)]
            self._child = spawn(f"training {model.name}", command, url="", log=log, env=self._env)
            while self._child.alive and not self._over.wait(0.2):
                pass
            if self._over.is_set():
                self._child.stop()
                return
            self._child.kill()
            tell(model.name, None)
            if self._child.process.returncode:
                self._told(model.name, f"the training failed: {last_words(log)}")
