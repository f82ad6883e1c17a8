"""The thread that follows the registry: fetch, load beside the old, check, warm, swap.

The champion is current. A challenger that its tag calls shadow or canary stands beside it, and
while a new champion bakes, the one before it is kept warm, so that the way back is one assignment.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from deployments.serving import bundles, hooks, loading
from deployments.serving.attempts import DEATHS, Attempts, Killed
from deployments.serving.hand_moves import HandMoves, refuse_foreign
from deployments.serving.metrics import Metrics
from deployments.serving.slots import Failure, Model, Slot, Slots
from models.errors import AliasLost
from models.records import Release
from models.registry_stages import readable
from tasks import undo

log = logging.getLogger(__name__)

_FIRST_RETRY = 5.0  # seconds before a version that failed to load is tried again, then doubled
_LONGEST_RETRY = 300.0
_AFTER_A_HANG = 3600.0
_LONGEST_POLL = 30.0  # seconds between looks at a registry that is down
_PROOF = 20  # answered rows after which a version has not killed its process
_PROOF_SECONDS = 30.0  # or so long beside the champion
_LAST, _PROVEN = "last.json", "proven.json"  # notes of what served, and of what has answered
_NOTE_POLL = 0.05  # seconds between looks for a note that takes the champion back


class Champions(Protocol):
    """The part of `models.registry.Registry` that a server needs."""

    def champion(self) -> Release | None: ...

    def challenger(self) -> Release | None: ...

    def previous(self) -> Release | None: ...

    def download(self, version: str, folder: Path) -> Path: ...


class Follower:
    """Keeps `slots` at what the registry says.

    A version takes traffic only when its digest is right and it has answered its own input example
    as it did when it was made; otherwise the old one keeps serving, the failure is shown, and the
    version is tried again with growing pauses. A registry that is down, or has lost its champion,
    never stops what is loaded. At start-up with the registry down, the last version that served is
    loaded from `folder`, digest checked. A note in `folder` (`tasks.undo`) takes the champion back
    at once, whatever the registry says yet.

    One that takes longer than `load_seconds` to load is given up for an hour.

    A version that has killed `DEATHS` processes while it was loaded or asked its first questions is
    refused, and where nothing is loaded yet, the last one that has answered serves from `folder`.
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
        load_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._metrics = metrics
        self._folder = folder
        self._open = registry
        self._registry: Champions | None = None
        self._load = load or loading.load
        self._poll_seconds = poll_seconds
        self._load_seconds = load_seconds
        self._clock = clock
        self._retries: dict[str, tuple[float, float]] = {}  # version: (when again, pause)
        self._registry_faults = 0
        self._before: Release | None = None  # whom a roll-back brings back
        self._before_of: str | None = None  # the champion that it was before
        self._pruned_of: str | None = None
        self._undo: undo.Undo | None = None
        self._undo_stamp: tuple[int, int] | None = None
        self._call = hooks.called(folder)
        self._hands = HandMoves(folder)
        self._hands_of: str | None = None  # the champion that was last looked at; '': a lost one
        self._attempts = Attempts(folder / "attempts")
        self._stop = threading.Event()
        self._wake = threading.Event()
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

    def wake(self) -> None:
        """Look at the registry now instead of at the next poll."""
        self._wake.set()

    def close(self, timeout: float = 5.0) -> None:
        """Stop the thread; a load under way is given up with the process."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        self._attempts.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step()
            self._looked.set()
            deadline = time.monotonic() + self._pause()
            while (left := deadline - time.monotonic()) > 0:
                if self._wake.wait(min(left, _NOTE_POLL)) or self._noted() or self._called():
                    break
            self._wake.clear()

    def _pause(self) -> float:
        return min(self._poll_seconds * 2.0 ** min(self._registry_faults, 10), _LONGEST_POLL)

    def step(self) -> bool:
        """One look at the note and the registry. True when a new version took over."""
        self._prove()
        if self._obeyed():
            return True
        try:
            if self._registry is None:
                self._registry = self._open()
            champion = target = self._registry.champion()
            challenger = self._registry.challenger()
            if champion is not None and self._undone(champion):  # the registry does not know yet
                target = self._registry.previous() or champion
        except AliasLost:  # it answers: somebody has deleted the alias, and what serves stays
            self._registry_faults = 0
            self._looked_at_hands("")
            return self._slots.current is None and self._from_disk()
        except Exception as fault:  # whatever its client raises, what is loaded keeps serving
            self._registry_down(fault)
            return self._slots.current is None and self._from_disk()
        self._registry_faults = 0
        self._metrics.registry_seen()
        if champion is None or target is None:
            if not self._looked.is_set():
                log.info(
                    "there is no champion yet: `everfit train` makes the first, served at once"
                )
            return False
        taken = False
        if not self._serves(target) and not self._too_early(target):
            taken = self._take(target) or (self._slots.current is None and self._from_disk())
        self._looked_at_hands(champion.version)
        if target is champion and self._serves(champion):
            self._beside(champion, challenger)
        return taken

    def _looked_at_hands(self, champion: str) -> None:
        """Whenever the alias says something new, whether it was everfit that moved it."""
        if champion != self._hands_of:
            self._hands_of = champion
            current, failure = self._slots.current, self._slots.failure
            self._hands.look(
                self._registry,
                current.release.version if current else None,
                failure.version if failure else None,
            )

    # The note that takes the champion back

    def _called(self) -> bool:
        """Whether a webhook came, to this worker or to another."""
        before, self._call = self._call, hooks.called(self._folder)
        return self._call != before

    def _noted(self) -> bool:
        """Whether the note has come, changed or gone since it was read."""
        return undo.stamp(self._folder) != self._undo_stamp

    def _undone(self, release: Release) -> bool:
        return self._undo is not None and self._undo.version == release.version

    def _obeyed(self) -> bool:
        """Return to the champion before, if a note says that the current one must not answer."""
        if self._noted():
            self._undo_stamp = undo.stamp(self._folder)
            self._undo = undo.read(self._folder)
        current, before = self._slots.current, self._before
        if current is None or before is None or not self._undone(current.release):
            return False
        if self._before_of != current.release.version or self._too_early(before):
            return False
        return self._take(before, from_disk=True)

    # Beside the champion

    def _beside(self, champion: Release, challenger: Release | None) -> None:
        """What stands beside the champion that serves; no fault here may touch it."""
        try:
            self._keep_previous(champion)
            self._follow(champion, challenger)
            if self._pruned_of != champion.version:
                kept = (champion, self._before, challenger)
                proven = self._said(_PROVEN)
                kept += (proven,)
                bundles.prune(self._folder, {r.version for r in kept if r is not None})
                self._pruned_of = champion.version
        except Exception as fault:
            self._registry_down(fault)

    def _keep_previous(self, champion: Release) -> None:
        """On disk, so that the way back needs no registry; while it bakes, also in memory."""
        assert self._registry is not None
        if self._before_of != champion.version:
            self._before = self._registry.previous()
            self._before_of = champion.version
            if self._before is not None:
                self._registry.download(self._before.version, self._folder)
        stage, before, warm = readable(champion), self._before, self._slots.previous
        # a stage of before the promotion: that it bakes will be noted in a moment
        baking = stage is not None and stage.mode in ("shadow", "canary", "bake")
        if not baking or before is None:
            if warm is not None:
                self._slots.warm(None)
        elif warm is not None and warm.release.version == before.version:
            return
        elif not self._too_early(before):
            self._slots.warm(self._fetched(before, from_disk=True))

    def _follow(self, champion: Release, challenger: Release | None) -> None:
        """Load, share out, or drop the challenger, as its stage says."""
        stage, loaded = readable(challenger), self._slots.challenger
        if (
            challenger is None
            or stage is None
            or stage.mode not in ("shadow", "canary")
            or stage.opponent != champion.version
        ):
            if loaded is not None:
                self._slots.try_out(None)
                log.info("version %s is no longer beside the champion", loaded.release.version)
            return
        share = stage.share if stage.mode == "canary" else 0.0
        if loaded is None or loaded.release.version != challenger.version:
            if self._too_early(challenger):
                return
            slot = self._fetched(challenger)
            if slot is None:
                return
            loaded = slot
        canary = self._slots.canary
        if loaded is not self._slots.challenger or share != (canary.share if canary else 0.0):
            self._slots.try_out(loaded, share)
            log.info("version %s is %s, share %g", challenger.version, stage.mode, share)

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

    def _take(self, release: Release, *, from_disk: bool = False) -> bool:
        slots = self._slots
        warm = (slots.challenger, slots.previous)
        slot = next((s for s in warm if s and s.release.version == release.version), None)
        if slot is None:
            slot = self._fetched(release, from_disk=from_disk)
        if slot is None:
            return False
        self._swap(slot)
        self._remember(release)
        return True

    def _fetched(self, release: Release, *, from_disk: bool = False) -> Slot | None:
        """A slot of the version; None, and noted, when it cannot be had."""
        try:
            refuse_foreign(release)
            if from_disk:
                return self._ready(release, self._folder / release.version)
            assert self._registry is not None
            return self._ready(release, self._registry.download(release.version, self._folder))
        except Exception as fault:  # a bad bundle can fail in any way; none of them may replace
            self._failed(release, fault)
            return None

    def _ready(self, release: Release, bundle: Path) -> Slot:
        proven = self._said(_PROVEN)
        if proven is not None and proven.digest == release.digest:
            deaths = 0  # it has answered somewhere: processes die of something else
        else:
            deaths = self._attempts.deaths(release)
        if deaths >= DEATHS:
            raise Killed(f"it has killed {deaths} processes within an hour")
        self._attempts.begin(release)
        try:
            recent = list(self._slots.recent)
            return loading.within(
                self._load_seconds, lambda: loading.ready(release, bundle, self._load, recent)
            )
        except BaseException:
            self._attempts.give_up(release)
            raise

    def _prove(self) -> None:
        """Note that a version has answered, and has not killed its process."""
        for release, seconds in self._attempts.at_risk():
            serves = self._serves(release)
            if self._metrics.answered_rows(release.version) >= _PROOF:
                self._attempts.proven(release)
                if serves:
                    self._remember(release, _PROVEN)
            elif not serves and seconds > _PROOF_SECONDS:
                self._attempts.proven(release)

    def _swap(self, slot: Slot) -> None:
        old = self._slots.current
        self._slots.swap(slot)
        self._retries.pop(slot.release.version, None)
        version = slot.release.version
        self._metrics.swapped(version, old.release.version if old else None, slot.runtime)
        log.info(
            "version %s serves, window %s, before it %s",
            slot.release.version,
            slot.release.window_id,
            old.release.version if old else "none",
        )

    def _failed(self, release: Release, fault: Exception) -> None:
        _, pause = self._retries.get(release.version, (0.0, _FIRST_RETRY / 2))
        pause = min(2 * pause, _LONGEST_RETRY)
        if isinstance(fault, loading.TakesTooLong):
            pause = _AFTER_A_HANG  # each try leaves a thread behind
        self._retries[release.version] = (self._clock() + pause, pause)
        self._slots.failure = Failure(release.version, type(fault).__name__, datetime.now(UTC))
        self._metrics.load_failed(release.version)
        log.error(
            "version %s was not loaded, next try in %.0f s, the old one keeps serving: %s",
            release.version,
            pause,
            fault,
        )

    def _remember(self, release: Release, note: str = _LAST) -> None:
        """Write which version serves, for a start with the registry down."""
        said = {**asdict(release), "tags": dict(release.tags)}
        path = self._folder / note
        fresh = path.with_suffix(f".{os.getpid()}.tmp")  # workers share the folder
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(said), encoding="utf-8")
            fresh.replace(path)
        except OSError as fault:
            log.warning("could not note the served version: %s", fault)

    def _said(self, note: str) -> Release | None:
        try:
            return Release(**json.loads((self._folder / note).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _from_disk(self) -> bool:
        """Serve what served last or, where that fails, what has answered last; digest checked."""
        for note in (_LAST, _PROVEN):
            release = self._said(note)
            if release is None or self._too_early(release):
                continue
            slot = self._fetched(release, from_disk=True)
            if slot is None:
                continue
            log.warning("version %s serves from disk, not the registry's champion", release.version)
            self._swap(slot)
            return True
        return False
