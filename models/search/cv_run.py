"""One run of RLSearchCV: batches that scikit-learn evaluates and the controller learns from."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sklearn.exceptions import FitFailedWarning

from models.records import Params, Trial
from models.search.sklearn_space import Reading

if TYPE_CHECKING:
    from models.search.controller import Controller

_BUSY = 0.75  # share of the workers that a batch keeps busy at least, where some batch can
_DETAILS = "more details about the failures:\n"
Row = dict[str, Any]
Lost = Mapping[int, tuple[dict[str, Any], float]]


class Run:
    """What a search knows while it runs.

    results: cv_results_ so far; lost: parameters and seconds of the candidates whose every fit
    failed, by number; fault: the last such failure; formatted: what cv_results_ was made from.
    """

    def __init__(
        self,
        controller: Controller,
        reading: Reading,
        evaluate_candidates: Callable[..., dict[str, Any]],
        refit: object,
    ) -> None:
        self.controller = controller
        self.results: dict[str, Any] = {}
        self.lost: dict[int, tuple[dict[str, Any], float]] = {}
        self.fault: ValueError | None = None
        self.formatted: Any = None
        self._reading = reading
        self._evaluate = evaluate_candidates
        self._refit = refit

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: scikit-learn sends the search along with each fit, and no fit needs this."""
        return {}

    def ask(self, count: int) -> list[Params]:
        batch: list[Params] = []
        while len(batch) < count:
            batch.append(self.controller.ask(pending=batch))
        return batch

    def evaluate(self, batch: Sequence[Params], callback_ctx: Any = None) -> None:
        """Fit and score the candidates of a batch on all splits, and tell the controller."""
        first = len(self.controller.history)
        candidates = [self._reading.decode(params) for params in batch]
        options = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        scores: Sequence[float] = [math.nan] * len(batch)
        error, before = "", time.monotonic()
        try:
            self.results = self._evaluate(candidates, **options)
            scores = self.results[f"mean_test_{self.metric()}"][first:]
        except ValueError as fault:
            if not _all_failed(fault):
                raise
            # scikit-learn ends the search here, since it takes the batch for the whole of it.
            self.fault, error = fault, str(fault).strip()
            seconds = (time.monotonic() - before) / len(batch)
            self.lost |= {first + i: (each, seconds) for i, each in enumerate(candidates)}
            warnings.warn(
                f"every fit of {'a candidate' if len(batch) == 1 else f'{len(batch)} candidates'} "
                "failed; the search goes on. Debug it with error_score='raise'.\n\n"
                f"{error.partition(_DETAILS)[2] or error}",
                FitFailedWarning,
                stacklevel=2,
            )
        seconds = (time.monotonic() - before) / len(batch)
        for number, (params, score) in enumerate(zip(batch, scores, strict=True), start=first):
            ok = math.isfinite(score)
            status: Literal["complete", "failed"] = "complete" if ok else "failed"
            loss = -float(score) if ok else None
            why = "" if ok else error.splitlines()[-1] if error else f"the score is {score}"
            seed = self.controller.seed
            self.controller.tell(Trial(number, params, status, loss, seconds, seed, error=why))

    def metric(self) -> str:
        """The metric that is searched for: the one to refit by, else the first."""
        names = [k.removeprefix("mean_test_") for k in self.results if k.startswith("mean_test_")]
        return self._refit if isinstance(self._refit, str) and self._refit in names else names[0]


class SplitOnce:
    """A splitter that answers the same splits each time, and travels to workers without them."""

    def __init__(self, splitter: Any, splits: list[Any]) -> None:
        self.splitter = splitter
        self.splits = splits

    def split(self, X: Any = None, y: Any = None, **params: Any) -> list[Any]:  # noqa: ARG002
        return self.splits

    def get_n_splits(self, X: Any = None, y: Any = None, **params: Any) -> int:  # noqa: ARG002
        return len(self.splits)

    def __getstate__(self) -> dict[str, Any]:
        return {"splitter": self.splitter, "splits": []}


def with_lost(
    candidates: Sequence[dict[str, Any]],
    rows: Sequence[Row],
    lost: Lost,
    n_splits: int,
    error_score: float | str,
) -> tuple[list[dict[str, Any]], list[Row]]:
    """Candidates (n,) and their rows (n * n_splits,), with the lost ones put at their numbers.

    lost: number -> (parameters, seconds); their rows are like the others' in form.
    """
    params, out = list(candidates), list(rows)
    for number, (each, seconds) in sorted(lost.items()):
        row = dict(rows[0])
        for key in ("test_scores", "train_scores"):
            if isinstance(row.get(key), dict):
                row[key] = dict.fromkeys(row[key], error_score)
            elif key in row:
                row[key] = error_score
        row |= {"fit_time": seconds / n_splits, "score_time": 0.0}
        params.insert(number, each)
        out[number * n_splits : number * n_splits] = [dict(row) for _ in range(n_splits)]
    return params, out


def batch_size(jobs: int, splits: int) -> int:
    """Candidates to try at once: the fewest that keep three quarters of the workers busy.

    The fewer at once, the more each of them knows. With 4 workers and 5 splits, 2 candidates are 10
    fits in 3 rounds of 4, which is 83 % busy; 1 candidate would be 5 fits in 2 rounds, 63 %.

    >>> [batch_size(jobs, 5) for jobs in (1, 2, 4, 8, 16)]
    [1, 1, 2, 3, 3]
    """
    for size in range(1, jobs + 1):
        fits = size * max(splits, 1)
        if fits >= _BUSY * jobs * math.ceil(fits / jobs):
            return size
    return jobs


def _all_failed(fault: ValueError) -> bool:
    """Whether this is scikit-learn's word for a batch in which no fit succeeded."""
    return str(fault).lstrip().startswith("All the ") and "fits failed" in str(fault)
