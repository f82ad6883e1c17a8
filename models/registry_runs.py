"""Registering: all or nothing, once per window, whatever fails half-way.

A version is made only when every file of its run is in place. So a process that dies leaves an
open run without a version, never half a version, and the next `register` of that window ends it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import registry_files
from models import registry_log as log
from models.errors import RegistryFault
from models.records import Candidate, Release, Verdict
from models.registry_log import BUNDLE, CHALLENGER, MODEL, milliseconds

if TYPE_CHECKING:
    from models.bundle import Predictor

logger = logging.getLogger(__name__)


class Registration(ABC):
    """`register`, above a store that a subclass gives. `_call` reaches MLflow's client by name."""

    name: str
    artifacts: Path
    _served: bool

    @abstractmethod
    def by_window(self, window_id: str) -> Release | None:
        """The version that this window caused, if it is registered already."""

    @abstractmethod
    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any: ...

    @abstractmethod
    def _search(self, condition: str) -> tuple[Release, ...]: ...

    @abstractmethod
    def _by_alias(self, alias: str) -> Release | None: ...

    @abstractmethod
    def _set_alias(self, alias: str, version: str) -> None: ...

    @abstractmethod
    def _experiment(self) -> str:
        """The id of the model's experiment; it and the model are made on the first registration."""

    @abstractmethod
    def _log_numbers(
        self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float], now: datetime
    ) -> None: ...

    @abstractmethod
    def _save_model(self, folder: Path, bundle: Path, predictor: Predictor, run_id: str) -> None:
        """Write the MLflow model around a bundle into `folder`."""

    @abstractmethod
    def _locked(self, what: str) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _speaking(self, what: str) -> AbstractContextManager[None]: ...

    def register(
        self,
        bundle: Path,
        candidate: Candidate,
        verdict: Verdict,
        *,
        window_id: str,
        files: Mapping[str, Path] | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        now: datetime,
    ) -> Release:
        """Log the bundle and all its evidence as one run, and make a version of it.

        `files` maps artifact paths of the run to local files or folders. The version gets the
        alias `challenger` if it passed its gate. The same `window_id` again returns the version
        that is there. If anything fails, for instance because the disk is full, no version and no
        moved alias remain, the run is marked FAILED with the reason, and a retry starts afresh.
        Raises RegistryFault; BundleFault if the bundle is not the candidate's.
        """
        at, files = log.moment(now), files or {}
        log.check_window(window_id)
        with self._locked("register"):
            known = self.by_window(window_id)
            if known is not None:
                return self._finish(known, now)
            log.check_files(files)
            predictor = registry_files.checked(Path(bundle), candidate)
            labels = log.version_tags(
                candidate,
                verdict,
                tags or {},
                window_id=window_id,
                at=at,
                runtime=predictor.runtime,
                runtime_reason=predictor.reason,
            )
            with self._speaking(f"register window {window_id}"):
                experiment = self._experiment()
                self._close_orphans(experiment, window_id, now)
                run = self._call(
                    "create_run",
                    experiment,
                    start_time=milliseconds(now),
                    tags=labels,
                    run_name=window_id,
                )
            run_id = run.info.run_id
            try:
                with self._speaking(f"register window {window_id}"):
                    self._log_numbers(
                        run_id,
                        log.run_params(candidate, params or {}),
                        log.run_metrics(candidate, verdict, metrics or {}),
                        now,
                    )
                    self._upload(run_id, Path(bundle), predictor, candidate, verdict, files)
                    made = self._call(
                        "create_model_version",
                        self.name,
                        f"{run.info.artifact_uri}/{MODEL}",
                        run_id,
                        tags=labels,
                    )
                    return self._finish(log.release(made), now)
            except BaseException as fault:
                self._undo(run_id, window_id, fault, now)
                raise

    def resume(self, window_id: str, now: datetime) -> Release | None:
        """The version that this window caused, complete; None if it has caused none.

        A process that died after it had made the version left its run open and its alias unset.
        """
        known = self.by_window(window_id)
        if known is None:
            return None
        with self._locked("register"):
            return self._finish(known, now)

    def _upload(
        self,
        run_id: str,
        bundle: Path,
        predictor: Predictor,
        candidate: Candidate,
        verdict: Verdict,
        files: Mapping[str, Path],
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="everfit-register-") as scratch:
            root, link = Path(scratch) / "run", Path(scratch) / Path(BUNDLE).name
            root.mkdir()
            link.symlink_to(bundle.resolve())
            log.stage(root, candidate, verdict, files)
            self._save_model(root / MODEL, link, predictor, run_id)
            self._call("log_artifacts", run_id, str(root))
        if not self._served:
            copied = self._folder(run_id) / "artifacts" / BUNDLE
            if not registry_files.intact(copied, candidate.digest):
                raise RegistryFault(
                    f"the uploaded bundle must have the digest {candidate.digest}; the copy at "
                    f"{copied} has not: check the disk, then register again"
                )

    def _finish(self, release: Release, now: datetime) -> Release:
        """What comes after a version exists; done again when a process died in between."""
        with self._speaking(f"finish the registration of version {release.version}"):
            if self._call("get_run", release.run_id).info.status != "FINISHED":
                self._call("set_terminated", release.run_id, "FINISHED", milliseconds(now))
            settled = ("promoted_at", "rejected_at", "rolled_back_at", "restored_at")
            if release.tags.get("gate") != "passed" or any(t in release.tags for t in settled):
                return release
            with self._locked("alias"):
                waiting = self._by_alias(CHALLENGER)
                if waiting is None or int(waiting.version) < int(release.version):
                    self._set_alias(CHALLENGER, release.version)
        return release

    def _undo(self, run_id: str, window_id: str, fault: BaseException, now: datetime) -> None:
        """After a failed registration: no version, no half-copied files, a run that says why."""
        try:
            for made in self._search(f"name = '{self.name}' and run_id = '{run_id}'"):
                self._call("delete_model_version", self.name, made.version)
            self._clear(run_id)
            reason = f"{type(fault).__name__}: {fault}"[:4_000]
            self._call("set_tag", run_id, "fault", reason)
            self._call("set_terminated", run_id, "FAILED", milliseconds(now))
        except Exception:
            logger.exception("run %s of window %s could not be marked failed", run_id, window_id)

    def _close_orphans(self, experiment: str, window_id: str, now: datetime) -> None:
        """End the runs that a killed process left open for this window, and drop their files."""
        condition = f"tags.window_id = '{window_id}' and attributes.status = 'RUNNING'"
        for run in self._call("search_runs", [experiment], filter_string=condition):
            logger.warning("run %s of window %s was left open: killed", run.info.run_id, window_id)
            self._clear(run.info.run_id)
            self._call("set_terminated", run.info.run_id, "KILLED", milliseconds(now))

    def _folder(self, run_id: str) -> Path:
        return self.artifacts / run_id

    def _clear(self, run_id: str) -> None:
        if not self._served and run_id:
            shutil.rmtree(self._folder(run_id), ignore_errors=True)
