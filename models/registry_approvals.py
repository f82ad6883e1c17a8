"""A person's word on a challenger, kept as tags of its version: nothing else may speak for it.

`everfit.approval` is for people: everfit writes `needed` there, and whoever decides on MLflow's
page changes it to `approved` or `rejected`, if they like with `everfit.approval.why` and
`everfit.approval.by` beside it (MLflow without accounts does not tell who set a tag).
`everfit.approval.record` is everfit's own: what was asked, until when, and what came of it. The
record names its version and digest, so that tags copied to another version say nothing there.
Nothing here knows MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from models import registry_log as log
from models.errors import RegistryFault
from models.records import Release
from models.registry_log import CHALLENGER
from models.registry_stages import TAG as STAGE
from models.registry_stages import Staged, Stages

WORD, WHY, BY = "everfit.approval", "everfit.approval.why", "everfit.approval.by"
RECORD = "everfit.approval.record"

State = Literal["needed", "approved", "rejected", "expired", "overtaken", "waived"]
PASSED = ("approved", "waived")

_WORDS = {"approved": "approved", "approve": "approved", "rejected": "rejected",
          "reject": "rejected"}  # fmt: skip
_LONGEST = 1_000  # characters of a reason or a name
_KEPT = 10  # words that came and did not count


@dataclass(frozen=True, slots=True)
class Approval:
    """What was asked of people about one version, and what came of it. Times are ISO."""

    version: str
    digest: str
    state: State
    asked: str
    until: str  # after which nobody can approve it any more
    opponent: str  # the champion that it was proven against; '' for none
    why: str = ""  # of the state
    by: str = ""  # who decided
    at: str = ""  # when that was seen
    how: str = ""  # 'command', 'tag', or 'everfit' where nobody had to decide any more
    forced: bool = False  # over a gate, a rejection or an end that stood against it
    refused: tuple[str, ...] = ()  # words that came and did not count, each with its reason

    @property
    def passed(self) -> bool:
        return self.state in PASSED

    @property
    def waits(self) -> bool:
        return self.state == "needed"

    def __str__(self) -> str:
        if self.waits:
            return f"version {self.version} waits for a person's approval until {self.until[:16]}"
        who = f" by {self.by}" if self.by else ""
        forced = " (forced)" if self.forced else ""
        return f"version {self.version} was {self.state}{who}{forced}: {self.why}"


def approval(release: Release | None) -> Approval | None:
    """The record of this version; None without one, or with that of another version.

    One that cannot be read is none either: then it is asked anew, and nothing passes meanwhile.
    """
    text = release.tags.get(RECORD) if release is not None else None
    if release is None or not text:
        return None
    try:
        raw = json.loads(text)
        found = Approval(**{**raw, "refused": tuple(raw.get("refused", ()))})
    except (ValueError, TypeError):
        return None
    own = (found.version, found.digest) == (release.version, release.digest)
    return found if own else None


def word(release: Release) -> tuple[Literal["approved", "rejected"] | None, str, str]:
    """What a person has written into the tag: the decision, why, and by whom as far as told."""
    said = _WORDS.get(release.tags.get(WORD, "").strip().lower())
    why = release.tags.get(WHY, "").strip()[:_LONGEST] or "no reason was given"
    by = release.tags.get(BY, "").strip()[:_LONGEST] or "somebody on MLflow's page"
    return ("approved" if said == "approved" else "rejected" if said else None), why, by


def ruling(
    found: Approval, said: State, champion: str | None, challenger: str | None, now: datetime
) -> tuple[State, str]:
    """What `said` comes to as things stand now, and why, where it is not what was said.

    Only what still waits, within its time, as the challenger of the champion that it was proven
    against, is approved; to reject it is possible until it is decided.
    """
    opponent = found.opponent or None
    if champion not in (opponent, found.version):
        was = f"version {opponent}" if opponent else "no champion"
        return "overtaken", (
            f"it was proven against {was}, and version {champion} is champion meanwhile"
        )
    if challenger != found.version:
        return "overtaken", (
            f"version {challenger} passed its gate meanwhile and asks for its own approval"
            if challenger
            else "it is no challenger any more"
        )
    if said == "rejected":
        return said, ""
    if now > datetime.fromisoformat(found.until):
        return "expired", f"nobody approved it by {found.until[:16]}"
    return said, ""


class Approvals(Stages):
    """Asking for a person's word, and taking it, above a store of versions."""

    def ask(
        self, version: str | int, *, opponent: str | None, until: datetime, now: datetime
    ) -> Approval:
        """Ask for a word on the challenger `version`; what was asked before stays as it is.

        A word that stood in the tag before anybody asked does not count. Raises RegistryFault for
        a version that its gate refused or that is not the challenger.
        """
        at = log.moment(now)
        with self._locked("alias"), self._speaking(f"ask for approval of version {version}"):
            release = self.version(version)
            known = approval(release)
            if known is not None:
                return known
            if release.tags.get("gate") == "refused":
                raise RegistryFault(
                    "only what passed its gate can be approved; version "
                    f"{release.version} was refused: {release.tags.get('gate_reason', '')}"
                )
            waiting = self.challenger()
            if waiting is None or waiting.version != release.version:
                raise RegistryFault(
                    f"only the challenger waits for approval; version {release.version} is not, "
                    f"{waiting.version if waiting else 'nobody'} is: retrain"
                )
            asked = Approval(
                release.version, release.digest, "needed", at, log.moment(until), opponent or ""
            )
            self._untag(release.version, [k for k in (WHY, BY) if k in release.tags])
            # the word first: a process that dies in between has asked for nothing yet
            self._tag(release.version, {WORD: "needed"})
            self._tag(release.version, {RECORD: approval_text(asked)})
            return asked

    def settle(
        self,
        version: str | int,
        said: State,
        *,
        by: str,
        why: str,
        how: str,
        now: datetime,
    ) -> Approval:
        """Take a word on a version that waits; gives what it came to, which may be another state.

        The same word again changes nothing. An approval that comes too late, or for a version
        that was overtaken, ends the waiting with that reason. Raises RegistryFault where nobody
        was asked, or the matter is decided otherwise.
        """
        at = log.moment(now)
        with self._locked("alias"), self._speaking(f"settle the approval of version {version}"):
            release = self.version(version)
            found = approval(release)
            if found is None:
                raise RegistryFault(
                    f"a word is taken on a version that waits for one; nobody was asked about "
                    f"version {release.version}{_gate(release)}: see `everfit status`, or use "
                    "--force if you know better"
                )
            if not found.waits:
                if found.state == said:
                    self._settled(release, found)
                    return found
                raise RegistryFault(
                    f"what is decided stays decided; {found}: retrain, or use --force if you "
                    "know better"
                )
            champion, challenger = self._holder().version, self._by_alias(CHALLENGER)
            state, reason = ruling(
                found, said, champion, challenger.version if challenger else None, now
            )
            after = replace(
                found, state=state, why=(reason or why)[:_LONGEST], by=by[:_LONGEST], at=at, how=how
            )
            if state != said:
                after = replace(after, by="everfit", how="everfit")
            if state != said and how != "everfit":
                after = _with_refused(after, f"{at[:16]} {said} by {by}: {why}; but {reason}")
            self._settled(release, after)
            return after

    def force(self, version: str | int, *, by: str, why: str, now: datetime) -> Approval:
        """Approve `version` whatever stands against it: its gate, a rejection, a roll-back.

        It becomes the challenger of the champion of now, and its roll-out begins anew.
        """
        at = log.moment(now)
        with self._locked("alias"), self._speaking(f"force version {version}"):
            release, champion = self.version(version), self._holder().version
            if champion == release.version:
                raise RegistryFault(
                    f"a champion needs no approval; version {release.version} is champion: leave it"
                )
            if not (release.digest and release.window_id):
                raise RegistryFault(
                    "only what everfit registered can be served; version "
                    f"{release.version} has no digest and no window: retrain"
                )
            before, waiting = approval(release), self._by_alias(CHALLENGER)
            mine = waiting is not None and waiting.version == release.version
            if before is not None and before.passed and mine:
                return before
            against = [
                f"{tag}={release.tags[tag]}"
                for tag in ("gate", "rejected_at", "rolled_back_at")
                if tag in release.tags and release.tags[tag] != "passed"
            ]
            if before is not None and not before.waits:
                against.append(str(before))
            made = Approval(
                release.version, release.digest, "approved", before.asked if before else at, at,
                champion or "", why[:_LONGEST], by[:_LONGEST], at, "command", forced=True,
                refused=before.refused if before else (),
            )  # fmt: skip
            if against:
                made = _with_refused(made, f"{at[:16]} forced against {', '.join(against)}")
            self._tag(release.version, {RECORD: approval_text(made), WORD: "approved"})
            gone = ("rejected_at", "rejected_why", "rolled_back_at", STAGE)
            self._untag(release.version, [tag for tag in gone if tag in release.tags])
            self._set_alias(CHALLENGER, release.version)
            return made

    def _settled(self, release: Release, after: Approval) -> None:
        """Write what was decided, first of all; what nobody will approve any more is rejected.

        A process that dies in between has decided: the same word again completes it.
        """
        if approval(release) != after or release.tags.get(WORD) != after.state:
            self._tag(release.version, {RECORD: approval_text(after), WORD: after.state})
        if not after.passed:
            if "rejected_at" not in release.tags:
                said = {"rejected_why": str(after), "rejected_at": after.at}
                self._tag(release.version, said)
            self._drop_challenger(release.version)

    # What waits, or was denied, answers no caller

    def _bars(self, release: Release) -> list[str]:
        barred, found = super()._bars(release), approval(release)
        if found is None:
            return barred
        if not found.passed:
            return [*barred, WORD]
        return [tag for tag in barred if not (tag == "gate" and found.forced)]

    def _require_rollable(self, release: Release, stage: Staged) -> None:
        super()._require_rollable(release, stage)
        found = approval(release)
        if stage.mode == "canary" and found is not None and not found.passed:
            raise RegistryFault(
                f"callers are answered by what a person has approved; {found}: run `everfit "
                "approve`, or reject it"
            )


def _with_refused(found: Approval, sentence: str) -> Approval:
    kept: Sequence[str] = (*found.refused, sentence[: 2 * _LONGEST])
    return replace(found, refused=tuple(kept[-_KEPT:]))


def _gate(release: Release) -> str:
    if release.tags.get("gate") != "refused":
        return ""
    return f", which its gate refused ({release.tags.get('gate_reason', '')})"


def approval_text(found: Approval) -> str:
    values: dict[str, Any] = asdict(found)
    text = json.dumps(values, ensure_ascii=False)
    if len(text) > log.LIMIT:  # of one tag: what came and did not count is the first to go
        text = json.dumps({**values, "refused": []}, ensure_ascii=False)
    return text
