"""What a registered version knows about its own making, read back from the registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.records import Verdict
from monitoring.records import to_dict
from tasks import places

if TYPE_CHECKING:
    from models.records import Candidate, Release
    from tasks.config import Config
    from tasks.records import Tuned

LINEAGE, REFERENCE, CONTROLLER = "lineage.json", "reference.parquet", "controller.json"
PROOF = "proof.parquet"  # the gate's rows: inputs, label, and what the proven model said of them


class NotOurs(FileNotFoundError):
    """A version that somebody else registered: nothing is known of its making."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version's training and its proof."""

    window_id: str
    made: datetime
    rows: int
    trained_through: datetime | None
    baseline: Mapping[str, float]  # the version's own metrics on the gate's rows
    params: Mapping[str, Any]
    verdict: Verdict
    opponent: str | None  # the champion that the gate compared with
    trials: int
    seconds: float  # of fitting: trials and the final model
    warm: bool = False  # the search started from what earlier ones learnt
    front: tuple[Mapping[str, Any], ...] = ()  # see tasks.records.Tuned
    chosen: str = ""  # why these parameters and no others
    unstored: tuple[str, ...] = ()  # inputs that its reference and its proof were kept without


def write(
    path: Path,
    window_id: str,
    made: datetime,
    *,
    tuned: Tuned,
    candidate: Candidate,
    verdict: Verdict,
    opponent: str | None,
    unstored: Sequence[str] = (),
) -> Path:
    path.write_text(
        json.dumps(
            {
                "window_id": window_id,
                "made": made.isoformat(),
                "candidate": to_dict(candidate),
                "verdict": to_dict(verdict),
                "opponent": opponent,
                "search": asdict(tuned),
                "unstored": sorted(unstored),
            },
            indent=2,
        ),
        encoding="utf-8",
    )
    return path


def read(config: Config, release: Release) -> Lineage:
    """The version's own making. Raises NotOurs for one that everfit did not register."""
    if not (release.digest and release.window_id):
        raise NotOurs(
            f"a champion is a version that everfit registered; version {release.version} of "
            f"{release.name} has no digest and no window, so it is not served: `everfit rollback` "
            "returns to the champion before it, or point the alias at another version"
        )
    path = places.version_file(config, release, LINEAGE)
    if path is None:
        raise NotOurs(
            f"version {release.version} of {release.name} has no {LINEAGE}: it was not registered "
            "by everfit; retrain with `everfit retrain` and promote the result"
        )
    raw = json.loads(path.read_text(encoding="utf-8"))
    candidate, search = raw["candidate"], raw["search"]
    verdict = Verdict(**{**raw["verdict"], "slices": tuple(raw["verdict"]["slices"])})
    through = candidate["trained_through"]
    return Lineage(
        window_id=raw["window_id"],
        made=datetime.fromisoformat(raw["made"]),
        rows=candidate["rows"],
        trained_through=datetime.fromisoformat(through) if through else None,
        baseline=verdict.challenger,
        params=candidate["params"],
        verdict=verdict,
        opponent=raw["opponent"],
        trials=search["trials"],
        seconds=search["seconds"] + candidate["seconds"],
        warm=search.get("warm", False),
        front=tuple(search.get("front", ())),
        chosen=search.get("chosen", ""),
        unstored=tuple(raw.get("unstored", ())),
    )
