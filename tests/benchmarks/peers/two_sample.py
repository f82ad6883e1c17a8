"""alibi-detect's and frouros' two-sample tests; run by the interpreter of the environment `alibi`.

Their defaults throughout, but for the number of permutations.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402 - warnings come from what is imported here
import torch  # noqa: E402
from meter import measure, serve  # noqa: E402

torch.set_num_threads(1)


def alibi_mmd(x: np.ndarray, y: np.ndarray, permutations: int) -> float:
    from alibi_detect.cd import MMDDrift

    detector = MMDDrift(x, backend="pytorch", n_permutations=permutations, device="cpu")
    return float(detector.predict(y)["data"]["p_val"])


def alibi_classifier(x: np.ndarray, y: np.ndarray, permutations: int) -> float:
    """Logistic regression, cross-fitted, its probabilities compared by Kolmogorov-Smirnov."""
    from alibi_detect.cd import ClassifierDrift
    from sklearn.linear_model import LogisticRegression

    detector = ClassifierDrift(x, LogisticRegression(), backend="sklearn", n_folds=5)
    return float(detector.predict(y)["data"]["p_val"])


def frouros_mmd(x: np.ndarray, y: np.ndarray, permutations: int) -> float:
    from frouros.callbacks import PermutationTestDistanceBased
    from frouros.detectors.data_drift import MMD

    callback = PermutationTestDistanceBased(
        num_permutations=permutations, num_jobs=1, random_state=0, name="permutation"
    )
    detector = MMD(callbacks=[callback])
    detector.fit(X=x)
    _, logs = detector.compare(X=y)
    return float(logs["permutation"]["p_value"])


TESTS = {
    "alibi MMD": alibi_mmd,
    "alibi MMD, its 100 permutations": lambda x, y, permutations: alibi_mmd(x, y, 100),
    "alibi classifier": alibi_classifier,
    "frouros MMD": frouros_mmd,
}


def speed(job: dict[str, Any], place: Path) -> dict[str, Any]:
    """Seconds, CPU seconds and MB at each of `permutations`; two tell fixed cost from the rest."""
    test = TESTS[job["test"]]
    rng = np.random.default_rng(0)
    d = job["columns"]
    x, y = (rng.normal(size=(job["rows"], d)).astype(np.float32) for _ in range(2))
    test(x[:50], y[:50], 3)
    return {str(p): measure(lambda p=p: test(x, y, p)) for p in job["permutations"]}


def p_values(job: dict[str, Any], place: Path) -> list[float]:
    """One p-value per repetition of x.npy (repetitions, m, d) against y.npy."""
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])
    xs, ys = np.load(place / "x.npy"), np.load(place / "y.npy")
    test = TESTS[job["test"]]
    return [test(x, y, job["permutations"]) for x, y in zip(xs, ys, strict=True)]


if __name__ == "__main__":
    serve({"speed": speed, "p_values": p_values})
