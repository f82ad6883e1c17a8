"""Who is champion: compare-and-set promotion, roll-back and rejection, on any store of versions.

MLflow's aliases are last-writer-wins and without history. Here every move of an alias happens
under a lock, is compared with what the caller expected, leaves who, why, the decision and the
previous champion as tags of the version, and is read back. Nothing here knows MLflow.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from models import registry_log as log
from models.errors import AliasLost, Overtaken, RegistryFault
from models.records import Release
from models.registry_log import CHALLENGER, CHAMPION

logger = logging.getLogger(__name__)

# Tags that keep a version from becoming champion; the last one is of somebody else's versions.
BARRED = ("rejected_at", "rolled_back_at", "everfit.foreign_at")


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who is champion, and whether the alias still says so (`lost`: only the record does)."""

    version: str | None
    lost: bool = False


class Aliases(ABC):
    """The aliases `champion` and `challenger` of one model, above a subclass's store."""

    name: str

    # What a store gives

    @abstractmethod
    def version(self, version: str | int) -> Release:
        """One version with its tags as they are now. Raises RegistryFault if there is none."""

    @abstractmethod
    def versions(self) -> tuple[Release, ...]:
        """All versions, oldest first."""

    @abstractmethod
    def _find(self, version: str) -> Release | None:
        """The same, or None."""

    @abstractmethod
    def _by_alias(self, alias: str) -> Release | None:
        """The version that `alias` points to; None if there is no such alias or no model yet."""

    @abstractmethod
    def _set_alias(self, alias: str, version: str) -> None: ...

    @abstractmethod
    def _drop_alias(self, alias: str) -> None: ...

    @abstractmethod
    def _tag(self, version: str, tags: Mapping[str, str]) -> None: ...

    @abstractmethod
    def _untag(self, version: str, keys: Sequence[str]) -> None: ...

    @abstractmethod
    def _record(self) -> Mapping[str, str]:
        """Tags of the model itself: they outlive its versions."""

    @abstractmethod
    def _write_record(self, tags: Mapping[str, str]) -> None: ...

    @abstractmethod
    def _require_files(self, release: Release) -> None:
        """Raise RegistryFault when it is plain that the version's files are gone."""

    @abstractmethod
    def _locked(self, what: str) -> AbstractContextManager[None]:
        """Hold the lock `what` of this model against other threads and processes."""

    @abstractmethod
    def _speaking(self, what: str) -> AbstractContextManager[None]:
        """Turn the store's own exceptions into RegistryFaults about `what`."""

    # Reading

    def champion(self) -> Release | None:
        """The version that serves, or None before the first promotion.

        Raises AliasLost when the alias has vanished though there was a champion: deleting a
        version in MLflow silently deletes its alias, and 'no champion' would be a lie.
        """
        found = self._by_alias(CHAMPION)
        if found is None and (lost := self._holder()).lost:
            raise AliasLost(
                f"version {lost.version} of {self.name} was promoted, but the alias {CHAMPION!r} "
                "is gone (deleting a version deletes its alias): call rollback, or promote a "
                f"version with expected={lost.version!r}"
            )
        return found

    def challenger(self) -> Release | None:
        """The newest version that passed its gate and waits for promotion, if any."""
        return self._by_alias(CHALLENGER)

    def previous(self) -> Release | None:
        """The version that `rollback` would go back to; None where there is none."""
        holder = self._holder()
        try:
            return self._before(
                holder, None if holder.version is None else self._find(holder.version)
            )
        except RegistryFault:
            return None

    # Moving

    def promote(
        self,
        version: str | int,
        *,
        expected: str | None,
        decision_id: str,
        who: str,
        why: str,
        now: datetime,
        force: bool = False,
    ) -> Release:
        """Make `version` the champion if the champion still is `expected` (None: there is none).

        Already champion: nothing changes. A version that its gate refused, that was rejected or
        rolled back, is refused unless `force`, which a person may say.
        """
        at = log.moment(now)
        with self._locked("alias"), self._speaking(f"promote version {version}"):
            release, holder = self.version(version), self._holder()
            if holder.version == release.version and not holder.lost:
                self._heal(release)
                self._drop_challenger(release.version)
                return release
            self._compare(holder, expected)
            barred = self._bars(release)
            if barred and not force:
                raise RegistryFault(
                    "only a version that passed its gate and was never rejected or rolled back "
                    f"becomes champion; version {release.version} has "
                    f"{', '.join(f'{tag}={release.tags[tag]}' for tag in barred)}: retrain, or "
                    "promote with force=True if you know better"
                )
            previous = holder.version
            if previous == release.version:  # its alias was lost: it comes back as it was
                previous = release.tags.get("previous_champion")
            elif holder.lost and previous is not None and self._find(previous) is None:
                previous = self._record().get("champion_previous")
            moved = self._move(
                release,
                {
                    "previous_champion": previous or "",
                    "promoted_at": at,
                    "who": who,
                    "why": why,
                    "decision_id": decision_id,
                },
                drop=[tag for tag in barred if tag in BARRED],
            )
            self._drop_challenger(moved.version)
            return moved

    def rollback(
        self,
        *,
        decision_id: str,
        who: str,
        why: str,
        now: datetime,
        expected: str | None = None,
    ) -> Release:
        """Make the previous champion champion again; the one that goes never comes back this way.

        The same `decision_id` again changes nothing, so that a retried task does not step back
        twice. Versions that were rolled back themselves are stepped over. Raises RegistryFault if
        the champion is not `expected` (when given), or if there is nothing to go back to.
        """
        at = log.moment(now)
        with self._locked("alias"), self._speaking("roll back"):
            holder = self._holder()
            current = None if holder.version is None else self._find(holder.version)
            if current is not None and not holder.lost and self._undone(decision_id, current):
                self._heal(current)
                return current
            if expected is not None:
                self._compare(holder, expected)
            target = self._before(holder, current)
            leaving = {
                "rolled_back_at": at,
                "rolled_back_why": why,
                "rolled_back_by": who,
                "rolled_back_decision_id": decision_id,
            }
            with self._tagged(current, leaving):
                return self._move(
                    target,
                    {
                        "restored_at": at,
                        "restored_from": holder.version or "",
                        "restored_why": why,
                        "restored_by": who,
                        "restored_decision_id": decision_id,
                    },
                )

    def reject(self, version: str | int, why: str, now: datetime) -> Release:
        """Record that `version` will not be promoted and take the alias `challenger` from it."""
        at = log.moment(now)
        with self._locked("alias"), self._speaking(f"reject version {version}"):
            release = self.version(version)
            if self._holder().version == release.version:
                raise RegistryFault(
                    f"a champion cannot be rejected; version {release.version} is champion: call "
                    "rollback"
                )
            if "rejected_at" not in release.tags:
                self._tag(release.version, {"rejected_why": why, "rejected_at": at})
            self._drop_challenger(release.version)
            return self.version(release.version)

    def _holder(self) -> _Holder:
        found = self._by_alias(CHAMPION)
        if found is not None:
            return _Holder(found.version)
        recorded = self._record().get("champion") or None
        return _Holder(recorded, lost=recorded is not None)

    def _bars(self, release: Release) -> list[str]:
        """The tags that say why `release` may not become champion."""
        barred = [tag for tag in BARRED if tag in release.tags]
        return [*barred, "gate"] if release.tags.get("gate") == "refused" else barred

    def _compare(self, holder: _Holder, expected: str | None) -> None:
        if holder.version != (None if expected is None else str(expected)):
            raise Overtaken(
                f"the champion of {self.name} must still be {expected or 'nobody'}; it is "
                f"{holder.version or 'nobody'}: another process was faster, so judge again "
                "against the champion of now"
            )

    def _undone(self, decision_id: str, current: Release) -> bool:
        """Whether `decision_id` has taken back a version already that is not champion any more."""
        return any(
            release.tags.get("rolled_back_decision_id") == decision_id
            for release in self.versions()
            if release.version != current.version
        )

    def _before(self, holder: _Holder, current: Release | None) -> Release:
        """Whom to go back to: the nearest earlier champion that was not itself rolled back."""
        if holder.version is None:
            raise RegistryFault(
                f"there must be a champion to roll back; {self.name} has none: promote a version"
            )
        link = (
            current.tags.get("previous_champion")
            if current is not None
            else self._record().get("champion_previous")
        )
        seen = {holder.version}
        while link and link not in seen:
            seen.add(link)
            earlier = self._find(link)
            if earlier is None:
                break
            if not any(tag in earlier.tags for tag in BARRED):
                return earlier
            link = earlier.tags.get("previous_champion")
        raise RegistryFault(
            f"a roll-back needs an earlier champion that still exists and was not rolled back; "
            f"version {holder.version} of {self.name} has none: retrain, or promote a version by "
            "hand"
        )

    def _move(self, release: Release, tags: Mapping[str, str], drop: Sequence[str] = ()) -> Release:
        """Point `champion` at `release`. On a fault the alias and the tags are as they were."""
        self._require_files(release)
        before, record = self._holder(), self._record()
        previous = tags.get("previous_champion", release.tags.get("previous_champion", ""))
        with self._tagged(release, tags):
            try:
                self._set_alias(CHAMPION, release.version)
                seen = self._by_alias(CHAMPION)
                self._untag(release.version, drop)
                self._write_record({"champion_previous": previous, "champion": release.version})
            except BaseException:
                self._put_back(before, record)
                raise
            if seen is None or seen.version != release.version:
                raise RegistryFault(
                    f"the alias {CHAMPION!r} was set to version {release.version} and must read "
                    f"so; it reads {seen.version if seen else 'nothing'}: something moves aliases "
                    "without this lock, so look for it, then try again"
                )
        logger.info("champion of %s: %s -> %s", self.name, before.version, release.version)
        return self.version(release.version)

    def _heal(self, champion: Release) -> None:
        """Complete the record of a move whose process died after it set the alias."""
        if self._record().get("champion") != champion.version:
            previous = champion.tags.get("previous_champion", "")
            self._write_record({"champion_previous": previous, "champion": champion.version})

    def _put_back(self, before: _Holder, record: Mapping[str, str]) -> None:
        try:
            if before.version is None or before.lost:
                self._drop_alias(CHAMPION)
            else:
                self._set_alias(CHAMPION, before.version)
            self._write_record({k: record.get(k, "") for k in ("champion_previous", "champion")})
        except Exception:
            logger.exception("the alias of %s could not be put back to %s", self.name, before)

    @contextmanager
    def _tagged(self, release: Release | None, tags: Mapping[str, str]) -> Iterator[None]:
        """Write `tags` first, so that no move is without its story; take them back on a fault."""
        if release is None:
            yield
            return
        try:
            self._tag(release.version, tags)
            yield
        except BaseException:
            try:
                now = self.version(release.version).tags
                old = release.tags
                self._untag(release.version, [k for k in tags if k in now and k not in old])
                self._tag(release.version, {k: old[k] for k in tags if k in old})
            except Exception:
                logger.exception("tags of version %s could not be put back", release.version)
            raise

    def _drop_challenger(self, version: str) -> None:
        waiting = self._by_alias(CHALLENGER)
        if waiting is not None and waiting.version == version:
            self._drop_alias(CHALLENGER)
