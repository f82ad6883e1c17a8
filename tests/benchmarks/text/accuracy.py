"""Accuracy of what the controller finds, beside the conventional pipeline, on rows of one seed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from models import families
from models.gate import GateRule, judge
from models.metrics import accuracy, log_loss
from models.records import Params, Trial
from models.search import Budget, search
from models.search.controller import Controller
from models.search.standing import settled
from models.training import evaluate_trial, fit, prepare
from tests.benchmarks.text.corpora import Corpus

# Of all rows: what models learn, what the search is scored on, what the gate looks at, the test.
SHARES = (0.48, 0.12, 0.15)
SECONDS = 120.0  # that a trial may take


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one corpus and seed: accuracy and log loss on the test rows, by arm."""

    corpus: str
    seed: int
    arm: str
    accuracy: float
    log_loss: float
    family: str = ""
    params: str = ""
    seconds: float = 0.0  # of the search and the fits


class Round:
    """One corpus, its rows drawn by one seed."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self.corpus, self.seed = corpus, seed
        self.train, self.valid, self.gate, self.test = corpus.parts(seed, *SHARES)
        self.proven = np.concatenate([self.train, self.valid])
        self.all = np.concatenate([self.proven, self.gate])

    def frame(self, rows: np.ndarray) -> pd.DataFrame:
        return self.corpus.frame.iloc[rows].reset_index(drop=True)

    def scored(self, arm: str, proba: np.ndarray, **told: object) -> Scores:
        y = self.corpus.codes(self.test)
        return Scores(
            self.corpus.name,
            self.seed,
            arm,
            accuracy(y, proba),
            log_loss(y, proba),
            **told,  # type: ignore[arg-type]
        )

    def conventional(self, rows: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """scikit-learn's TfidfVectorizer and LogisticRegression as they come."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(TfidfVectorizer(), LogisticRegression())
        model.fit(self.corpus.texts(rows), self.corpus.codes(rows))
        return np.asarray(model.predict_proba(self.corpus.texts(asked)))

    def found(self, names: Sequence[str], trials: int) -> tuple[Trial, float]:
        """(what the controller would choose after a search over those families, its seconds)."""
        began = time.perf_counter()
        schema = self.corpus.schema
        train, valid = self.frame(self.train), self.frame(self.valid)
        split = prepare(train, valid, schema)

        def evaluate(params: Params, seed: int, number: int) -> Trial:
            return evaluate_trial(
                train,
                valid,
                schema,
                params,
                number=number,
                seed=seed,
                objective="log_loss",
                seconds=SECONDS,
                split=split,
                footprint_seconds=0.0,
            )

        controller = Controller(families.space(names), seed=self.seed)
        defaults = families.defaults(names)
        for number, params in enumerate(defaults):
            controller.tell(evaluate(params, self.seed, number))
        search(controller, evaluate, Budget(trials))
        chosen, _ = settled(controller.champion(), controller.history, defaults)
        return chosen, time.perf_counter() - began

    def answers(self, params: Params, rows: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Of those parameters, fitted on rows."""
        model = fit(self.frame(rows), self.corpus.schema, params, seed=self.seed)
        return model.predict_proba(self.frame(asked))

    def passes(self, params: Params) -> bool:
        """Whether the gate lets the parameters through in the place of the conventional model."""
        challenger = self.answers(params, self.proven, self.gate)
        champion = self.conventional(self.proven, self.gate)
        y = self.corpus.codes(self.gate)
        return judge(champion, challenger, y, GateRule(), seed=self.seed).passed


def run(
    corpus: Corpus, seed: int, arms: Sequence[tuple[str, Sequence[str]]], trials: int
) -> list[Scores]:
    """The conventional pipeline, and for each (arm, families) what the search finds and what serves
    after the gate."""
    here = Round(corpus, seed)
    conventional = here.scored("conventional", here.conventional(here.all, here.test))
    told = [conventional]
    for arm, names in arms:
        chosen, seconds = here.found(names, trials)
        family, own = families.split(chosen.params)
        made = here.scored(
            arm,
            here.answers(chosen.params, here.all, here.test),
            family=family,
            params=str(own),
            seconds=seconds,
        )
        kept = made if here.passes(chosen.params) else conventional
        told += [
            made,
            Scores(corpus.name, seed, f"{arm}, gated", kept.accuracy, kept.log_loss, kept.family),
        ]
    return told


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half of the 95 % interval by Student's t)."""
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return float(found.mean()), math.nan
    half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return float(found.mean()), half


def table(scores: Sequence[Scores]) -> list[dict[str, object]]:
    """One row per corpus and arm: accuracy, and its difference to the conventional one in points,
    with the interval over seeds, the share of the conventional model's errors that are gone, and
    how many seeds were below it."""
    rows: list[dict[str, object]] = []
    for corpus in dict.fromkeys(each.corpus for each in scores):
        own = [each for each in scores if each.corpus == corpus]
        base = {each.seed: each for each in own if each.arm == "conventional"}
        for arm in dict.fromkeys(each.arm for each in own):
            here = [each for each in own if each.arm == arm]
            gains = [100 * (each.accuracy - base[each.seed].accuracy) for each in here]
            mean, half = interval(gains)
            errors = sum(1 - base[each.seed].accuracy for each in here)
            rows.append(
                {
                    "corpus": corpus,
                    "model": arm,
                    "accuracy": f"{100 * np.mean([each.accuracy for each in here]):.2f}",
                    "gain, points": "" if arm == "conventional" else f"{mean:+.2f} ± {half:.2f}",
                    "errors gone": ""
                    if arm == "conventional"
                    else f"{sum(gains) / max(errors, 1e-9):.0f} %",
                    "log loss": f"{np.mean([each.log_loss for each in here]):.4f}",
                    "seeds below": sum(gain < -1e-9 for gain in gains),
                    "families": ", ".join(sorted({each.family for each in here} - {""})),
                    "seconds": f"{np.mean([each.seconds for each in here]):.0f}",
                }
            )
    return rows
