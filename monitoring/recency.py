"""Would rows of today teach a better model than rows of then? Drift that harms, and no other.

Two proxies are fitted by the same algorithm on the same number of rows: one on rows from before,
one on the newest. Both are scored on rows that neither has seen. Where nothing moved, the rows are
exchangeable, the two proxies have the same distribution, and the expected difference of their
losses is zero whatever the algorithm; neither a champion that would profit from more rows nor a
stretch that is harder for everybody makes a difference. Where the relation of inputs and label has
moved, or the inputs have moved to where the old rows taught little, the newer proxy is better, and
by how much is about what a retrain can win from recency. An irrelevant column that drifts costs
both alike.

It tests exchangeability by prediction, as conformal test martingales do (Vovk, Gammerman and Shafer
2005, ch. 7) and, for two samples, Lopez-Paz and Oquab (2017); here the learner is the task's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from monitoring.errors import WindowFault
from monitoring.records import Kind, Signal

NAME = "recency_gain"
EXPECTED = "expected_gain"


def recency_signals(
    older: ArrayLike,
    newer: ArrayLike,
    *,
    floor: float = 0.005,
    tolerance: float = 0.03,
    confidence: float = 0.999,
    minimum_rows: int = 200,
    most: float | None = None,
) -> tuple[Signal, ...]:
    """Is the newer proxy certainly better, and can a retrain win anything worth having?

    `older` and `newer` are the losses per row (n,), nats, of the two proxies on the same rows, in
    the same order. Two signals speak about their mean difference, positive when newer rows teach
    better, with the bounds of the normal approximation:

    - `recency_gain`, of the realised performance: breached when the lower bound at `confidence` is
      above 0 and the difference itself above `floor`;
    - `expected_gain`, an estimate: breached when its 95 % interval lies above `tolerance` as a
      whole, and `detail["fine"]` when it lies below: whatever moved does no harm. Nothing wins more
      than is lost, so it is at most `most`, the champion's own loss, where that is known.

    With fewer than `minimum_rows` rows both say so. Rows are taken as independent given the
    proxies; an older proxy that was unlucky with its rows stays so in every window, which `floor`
    allows for.
    Raises WindowFault for losses that do not go together.
    """
    a, b = np.asarray(older, dtype=np.float64), np.asarray(newer, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise WindowFault(
            f"the two proxies' losses must be finite, one a row of the same rows, got shapes "
            f"{a.shape} and {b.shape}: score both on the same labelled rows"
        )
    limits = (
        f"newer rows teach better by > {floor:g} nats a row",
        f"newer rows teach better by > {tolerance:g} nats a row",
    )
    kinds = ((NAME, Kind.PERFORMANCE, limits[0]), (EXPECTED, Kind.ESTIMATE, limits[1]))
    rows = len(a)
    if rows < max(minimum_rows, 2):
        reason = f"{rows:,} labelled rows; at least {max(minimum_rows, 2):,} are needed"
        return tuple(
            Signal(name, kind, None, threshold=limit, rows=rows, reason=reason)
            for name, kind, limit in kinds
        )
    gain = a - b
    value, error = float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(rows))
    bound = float("inf") if most is None else most
    strict, usual = _quantile(confidence) * error, _quantile(0.95) * error
    return (
        Signal(
            NAME,
            Kind.PERFORMANCE,
            value - strict > 0 and value > floor,
            value=value,
            low=value - strict,
            high=value + strict,
            threshold=limits[0],
            rows=rows,
            detail={"floor": floor, "confidence": confidence},
        ),
        Signal(
            EXPECTED,
            Kind.ESTIMATE,
            min(value - usual, bound) > tolerance,
            value=min(value, bound),
            low=min(value - usual, bound),
            high=min(value + usual, bound),
            threshold=limits[1],
            rows=rows,
            detail={
                "tolerance": tolerance,
                "confidence": 0.95,
                "fine": min(value + usual, bound) <= tolerance,
                **({} if most is None else {"most": most}),
            },
        ),
    )


def _quantile(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)
