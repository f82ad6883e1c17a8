"""A new champion on probation: is it certainly worse than the one that it replaced?

The gate compares on rows of before the promotion. What came after is the proof of it, and for a
while the previous champion is scored on the same rows as well: both see the same world, so a
stretch that is harder for everybody makes no difference. A stretch that suits one of the two does:
a day's rows share its weather, and what the newest model has learnt more of is the days before it
began. So rows of a stretch of time count together, by default of a fourteenth of the probation, a
day of a fortnight. Where the previous one cannot be scored,
its figure at the gate stands in, with bounds as wide as those of the gate's rows; a harder world
then looks like a worse champion, which the signal says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.clusters import Groups, correction, grouped, t_quantile
from monitoring.errors import WindowFault
from monitoring.estimates import Interval, difference
from monitoring.labelled import class_codes, figures, labelled_rows
from monitoring.records import Kind, Signal, Value
from monitoring.wording import short

if TYPE_CHECKING:
    import pandas as pd

NAME = "against_previous"
CONFIDENCE = 0.99  # of each check; see `probation_signal`
_CERTAIN = 1e-12  # one confident miss stays finite

Loss = Literal["log_loss", "error"]


@dataclass(frozen=True, slots=True, eq=False)
class Probation:
    """What is known of a champion since its promotion, and of the one before it."""

    since: datetime  # the promotion
    previous: str  # the version that would come back
    rows: pd.DataFrame  # the champion's own since then, matured: `label`, `proba` and, if known,
    # `time`; with `proba_previous`, what the previous one says of each, if it could be scored
    loss: Loss = "log_loss"
    gate: float | None = None  # the previous one's loss on the gate's rows, in place of it
    fault: str = ""  # why it could not be scored
    through: datetime | None = None  # rows asked until then
    block: timedelta | None = None  # rows of so long a stretch count together


def probation_signal(
    probation: Probation,
    classes: Sequence[Value],
    *,
    proof: pd.DataFrame | None = None,
    confidence: float = CONFIDENCE,
    minimum_labels: int = 200,
    seed: int = 0,
) -> Signal:
    """Breached when the champion's loss is above the previous one's with its whole interval.

    `value` is the mean difference per row, positive where the champion is worse: nats of log loss,
    or a share of rows for the error. The interval is Student's, with a `block` over whole stretches
    of time (`clusters.correction`), and covers with `confidence` at one check. Of equally good
    models, simulated over the 14 daily checks of a fortnight whose rows add up, 3 % are worse at
    99 % in any of them, and 1.3 % in two of three in a row, which is what the rules ask for; where
    900 rows a day differ by 0.2 nats and the days by 0.02, as many with blocks of a day, and 49 and
    39 % without. Where days go together, 0.3 of one in the next, it is 8 and 4 % with such blocks.

    Without `proba_previous` the champion's loss is held against `probation.gate`, which `proof`,
    the gate's rows, give the bounds; `detail["paired"]` says which it was.
    """
    named = probation.loss.replace("_", " ")
    detail: dict[str, Any] = {
        "previous": probation.previous,
        "since": probation.since.isoformat(),
        "through": probation.through and probation.through.isoformat(),
        "loss": probation.loss,
        "confidence": confidence,
        "paired": "proba_previous" in probation.rows,
    }
    block = probation.block
    if block is not None:
        detail["block"] = short(block)
    limit = f"{named} certainly above that of version {probation.previous}"

    def signal(breached: bool | None, found: Interval | None, rows: int, reason: str) -> Signal:
        value, low, high = found or (None, None, None)
        return Signal(NAME, Kind.PROBATION, breached, value=value, low=low, high=high,
                      threshold=limit, rows=rows, reason=reason, detail=detail)  # fmt: skip

    paired = detail["paired"]
    found, rows = (
        _paired(probation, classes, confidence, block)
        if paired
        else _unpaired(probation, classes, proof, confidence, block, seed)
    )
    if rows < max(minimum_labels, 2):
        needed = f"at least {max(minimum_labels, 2):,} are needed"
        return signal(None, None, rows, f"{rows:,} labelled rows; {needed}")
    if found is None:
        why = probation.fault or "it could not be scored"
        return signal(
            None, None, rows, f"version {probation.previous}: {why}, and the gate left no figure"
        )
    if found.low is None:
        return signal(None, found, rows, f"all {rows:,} rows lie in one block: shorten the block")
    side = "above" if found.value >= 0 else "below"
    where = (
        f"on the same {rows:,} rows"
        if paired
        else f"at the gate, on {rows:,} other rows ({probation.fault or 'it cannot be scored'})"
    )
    said = (
        f"the {named} since the promotion is {side} that of version {probation.previous} by "
        f"{abs(found.value):.3g} ({found.low:.3g} to {found.high:.3g}) {where}"
    )
    return signal(found.low > 0, found, rows, said)


def mean_difference(
    values: ArrayLike, confidence: float, groups: ArrayLike | None = None
) -> Interval:
    """The mean of (n,) with Student's interval; with `groups` (n,), of whole groups.

    >>> found = mean_difference([1.0, 2.0, 3.0], 0.95)
    >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
    (2.0, -0.48, 4.48)
    """
    each = np.asarray(values, dtype=np.float64)
    if each.ndim != 1 or len(each) < 2 or not np.isfinite(each).all():
        raise WindowFault(
            f"a mean with bounds needs two finite values or more, got shape {each.shape}: leave "
            "out rows without a figure"
        )
    n, value = len(each), float(each.mean())
    parts = grouped(groups, n) or Groups(np.arange(n), np.ones(n))
    if parts.count < 2:
        return Interval(value, None, None)
    few = correction(parts.sizes)
    sums = np.bincount(parts.ids, weights=each - value)
    half = t_quantile(confidence, few.freedom) * math.sqrt(
        few.factor * float((sums**2).sum()) / n**2
    )
    return Interval(value, value - half, value + half)


def _paired(
    probation: Probation,
    classes: Sequence[Value],
    confidence: float,
    block: timedelta | None,
) -> tuple[Interval | None, int]:
    frame = probation.rows
    codes = np.array(
        [-1 if code is None else code for code in class_codes(frame["label"].tolist(), classes)],
        dtype=np.int64,
    )
    own, other = (_matrix(frame[name], len(classes)) for name in ("proba", "proba_previous"))
    known = (codes >= 0) & np.isfinite(own).all(axis=1) & np.isfinite(other).all(axis=1)
    if known.sum() < 2:
        return None, int(known.sum())
    worse = [_losses(proba[known], codes[known], probation.loss) for proba in (own, other)]
    groups = None
    if block is not None and "time" in frame:
        from monitoring.clusters import stretches

        groups = stretches(frame["time"][known], block)
    return mean_difference(worse[0] - worse[1], confidence, groups), int(known.sum())


def _unpaired(
    probation: Probation,
    classes: Sequence[Value],
    proof: pd.DataFrame | None,
    confidence: float,
    block: timedelta | None,
    seed: int,
) -> tuple[Interval | None, int]:
    rows = labelled_rows(probation.rows, classes, block)
    count = len(rows.codes)
    if probation.gate is None or proof is None or count < 2:
        return None, count
    loss, gate = probation.loss, labelled_rows(proof, classes, block)
    if len(gate.codes) < 2:
        return None, count
    now = figures(rows, (loss,), confidence, seed, 1_000).get(loss)
    then = figures(gate, (loss,), confidence, seed + 1, 1_000).get(loss)
    if now is None or then is None:
        return None, count
    moved = probation.gate - then.value  # another model's figure, as unsure as this one's
    low, high = (None if b is None else b + moved for b in (then.low, then.high))
    return difference(now, Interval(probation.gate, low, high)), count


def _matrix(column: Any, classes: int) -> NDArray[np.float64]:
    nothing = [math.nan] * classes
    return np.array(
        [nothing if row is None or np.size(row) != classes else row for row in column.tolist()],
        dtype=np.float64,
    ).reshape(-1, classes)


def _losses(
    proba: NDArray[np.float64], codes: NDArray[np.int64], loss: Loss
) -> NDArray[np.float64]:
    if loss == "error":
        return np.asarray(proba.argmax(axis=1) != codes, dtype=np.float64)
    picked = proba[np.arange(len(codes)), codes]
    return np.asarray(-np.log(np.clip(picked, _CERTAIN, 1.0)))
