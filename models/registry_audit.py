"""An alias that somebody moved past everfit: told from everfit's own moves, and recorded once.

Every move of everfit's writes its story to the version first, then the alias, then the model's
record of who is champion. So where alias and record differ, either one of its processes died after
the alias (the version tells of a move from the recorded champion), or a person has moved it.
Nothing here knows MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from models import registry_log as log
from models.records import Release
from models.registry_aliases import BARRED
from models.registry_approvals import RECORD, WORD, Approvals, approval, approval_text
from models.registry_log import CHAMPION
from models.registry_stages import TAG, readable, stage_text

OUTSIDE = "outside everfit"
FOREIGN = "everfit.foreign_at"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moved:
    """A champion that everfit did not choose; `version` None: the alias is gone."""

    version: str | None
    before: str | None  # the champion that everfit knows of
    at: str  # ISO time at which it was seen
    ours: bool = True  # everfit registered it, so it can be checked and served
    against: tuple[str, ...] = ()  # what everfit had said against it: gate=refused, ...

    def __str__(self) -> str:
        was = f"version {self.before}" if self.before else "no champion"
        if self.version is None:
            return f"the alias champion was deleted outside everfit; it was {was}"
        said = f"the alias champion was moved outside everfit from {was} to version {self.version}"
        if not self.ours:
            return f"{said}, which everfit did not register: it is not served, {was} stays"
        return said + (f", against which stands {', '.join(self.against)}" if self.against else "")


def ours(release: Release) -> bool:
    """Whether everfit registered the version: one without a digest cannot be checked."""
    return bool(release.digest and release.window_id)


class Audited(Approvals):
    """Looks for hands on the alias, above a store of versions."""

    def hand_moved(self) -> Moved | None:
        """What `audit` would find, without writing anything; its time is empty."""
        found, recorded = self._by_alias(CHAMPION), self._record().get("champion") or None
        if found is None:
            return None if recorded is None else Moved(None, recorded, "")
        if found.version == recorded or self._own(found, recorded):
            return None
        against = [
            f"{tag}={found.tags[tag]}"
            for tag in ("gate", "rejected_at", "rolled_back_at", WORD)
            if found.tags.get(tag, "passed") not in ("passed", "approved")
        ]
        return Moved(found.version, recorded, "", ours(found), tuple(against))

    def audit(self, now: datetime, seen: str | None = None) -> Moved | None:
        """Record a move of the alias past everfit, once; None where there was none.

        The version gets the tags moved_by, moved_at (`seen`, if somebody saw it earlier),
        moved_from and previous_champion, so that a roll-back finds its way. What everfit had said
        against it is lifted: a person has decided. A roll-out of the version, or of the champion
        that it takes the place of, is over. One that everfit did not register is marked, and no
        roll-back leads to it. An alias that is gone is told at every look, and nothing is written.
        """
        at = log.moment(now)
        if self.hand_moved() is None:  # mostly; a lock is taken only when there is something to do
            return None
        with self._locked("alias"), self._speaking("look at who moved the alias"):
            moved = self.hand_moved()
            if moved is None or moved.version is None:
                return moved and replace(moved, at=at)
            release, moved = self.version(moved.version), replace(moved, at=seen or at)
            before = self._find(moved.before) if moved.before else None
            link = moved.before or ""
            if before is not None and FOREIGN in before.tags:
                link = before.tags.get("previous_champion", "")
            if link == release.version:
                link = release.tags.get("previous_champion", "")
            tags = {
                "moved_by": OUTSIDE,
                "moved_at": moved.at,
                "moved_from": moved.before or "",
                "previous_champion": link,
            }
            tags |= self._adapted(release, moved) if moved.ours else {FOREIGN: at}
            self._tag(release.version, tags)
            gone = [tag for tag in BARRED if tag in release.tags and moved.ours]
            self._untag(release.version, gone)
            self._overtake(before, moved)
            self._drop_challenger(release.version)
            self._write_record({"champion_previous": link, "champion": release.version})
            return moved

    def _own(self, champion: Release, recorded: str | None) -> bool:
        """Whether a move of everfit's from the recorded champion led here, and died half-way."""
        tags = champion.tags
        if recorded is None:
            return "promoted_at" in tags
        holder = self._find(recorded)
        since = _latest(holder.tags if holder else {})
        moves = (("promoted_at", "previous_champion"), ("restored_at", "restored_from"))
        return any(
            tags.get(of) == recorded and _moment(tags.get(when)) >= since and when in tags
            for when, of in moves
        )

    def _adapted(self, release: Release, moved: Moved) -> dict[str, str]:
        """A roll-out or a question that was open about the version is answered by the hand."""
        tags: dict[str, str] = {}
        stage, asked = readable(release), approval(release)
        why = f"made champion {OUTSIDE}"
        if stage is not None and stage.mode in ("shadow", "canary", "bake"):
            ended = replace(stage, mode="done", share=0.0, since=moved.at, why=why)
            tags[TAG] = stage_text(ended)
        if asked is not None and not asked.passed:
            given = replace(asked, state="approved", by=OUTSIDE, why=why, at=moved.at, how="alias")
            tags |= {RECORD: approval_text(given), WORD: "approved"}
        return tags

    def _overtake(self, before: Release | None, moved: Moved) -> None:
        """The champion of before bakes no more."""
        stage = readable(before)
        if before is None or stage is None or stage.mode != "bake":
            return
        why = f"version {moved.version} was made champion {OUTSIDE}"
        ended = replace(stage, mode="rolled back", since=moved.at, why=why)
        self._tag(before.version, {TAG: stage_text(ended)})


def _latest(tags: Mapping[str, str]) -> datetime:
    """When a version became champion last; the beginning of time for one that is gone."""
    return max(_moment(tags.get(key)) for key in ("promoted_at", "restored_at", "moved_at"))


def _moment(text: str | None) -> datetime:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return _NEVER
    return found if found.tzinfo else found.replace(tzinfo=UTC)
