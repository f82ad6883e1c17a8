"""Training as the product does it: its searcher, its fit, its gate; in process, on one thread.

What `tasks/tune.py` and `tasks/prove.py` do around Prefect and the registry, without them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models import families
from models.bundle import Predictor
from models.data import to_labels
from models.errors import DataFault
from models.gate import GateRule, judge
from models.metrics import measure, per_row_log_loss
from models.records import Params, Trial, Verdict
from models.schema import Schema
from models.search import Budget, search
from models.search.controller import Controller
from models.search.memory import repaired
from models.search.standing import settled
from models.training import evaluate_trial, fit_bundle, prepare
from tasks.rows import TIME, hold_back
from tests.benchmarks.loop.settings import SPACE, Search


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted bundle, and what its making left behind."""

    predictor: Predictor
    params: Params
    rows: int  # that it learnt
    made: datetime
    trained_through: datetime
    baseline: Mapping[str, float] = field(default_factory=dict)  # at the gate
    deviation: float = 0.0  # of its log loss over the gate's rows
    gate_rows: int = 0

    def predict(self, frame: pd.DataFrame, schema: Schema) -> np.ndarray:
        """(n, k) probabilities."""
        return np.asarray(self.predictor.predict_proba(inputs(frame, schema)))


def inputs(frame: pd.DataFrame, schema: Schema) -> dict[str, Any]:
    """Columns as a server would get them."""
    return {
        column.name: frame[column.name].to_numpy()
        if column.kind == "number"
        else frame[column.name].tolist()
        for column in schema.columns
    }


class Learner:
    """Fits on one stream's schema; `folder` holds a few bundles at a time."""

    def __init__(self, schema: Schema, folder: Path, limits: Search, *, seed: int) -> None:
        self.schema, self.folder, self.limits, self.seed = schema, folder, limits, seed
        self._count = 0

    def fit(self, frame: pd.DataFrame, params: Params, now: datetime) -> tuple[Model, float]:
        """Fit `params` on all rows of `frame` (with TIME); the model and the seconds it took."""
        began = time.perf_counter()
        self._count += 1
        place = self.folder / f"{self._count:04d}"
        made = fit_bundle(
            frame.drop(columns=[TIME]),
            self.schema,
            params,
            folder=place,
            seed=self.seed,
            times=frame[TIME],
        )
        model = Model(
            Predictor.load(place),
            dict(params),
            made.rows,
            now,
            frame[TIME].iloc[-1].to_pydatetime(),
        )
        shutil.rmtree(place, ignore_errors=True)
        return model, time.perf_counter() - began

    def search(
        self, frame: pd.DataFrame, memory: Mapping[str, Any] | None
    ) -> tuple[Params, dict[str, Any], int]:
        """The parameters best on the newest share of `frame`; the controller's memory; trials.

        The first search starts with each family's default, every later one from `memory`, and what
        stood before stays unless it is certainly behind, as in a retrain.
        """
        limits = self.limits
        cut = len(frame) - max(int(len(frame) * limits.validation), 1)
        parts = ((frame.iloc[:cut], limits.trial_rows), (frame.iloc[cut:], limits.trial_rows // 2))
        train, valid = (
            part.sample(most, random_state=self.seed).sort_index() if len(part) > most else part
            for part, most in parts
        )
        split = prepare(train, valid, self.schema)
        space = families.space(limits.families)
        there = {parameter.name for parameter in space.parameters}
        space = space.override({name: v for name, v in SPACE.items() if name in there})

        def evaluate(params: Params, seed: int, number: int) -> Trial:
            return evaluate_trial(
                train,
                valid,
                self.schema,
                params,
                number=number,
                seed=seed,
                objective="log_loss",
                seconds=limits.seconds,
                split=split,
            )

        defaults = families.defaults(limits.families)
        if memory is not None:
            controller = Controller.warm(space, memory, seed=self.seed, advised=defaults)
            known: list[Params] = []
        else:
            controller = Controller(space, seed=self.seed)
            known = [params for each in defaults if (params := repaired(each, space))]
        for number, params in enumerate(known):
            controller.tell(evaluate(params, self.seed, number))
        allowed = limits.trials if memory is None else limits.warm_trials
        trials, _ = search(controller, evaluate, Budget(allowed, limits.seconds))
        chosen, _ = settled(controller.champion(), trials, [*known, *controller.standing])
        controller.ended(chosen.params)
        return chosen.params, controller.state_dict(), len(trials)


@dataclass(frozen=True, eq=False)
class Outcome:
    """How one retrain ended."""

    model: Model | None  # the new champion; None when the gate refused
    verdict: Verdict
    params: Params  # that the search chose
    memory: Mapping[str, Any]
    trials: int
    seconds: float  # of the search, the fits and the gate


def retrain(
    learner: Learner,
    frame: pd.DataFrame,
    champion: Model | None,
    memory: Mapping[str, Any] | None,
    rule: GateRule,
    now: datetime,
) -> Outcome:
    """Search, fit, prove, and learn the gate's rows too: one retrain, from rows with TIME.

    The gate looks at the newest rows that neither model has seen. Raises DataFault when there are
    no rows to learn from.
    """
    began = time.perf_counter()
    schema = learner.schema
    if champion is None:  # as much as may be held back: no earlier model loses by it
        rule = replace(rule, rows=max(rule.rows, len(frame)))
    training, holdout = hold_back(
        frame, rule, timed=True, unseen_after=champion.trained_through if champion else None
    )
    if not len(training):
        raise DataFault("a retrain needs labelled rows besides the gate's, got none: add rows")
    if champion is None or learner.limits.again:
        params, memory, trials = learner.search(training, memory)
    else:
        params, memory, trials = champion.params, memory or {}, 0
    proven, _ = learner.fit(training, params, now)
    codes = to_labels(holdout[schema.target], schema.classes)
    shares = np.bincount(
        to_labels(training[schema.target], schema.classes), minlength=len(schema.classes)
    ) / len(training)
    new = proven.predict(holdout, schema)
    # the first model is held against the base rates, on whatever little there is
    fewest = rule.minimum_rows if champion else min(rule.minimum_rows, max(len(holdout), 2))
    verdict = judge(
        champion.predict(holdout, schema) if champion else None,
        new,
        codes,
        replace(rule, minimum_rows=fewest),
        seed=learner.seed,
        baseline=shares,
    )
    model = None
    if verdict.passed:
        model = proven
        if rule.refit:
            again, _ = learner.fit(
                pd.concat([training, holdout]).sort_values(TIME, kind="stable"), params, now
            )
            loss = measure(codes, again.predict(holdout, schema))["log_loss"]
            model = again if loss <= verdict.challenger["log_loss"] else proven
        model = replace(
            model,
            baseline=verdict.challenger,
            deviation=float(per_row_log_loss(codes, new).std()),
            gate_rows=len(holdout),
        )
    return Outcome(model, verdict, params, memory, trials, time.perf_counter() - began)
