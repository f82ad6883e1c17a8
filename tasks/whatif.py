"""Replay a store's recorded checks under other rules, and estimate the loss of what would serve."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks import lineage, places

if TYPE_CHECKING:
    from monitoring.answers import Answers
    from monitoring.records import Decision
    from monitoring.rules import Rules
    from monitoring.whatif import Step
    from tasks.config import Config

_DAY_MICROS = 86_400_000_000
_RESAMPLES = 2_000
_CERTAIN = 1e-12  # as in the gate: one confident miss stays finite


class NothingRecorded(Exception):
    """A store without decisions has nothing to replay."""


def compare(config: Config, other: Rules, *, loss: bool = True) -> dict[str, Any]:
    """Both columns as data: what was decided, what `other` would have decided, and the losses."""
    from monitoring import recorded, whatif

    with places.telemetry(config) as store:
        made = sorted((recorded.decision(d) for d in store.decisions()), key=lambda d: d.time)
    if not made:
        raise NothingRecorded(
            f"{config.name} has no recorded decision to replay: check it with `everfit watch`"
        )
    outcomes = _outcomes(config, made)
    versions = _versions(config)
    was = whatif.recorded(made, outcomes)
    own = whatif.replay(made, config.policy, outcomes=outcomes, versions=versions)
    would = whatif.replay(made, other, outcomes=outcomes, versions=versions)
    result: dict[str, Any] = {
        "name": config.name,
        "from": made[0].time.isoformat(),
        "to": made[-1].time.isoformat(),
        "rules": {
            name: {"recorded": mine, "other": theirs}
            for name, (mine, theirs) in whatif.differing(config.policy, other).items()
        },
        "recorded": whatif.counted(was),
        "other": whatif.counted(would),
        "own_rules_agree": sum(a.action is b.action for a, b in zip(was, own, strict=True)),
        "differing": [
            {
                "window_id": a.window_id,
                "recorded": f"{a.action.value} ({a.rule})",
                "other": f"{b.action.value} ({b.rule})",
            }
            for a, b in zip(was, would, strict=True)
            if a.action is not b.action
        ],
        "assumed": list(whatif.ASSUMED),
    }
    if loss:
        result["loss"] = _loss(config, would)
    return result


def _outcomes(config: Config, made: list[Decision]) -> dict[str, dict[str, Any]]:
    found = {}
    with places.claims(config) as book:
        for decision in made:
            claim = book.get(decision.window_id) if decision.retrain else None
            if claim is not None and claim.result is not None:
                found[decision.window_id] = claim.result
    return found


def _versions(config: Config) -> list[Any]:
    from monitoring.whatif import Trained

    return [
        Trained(release.version, _made(config, release), release.window_id)
        for release in places.registry(config).versions()
    ]


def _made(config: Config, release: Any) -> datetime:
    """When the version was registered, by the caller's clock."""
    tagged = release.tags.get("registered_at") or release.tags.get("made")
    return datetime.fromisoformat(tagged) if tagged else lineage.read(config, release).made


def _loss(config: Config, would: list[Step]) -> dict[str, Any]:
    """Log loss of what answered and of what would have, on the rows whose label is known."""
    from monitoring import answers, whatif

    with places.telemetry(config) as store:
        rows = answers.labelled(store, would[0].time, would[-1].time)
    if never := config.telemetry.never_store:
        return {"rows": 0, "reason": f"no version can be asked again: {never} are not stored"}
    codes, proba = _readable(config, rows)
    known = codes >= 0
    if not known.any():
        return {"rows": 0, "reason": "no row between the first check and the last has its label"}
    was = _losses(proba, codes)
    instead = was.copy()
    changed = 0
    for start, end, version in whatif.spans(would):
        first, last = np.searchsorted(rows.times, [_micros(start), _micros(end)])
        swapped = np.zeros(len(codes), dtype=bool)
        swapped[first:last] = rows.versions[first:last] != version
        swapped &= known
        if swapped.any():
            instead[swapped] = _predicted(config, version, start, end, rows, swapped, codes)
            changed += int(swapped.sum())
    days = rows.times[known] // _DAY_MICROS
    difference = instead[known] - was[known]
    low, high = _interval(difference, days)
    return {
        "metric": "log_loss",
        "rows": int(known.sum()),
        "answered_by_another_version": changed,
        "recorded": float(was[known].mean()),
        "other": float(instead[known].mean()),
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "interval": "95 % of a bootstrap over days",
    }


def _micros(time: datetime) -> int:
    from monitoring.storage import micros

    return micros(time, "the time of a check")


def _readable(config: Config, rows: Answers) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes of the labels, -1 where a row cannot be read, and the probabilities that were given."""
    classes = {str(value): code for code, value in enumerate(config.data.classes)}
    codes = np.array([classes.get(str(label), -1) for label in rows.labels], dtype=np.int64)
    nothing = [np.nan] * len(classes)
    given = [row if len(row) == len(classes) else nothing for row in rows.probabilities]
    proba = np.array(given, dtype=np.float64).reshape(-1, len(classes))
    codes[~np.isfinite(proba).all(axis=1)] = -1
    return codes, proba


def _losses(proba: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    picked = proba[np.arange(len(codes)), np.maximum(codes, 0)]
    return np.asarray(-np.log(np.clip(picked, _CERTAIN, 1.0)))


def _predicted(
    config: Config,
    version: str,
    start: datetime,
    end: datetime,
    rows: Answers,
    swapped: NDArray[np.bool_],
    codes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The losses of `version` on the rows that another one answered."""
    from models.bundle import Predictor

    with places.telemetry(config) as store:
        frame = store.rows(start, end, labelled_only=True)
    wanted = np.flatnonzero(swapped)
    frame = frame.set_index("id").loc[[rows.ids[i] for i in wanted]]
    columns = {
        name: frame[name].to_numpy() if name in frame else np.full(len(frame), np.nan)
        for name in config.data.columns
    }
    bundle = places.registry(config).download(version, config.folder / "serving")
    return _losses(Predictor.load(bundle).predict_proba(columns), codes[wanted])


def _interval(
    difference: NDArray[np.float64], days: NDArray[np.int64], seed: int = 0
) -> tuple[float, float]:
    """Percentiles of the mean difference over resampled days: rows of a day share its weather."""
    _, place = np.unique(days, return_inverse=True)
    sums, counts = np.bincount(place, weights=difference), np.bincount(place)
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(_RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)
