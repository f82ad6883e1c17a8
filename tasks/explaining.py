"""What the stores know about one decision, and the way from a prediction to the one behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks import approval, lineage, places, release, standing
from tasks.recording import recording

if TYPE_CHECKING:
    from monitoring.explain import Told
    from tasks.config import Config


def told(config: Config, window: str | None = None, trace: dict[str, Any] | None = None) -> Told:
    """The decision on the window that `window` names, the last one without, and what came of it."""
    from monitoring import lookup, recorded
    from monitoring.explain import Told

    with places.telemetry(config) as store:
        stored = store.decision(lookup.window_id(store, window))
    assert stored is not None
    return Told(recorded.decision(stored), outcome_of(config, stored["window_id"]), trace or {})


def outcome_of(config: Config, window_id: str) -> dict[str, Any] | None:
    """How the retrain or the roll-back of a window ended; None where none has."""
    with places.claims(config) as book:
        found = book.get(window_id)
    if found and found.result:
        version = found.result["version"]
        rollout, people = standing.of(config, version), approval.of(config, version)
        return {**found.result, "rollout": rollout, "approval": people}
    undone = release.undone_by(config, window_id)
    return None if undone is None else {"rolled_back": undone[0], "restored": undone[1]}


def traced(config: Config, prediction: str) -> tuple[Told | None, dict[str, Any]]:
    """From a prediction to its version, and to the decision that caused that version.

    The decision is None when no check asked for the version, such as the first one.
    """
    from monitoring import lookup

    with places.telemetry(config) as store:
        answer = lookup.prediction(store, recording(config).stored_id(prediction))
    version = places.registry(config).version(answer["version"])
    made = lineage.read(config, version)
    with places.telemetry(config) as store:
        decided = store.decision(made.window_id) is not None
    trace: dict[str, Any] = {
        "prediction": answer,
        "classes": list(config.data.classes),
        "version": {
            "version": version.version,
            "made": made.made,
            "rows": made.rows,
            "trained_through": made.trained_through,
            "metrics": dict(made.baseline),
            "params": dict(made.params),
            "gate": made.verdict.reason,
            "window_id": made.window_id,
            "note": "" if decided else ", which no check decided: it was asked for by hand",
        },
    }
    return (told(config, made.window_id, trace) if decided else None), trace
