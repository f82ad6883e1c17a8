"""Where a roll-out stands, read from the registry and the telemetry store: no flow is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring import rollout
from monitoring.rollout import Position
from tasks import places, undo

if TYPE_CHECKING:
    from models.records import Release
    from models.registry_approvals import Approval
    from models.registry_stages import Staged
    from tasks.config import Config


@dataclass(frozen=True, slots=True)
class Standing:
    """The version that is rolled out, and its stage."""

    release: Release
    stage: Staged
    overtaken: str = ""  # why it cannot go on: its opponent is champion no more
    unfinished: bool = False  # it was promoted, and its process died before the baking was noted

    @property
    def position(self) -> Position:
        mode = self.stage.mode
        assert mode in ("shadow", "canary", "bake")
        return Position(
            self.release.version,
            self.stage.opponent or None,
            mode,
            self.stage.step,
            datetime.fromisoformat(self.stage.since),
            datetime.fromisoformat(self.stage.started),
        )


def standing(config: Config) -> Standing | None:
    """The roll-out under way; None where there is none.

    A challenger's comes first; then that of a champion that bakes.
    """
    from models.registry_stages import staged

    registry = places.registry(config)
    champion, challenger = registry.champion(), registry.challenger()
    if champion and challenger and champion.version == challenger.version:
        challenger = None  # a promotion whose process died before it took the alias away
    stage = staged(challenger)
    if challenger is not None and stage is not None and stage.mode in ("shadow", "canary"):
        now = champion.version if champion else ""
        lost = "" if now == stage.opponent else not_against(stage.opponent or None, now)
        return Standing(challenger, stage, overtaken=lost)
    stage = staged(champion)
    if champion is None or stage is None:
        return None
    if stage.mode == "bake":
        return Standing(champion, stage)
    if stage.mode in ("shadow", "canary"):
        promoted = champion.tags.get("promoted_at", stage.since)
        baking = replace(stage, mode="bake", step=stage.step + 1, share=0.0, since=promoted)
        return Standing(champion, baking, unfinished=True)
    return None


def under_way(config: Config) -> bool:
    """Whether there is a step to take: cheap, so that it can be asked often."""
    return (
        undo.read(config.folder / "serving") is not None
        or asked(config) is not None
        or standing(config) is not None
    )


def asked(config: Config) -> Approval | None:
    """What people were asked about the challenger, answered or not; None where they were not."""
    from models.registry_approvals import approval

    return approval(places.registry(config).challenger())


def on_the_way(config: Config) -> str:
    """Which challenger is shadow or canary, or waits for a person's word, now: then no other is
    made. '' for none."""
    found = standing(config)
    if found is None or found.stage.mode == "bake":
        question = asked(config)
        return str(question) if question is not None and question.waits else ""
    return f"version {found.release.version} is {said(found.stage)}"


def said(stage: Staged) -> str:
    """A stage as a person reads it."""
    return f"canary for {stage.share:.3g} of the callers" if stage.share else stage.mode


def of(config: Config, version: str | None) -> dict[str, Any] | None:
    """How far one version's roll-out has come, and why; None for one that had none."""
    from models.errors import RegistryFault
    from models.registry_approvals import approval
    from models.registry_stages import readable

    if version is None:
        return None
    try:
        release = places.registry(config).version(version)
        stage = readable(release)
    except RegistryFault:  # deleted meanwhile
        return None
    question = approval(release)
    if question is not None and not question.passed and (stage is None or question.waits):
        mode = "waiting" if question.waits else "rolled back"
        stands = "waiting for a person's approval" if question.waits else question.state
        at = question.at or question.asked
        return {"mode": mode, "stage": stands, "since": at, "why": str(question)}
    if stage is None:
        return None
    return {"mode": stage.mode, "stage": said(stage), "since": stage.since, "why": stage.why}


def not_against(opponent: str | None, now: str | None) -> str:
    """Why a challenger may not go on once `now` is champion instead of its opponent."""
    was = f"version {opponent}" if opponent else "no champion"
    return f"it was proven against {was}, and version {now} is champion meanwhile: retrain anew"


def told(config: Config) -> dict[str, Any] | None:
    """The roll-out under way as plain values, with its last step; None where there is none."""
    at = standing(config)
    if at is None:
        return None
    version = at.release.version
    steps = history(config, version, 1)
    return {
        "version": version,
        "against": at.stage.opponent,
        "mode": at.stage.mode,
        "share": at.stage.share,
        "since": at.stage.since,
        "started": at.stage.started,
        "stage": said(at.stage),
        "step": steps[-1]["step"] if steps else None,
        "readings": [str(rollout.Reading(**r)) for r in steps[-1]["readings"]] if steps else [],
    }


def history(config: Config, version: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """The newest steps, oldest first, as `monitoring.rollout.record` wrote them."""
    from monitoring import rollout_log

    with places.telemetry(config) as store:
        return rollout_log.steps(store.database, config.name, version, limit)
