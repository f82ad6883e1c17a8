"""What a process that died may have left half done in the registry, and its completion.

Everything here may be repeated, and is safe beside a process at work: each change is made under the
lock that the work itself holds, after a second look.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from models import registry_log as log
from models.errors import RegistryFault
from models.records import Release
from models.registry_aliases import Aliases
from models.registry_log import CHALLENGER, milliseconds
from models.registry_runs import Registration

_AWAY = {"rejected_at", "rolled_back_at"}  # tags of versions that were turned away


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is not ended; `version`: what was made of it, '' for nothing."""

    run_id: str
    window_id: str
    version: str = ""


class Upkeep(Aliases, Registration):
    """Looks for what was left, and completes it, above a store of versions."""

    def open_runs(self) -> tuple[OpenRun, ...]:
        """Runs of registrations that have not ended: one is at work, or died."""
        with self._speaking(f"list the runs of {self.name}"):
            made = {r.run_id: r.version for r in self.versions()}
            return tuple(
                OpenRun(run.info.run_id, run.data.tags["window_id"], made.get(run.info.run_id, ""))
                for run in self._running()
                if "window_id" in run.data.tags
            )

    def close_run(self, run_id: str, now: datetime) -> bool:
        """End a run that no version came of, and drop its files; False where one has meanwhile.

        A registration at work holds the lock, so what is open under it was left by the dead.
        """
        with self._locked("register"), self._speaking(f"close run {run_id}"):
            found = self._call("get_run", run_id)
            if found.info.status != "RUNNING" or any(r.run_id == run_id for r in self.versions()):
                return False
            self._clear(run_id)
            self._call("set_terminated", run_id, "KILLED", milliseconds(now))
        return True

    def complete_move(self) -> Release | None:
        """Complete the record of a move whose process died after it set the alias; the champion."""
        with self._locked("alias"), self._speaking("complete a move of the alias"):
            champion = self.champion()
            if champion is not None:
                self._heal(champion)
                self._drop_challenger(champion.version)
            return champion

    def drop_challenger(self, version: str) -> bool:
        """Take the alias `challenger` from a version that is champion or was turned away."""
        with self._locked("alias"), self._speaking(f"take the alias from version {version}"):
            waiting, champion = self._by_alias(CHALLENGER), self._holder().version
            if waiting is None or waiting.version != version:
                return False
            if version != champion and not _AWAY & waiting.tags.keys():
                raise RegistryFault(
                    f"only a champion or a version that was turned away loses the alias; version "
                    f"{version} waits for its promotion: reject it instead"
                )
            self._drop_alias(CHALLENGER)
            return True

    def recorded_champion(self) -> str | None:
        """Who is champion by the model's own record, which follows the alias."""
        return self._record().get("champion") or None

    def challenger_version(self) -> str | None:
        """The version that is called challenger."""
        found = self._by_alias(CHALLENGER)
        return None if found is None else found.version

    def _running(self) -> list[Any]:
        if not self._exists():
            return []
        found = self._call("get_experiment_by_name", self.name)
        if found is None:
            return []
        condition = "attributes.status = 'RUNNING'"
        return list(self._call("search_runs", [found.experiment_id], filter_string=condition))

    def _exists(self) -> bool:
        raise NotImplementedError


__all__ = ["OpenRun", "Upkeep", "log"]
