"""How much each labelled row counts where rows of another domain are to be answered.

A classifier that tells the domains apart gives the ratio of their densities: p_target / p_source =
odds x n_source / n_target (Bickel, Brueckner and Scheffer 2009). Weighting the loss by it makes
learning on source rows learning for target rows under covariate shift (Shimodaira 2000); raised to
a power below 1 it trades bias for variance (the same paper's flattening, Sugiyama et al. 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.threads import one_thread

Array = NDArray[np.float64]

_FOLDS = 5
_PENALTIES = (0.01, 0.1, 1.0)  # inverse ones; the best by held-out likelihood is taken
_HIGHEST = 20.0  # a weight is cut at so many times the mean
_LEAST = 0.1  # share of the rows that stay effective


@dataclass(frozen=True, slots=True)
class Weights:
    """One weight a source row with mean 1, and how well the sides were told apart, held out."""

    values: Array  # (n,)
    auc: float

    @property
    def effective(self) -> float:
        """Share of rows that count, (sum w)² / (n sum w²) (Kish 1965)."""
        return float(self.values.sum() ** 2 / (self.values @ self.values) / len(self.values))


def importance(source: Array, target: Array, *, strength: float = 1.0, seed: int = 0) -> Weights:
    """Weights of `source` (n, q) as seen from `target` (m, q), raised to `strength` in [0, 1].

    Scores are cross-fitted, so the classifier cannot believe what it has memorised. Weights are
    flattened further until a tenth of the rows stays effective. Sides with fewer than 10 rows, or
    that cannot be told apart, give weights of 1.
    """
    n, m = len(source), len(target)
    plain = Weights(np.ones(n), 0.5)
    if min(n, m) < 2 * _FOLDS:
        return plain
    odds, auc = _log_odds(source, target, seed)
    if auc <= 0.5 or strength <= 0:
        return Weights(plain.values, auc)
    for power in np.linspace(strength, 0.0, 11)[:-1]:
        raised = power * odds
        values = np.exp(raised - raised.max())
        values = np.minimum(values / values.mean(), _HIGHEST)
        found = Weights(values / values.mean(), auc)
        if found.effective >= _LEAST:
            return found
    return Weights(plain.values, auc)


def _log_odds(source: Array, target: Array, seed: int) -> tuple[Array, float]:
    """Held-out log odds (n,) of source rows being target ones, and the held-out AUC of all."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score

    n, m = len(source), len(target)
    rows = np.concatenate([source, target])
    rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
    side = np.repeat([0, 1], [n, m])
    mass = np.repeat([0.5 / n, 0.5 / m], [n, m]) * (n + m)  # both sides count alike
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(n), rng.permutation(m)]) % _FOLDS
    best: tuple[float, Array] | None = None
    with one_thread():
        for penalty in _PENALTIES:
            held = np.empty(n + m)
            for k in range(_FOLDS):
                out = fold == k
                model = LogisticRegression(C=penalty, max_iter=500)
                model.fit(rows[~out], side[~out], sample_weight=mass[~out])
                held[out] = model.decision_function(rows[out])
            loss = float(log_loss(side, 1 / (1 + np.exp(-held)), sample_weight=mass))
            if best is None or loss < best[0]:
                best = loss, held
    assert best is not None
    return best[1][:n], float(roc_auc_score(side, best[1]))
