"""Where a challenger's roll-out stands, as one tag of its version: servers read it at each poll.

One tag, so that a reader never sees half of a stage, and a process that dies leaves the stage of
before or the one after. Each move is compared with what the caller expected, under the lock of the
aliases. Nothing here knows MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.errors import RegistryFault
from models.records import Release
from models.registry_aliases import Aliases

TAG = "rollout"
Mode = Literal["shadow", "canary", "bake", "done", "rolled back"]

_LONGEST_WHY = 2_000  # characters; a store refuses long tags


@dataclass(frozen=True, slots=True)
class Staged:
    """One stage of one version's roll-out."""

    mode: Mode
    step: int  # of the plan's stages, from 0
    share: float  # of the traffic, as canary
    since: str  # ISO times: of this stage
    started: str  # and of the roll-out
    opponent: str  # the champion that it was proven against; '' for none
    decision_id: str
    why: str = ""
    control_p95: float | None = None  # ms of the champion's requests before the stage


def staged(release: Release | None) -> Staged | None:
    """What the tag of a version says; None without one. Raises RegistryFault for another's tag.

    A server that meets a tag it cannot read serves on, so it asks `readable` instead.
    """
    text = release.tags.get(TAG) if release is not None else None
    if not text:
        return None
    try:
        return Staged(**json.loads(text))
    except (ValueError, TypeError) as fault:
        assert release is not None
        raise RegistryFault(
            f"the tag {TAG!r} of version {release.version} is a stage that everfit wrote, got "
            f"{text[:80]!r} ({fault}): delete the tag, and the roll-out begins anew"
        ) from None


def readable(release: Release | None) -> Staged | None:
    """The same; None also for a tag that cannot be read."""
    try:
        return staged(release)
    except RegistryFault:
        return None


class Stages(Aliases):
    """Moves from stage to stage, above a store of versions."""

    def stage(self, version: str | int, stage: Staged, *, expected: Staged | None) -> Release:
        """Write the stage of `version` if its stage still is `expected` (None: none yet).

        The same step again changes nothing. A shadow or canary must be the challenger, and the
        champion still its opponent. Raises RegistryFault.
        """
        with self._locked("alias"), self._speaking(f"stage version {version}"):
            release = self.version(version)
            found = staged(release)
            if found is not None and (found.mode, found.step) == (stage.mode, stage.step):
                return release
            if found != expected:
                raise RegistryFault(
                    f"the roll-out of version {release.version} must still be at "
                    f"{_said(expected)}; it is at {_said(found)}: another process was faster, so "
                    "look again"
                )
            if stage.mode in ("shadow", "canary"):
                self._require_rollable(release, stage)
            self._tag(release.version, {TAG: stage_text(stage)})
            return self.version(release.version)

    def _require_rollable(self, release: Release, stage: Staged) -> None:
        challenger = self.challenger()
        if challenger is None or challenger.version != release.version:
            raise RegistryFault(
                f"only the challenger is rolled out; version {release.version} is not, "
                f"{challenger.version if challenger else 'nobody'} is: retrain, or promote by hand"
            )
        champion = self._holder().version or ""
        if champion != stage.opponent:
            raise RegistryFault(
                f"the champion of {self.name} must still be {stage.opponent or 'nobody'}; it is "
                f"{champion or 'nobody'}: the challenger was not proven against it, so retrain"
            )


def stage_text(stage: Staged) -> str:
    values: Mapping[str, Any] = {**asdict(stage), "why": stage.why[:_LONGEST_WHY]}
    return json.dumps(values, ensure_ascii=False)


def _said(stage: Staged | None) -> str:
    return "its beginning" if stage is None else f"{stage.mode} {stage.step}"
