"""The thread that follows the registry's champion: fetch, load beside the old, check, swap."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from deployments.serving.metrics import Metrics
from deployments.serving.slots import Failure, Model, Slot, Slots
from models.records import Release

log = logging.getLogger(__name__)

_FIRST_RETRY = 5.0  # seconds before a version that failed to load is tried again, then doubled
_LONGEST_RETRY = 300.0
_LONGEST_POLL = 30.0  # seconds between looks at a registry that is down


class Champions(Protocol):
    """The part of `models.registry.Registry` that a server needs."""

    def champion(self) -> Release | None: ...

    def download(self, version: str, folder: Path) -> Path: ...


class Follower:
    """Keeps `slots.current` at the registry's champion.

    A version takes traffic only when its digest is right and it has answered its own input example
    as it did when it was made; otherwise the old one keeps serving, the failure is shown, and the
    version is tried again with growing pauses. A registry that is down, or has lost its champion,
    never stops what is loaded. At start-up with the registry down, the last version that served is
    loaded from `folder`, digest checked.
    """

    def __init__(
        self,
        slots: Slots,
        metrics: Metrics,
        folder: Path,
        *,
        registry: Callable[[], Champions],
        load: Callable[[Path, str], Model] | None = None,
        poll_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._metrics = metrics
        self._folder = folder
        self._open = registry
        self._registry: Champions | None = None
        self._load = load or _load
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._retries: dict[str, tuple[float, float]] = {}  # version: (when again, pause)
        self._registry_faults = 0
        self._stop = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def first_look(self, timeout: float) -> None:
        """Wait until the registry has been looked at once, and its champion loaded if it has one.

        A worker beside others waits for this before it takes connections: the port is shared, so
        its 'not ready' would be an answer to a request that another could have served."""
        self._looked.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Stop the thread; a load under way is given up with the process."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step()
            self._looked.set()
            self._stop.wait(self._pause())

    def _pause(self) -> float:
        return min(self._poll_seconds * 2.0 ** min(self._registry_faults, 10), _LONGEST_POLL)

    def step(self) -> bool:
        """One look at the registry. True when a new version took over."""
        try:
            if self._registry is None:
                self._registry = self._open()
            release = self._registry.champion()
        except Exception as fault:  # whatever its client raises, what is loaded keeps serving
            self._registry_down(fault)
            return self._slots.current is None and self._from_disk()
        self._registry_faults = 0
        self._metrics.registry_seen()
        if release is None or self._serves(release) or self._too_early(release):
            return False
        return self._take(release)

    def _registry_down(self, fault: Exception) -> None:
        self._registry_faults += 1
        self._metrics.registry_failed()
        if self._registry_faults in (1, 10, 100):  # once, and a reminder; not every poll
            log.warning("the registry does not answer (%d times): %s", self._registry_faults, fault)

    def _serves(self, release: Release) -> bool:
        current = self._slots.current
        return current is not None and current.release.version == release.version

    def _too_early(self, release: Release) -> bool:
        again, _ = self._retries.get(release.version, (0.0, 0.0))
        return release.version in self._retries and self._clock() < again

    def _take(self, release: Release) -> bool:
        assert self._registry is not None
        try:
            slot = self._loaded(release, self._registry.download(release.version, self._folder))
        except Exception as fault:  # a bad bundle can fail in any way; none of them may replace
            self._failed(release, fault)
            return False
        self._swap(slot)
        self._remember(release)
        return True

    def _loaded(self, release: Release, bundle: Path) -> Slot:
        started = time.perf_counter()
        model = self._load(bundle, release.digest)
        model.self_check()
        log.info("version %s loaded in %.2f s", release.version, time.perf_counter() - started)
        return Slot(release, model)

    def _swap(self, slot: Slot) -> None:
        old = self._slots.current
        self._slots.swap(slot)
        self._retries.pop(slot.release.version, None)
        self._metrics.swapped(slot.release.version, old.release.version if old else None)
        log.info(
            "version %s serves, window %s, before it %s",
            slot.release.version,
            slot.release.window_id,
            old.release.version if old else "none",
        )

    def _failed(self, release: Release, fault: Exception) -> None:
        _, pause = self._retries.get(release.version, (0.0, _FIRST_RETRY / 2))
        pause = min(2 * pause, _LONGEST_RETRY)
        self._retries[release.version] = (self._clock() + pause, pause)
        self._slots.failure = Failure(release.version, type(fault).__name__, datetime.now(UTC))
        self._metrics.load_failed(release.version)
        log.error(
            "version %s was not loaded, next try in %.0f s, the old one keeps serving: %s",
            release.version,
            pause,
            fault,
        )

    @property
    def _note(self) -> Path:
        return self._folder / "last.json"

    def _remember(self, release: Release) -> None:
        """Write which version serves, for a start with the registry down."""
        note = {**asdict(release), "tags": dict(release.tags)}
        fresh = self._note.with_suffix(f".{os.getpid()}.tmp")  # workers share the folder
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(note), encoding="utf-8")
            fresh.replace(self._note)
        except OSError as fault:
            log.warning("could not note the served version: %s", fault)

    def _from_disk(self) -> bool:
        """Serve what served last, digest checked, while the registry is down."""
        try:
            release = Release(**json.loads(self._note.read_text(encoding="utf-8")))
            if self._too_early(release):
                return False
        except (OSError, ValueError, TypeError):
            return False
        try:
            slot = self._loaded(release, self._folder / release.version)
        except Exception as fault:
            self._failed(release, fault)
            return False
        log.warning("the registry is down: version %s serves from disk", release.version)
        self._swap(slot)
        return True


def _load(bundle: Path, digest: str) -> Model:
    from models.bundle import Predictor

    model: Model = Predictor.load(bundle, digest=digest)
    if torch := sys.modules.get("torch"):  # one thread a worker: parallelism is over workers
        torch.set_num_threads(1)
    return model
