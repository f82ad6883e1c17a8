"""Cross-validated search for scikit-learn users: the controller where RandomizedSearchCV was.

>>> import numpy as np
>>> from scipy.stats import loguniform
>>> from sklearn.linear_model import Ridge
>>> X = np.random.default_rng(0).normal(size=(40, 3))
>>> search = RLSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, n_iter=3, random_state=0)
>>> sorted(search.fit(X, X[:, 0]).best_params_), len(search.cv_results_["params"])
(['alpha'], 3)
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from joblib import effective_n_jobs
from sklearn.model_selection._search import BaseSearchCV  # what third parties derive from
from sklearn.utils import check_random_state

from models.search.base import Searcher
from models.search.cv_run import Row, Run, SplitOnce, batch_size, with_lost
from models.search.loop import Budget
from models.search.sklearn_space import SearchFault, read, told_as_value_error
from models.space import Space

_NON_FINITE = "One or more of the (test|train) scores are non-finite"


class RLSearchCV(BaseSearchCV):  # type: ignore[misc]
    """Search over an estimator's parameters with cross-validation, by the controller.

    Used like RandomizedSearchCV, whose attributes it has. Each candidate is chosen from what all
    before it scored, so few of them go a long way; a search can also start from what an earlier one
    of the same task learnt.

    Parameters
    ----------
    estimator : estimator object
        What is tuned; it needs `score`, or `scoring` is given.
    space : Space, dict or list of dicts
        Where to search: parameter names to scipy.stats distributions (uniform, loguniform,
        randint), to distributions of Optuna, or to lists. A list of numbers is taken as ordered by
        size, any other list as unordered choices. A list of dicts is a choice between sub-spaces.
    n_iter : int, default=25
        Candidates at most. A finite space ends when all of it has been tried.
    scoring, cv, refit, n_jobs, error_score, verbose, pre_dispatch, return_train_score
        As in RandomizedSearchCV. With several metrics the one that `refit` names is searched for,
        or the first where `refit` names none. All candidates see the same splits. A candidate whose
        every fit fails scores `error_score` and teaches the controller to stay away; the search
        raises only when every candidate failed. With `n_jobs`, candidates are asked for in batches
        that keep the workers busy (see `batch_size`), so the candidates depend on it.
    random_state : int, RandomState instance or None
        Equal integers give equal candidates.
    timeout : float, optional
        Seconds after which no candidate is started; the first is always tried.
    warm_start_from : dict, optional
        `memory_` of an earlier search, whose space may have been another. It is JSON-ready.
    stop : {'auto', None}, default=None
        'auto' ends the search before `n_iter` when the controller expects no further gain.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_,
    refit_time_, multimetric_, classes_, n_features_in_, feature_names_in_
        As in RandomizedSearchCV; parameters that a candidate does not have are masked.
    memory_ : dict
        What this search learnt, for `warm_start_from` of the next.
    space_ : Space
        The space as the controller searched it.
    stop_reason_ : str
        Why the search ended.

    Raises
    ------
    SearchFault
        A SpaceFault and ValueError: a space or an option that cannot be used, at `fit`.
    """

    _checked_cv_orig: Any  # set by scikit-learn's fit
    _run: Run  # only while fit is under way

    def __init__(
        self,
        estimator: Any,
        space: Space | dict[str, Any] | list[dict[str, Any]],
        n_iter: int = 25,
        *,
        scoring: Any = None,
        cv: Any = None,
        refit: bool | str | Callable[[Mapping[str, Any]], int] = True,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        error_score: float | Literal["raise"] = math.nan,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        return_train_score: bool = False,
        timeout: float | None = None,
        warm_start_from: dict[str, Any] | None = None,
        stop: Literal["auto"] | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.space = space
        self.n_iter = n_iter
        self.random_state = random_state
        self.timeout = timeout
        self.warm_start_from = warm_start_from
        self.stop = stop

    def _check_input_parameters(self, X: Any, y: Any, split_params: Mapping[str, Any]) -> None:
        """Split once: a shuffling splitter would judge every batch of candidates by others."""
        self._check_options()
        splitter = self._checked_cv_orig
        self._checked_cv_orig = SplitOnce(splitter, list(splitter.split(X, y, **split_params)))

    def _check_options(self) -> None:
        faults = []
        whole = isinstance(self.n_iter, int | np.integer) and not isinstance(self.n_iter, bool)
        if not whole or self.n_iter < 1:
            faults.append(f"`n_iter` is a whole number from 1, got {self.n_iter!r}: raise it")
        if self.timeout is not None and not (_is_real(self.timeout) and self.timeout > 0):
            faults.append(
                f"`timeout` is None or seconds above 0, got {self.timeout!r}: leave it out, or "
                "raise it"
            )
        if self.warm_start_from is not None and not isinstance(self.warm_start_from, Mapping):
            faults.append(
                "`warm_start_from` is None or the memory_ of a fitted search, got a "
                f"{type(self.warm_start_from).__name__}: pass its `memory_`"
            )
        if self.stop not in (None, "auto"):
            faults.append(f"`stop` is None or 'auto', got {self.stop!r}: write one of them")
        if faults:
            raise SearchFault("; ".join(faults))

    def _run_search(
        self, evaluate_candidates: Callable[..., dict[str, Any]], *, callback_ctx: Any = None
    ) -> None:
        from models.search.controller import Controller  # torch: not in every worker

        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with told_as_value_error():
            reading = read(self.space)
            controller = Controller(reading.space, seed=seed, memory=self.warm_start_from)
        budget = Budget(int(self.n_iter), math.inf if self.timeout is None else self.timeout)
        width = batch_size(effective_n_jobs(self.n_jobs), self.n_splits_)
        self._run = Run(controller, reading, evaluate_candidates, self.refit)
        try:
            self.stop_reason_ = self._spend(budget, width, callback_ctx)
            self._check_results()
        finally:
            del self._run
            self._checked_cv_orig = self._checked_cv_orig.splitter
        self.memory_ = controller.memory
        self.space_ = controller.space

    def _spend(self, budget: Budget, width: int, callback_ctx: Any) -> str:
        """Try candidates by batches of `width`; why it ended."""
        controller, started = self._run.controller, time.monotonic()
        progress = None
        if callback_ctx is not None:
            progress = callback_ctx.subcontext(task_name="search", max_subtasks=None)
            progress.call_on_fit_task_begin(estimator=self)
        while True:
            told = len(controller.history)
            seconds = time.monotonic() - started if told else 0.0
            # Only the end of the space ends a search that is not asked to stop by itself.
            over = controller.done() if self.stop else Searcher.done(controller)
            if reason := budget.spent(told, seconds) or over:
                break
            batch = self._run.ask(min(width, budget.trials - told))
            inner = None
            if progress is not None:
                inner = progress.subcontext(
                    task_name="batch",
                    max_subtasks=len(batch) * self.n_splits_,
                    sequential_subtasks=False,
                ).call_on_fit_task_begin(estimator=self)
            self._run.evaluate(batch, inner)
            if inner is not None:
                inner.call_on_fit_task_end(estimator=self)
        if progress is not None:
            progress.call_on_fit_task_end(estimator=self)
        return reason

    def _check_results(self) -> None:
        """All candidates are in the results, and one of them at least was fitted."""
        run = self._run
        if not run.results:
            assert run.fault is not None
            raise run.fault
        if len(run.results["params"]) < len(run.controller.history):  # the last batch was lost
            run.results.update(self._format_results(*run.formatted))
        scores = run.results[f"mean_test_{run.metric()}"]
        if not np.all(np.isfinite(scores)):
            warnings.warn(f"One or more of the test scores are non-finite: {scores}", stacklevel=2)

    def _format_results(
        self,
        candidate_params: Sequence[dict[str, Any]],
        n_splits: int,
        out: Sequence[Row],
        more_results: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """cv_results_, with the candidates whose every fit failed in their places."""
        self._run.formatted = (candidate_params, n_splits, out, more_results)
        params, rows = with_lost(candidate_params, out, self._run.lost, n_splits, self.error_score)
        with warnings.catch_warnings():  # said once, at the end, and not after every batch
            warnings.filterwarnings("ignore", message=_NON_FINITE, category=UserWarning)
            results: dict[str, Any] = super()._format_results(params, n_splits, rows, more_results)
        return results


def _is_real(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
