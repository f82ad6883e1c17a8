"""The same retrains of one stream, searched cold and from memory, and what each choice is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models import families
from models.data import to_labels
from models.metrics import measure
from models.records import Params, Trial
from models.search import Budget, search
from models.search.controller import Controller
from models.search.memory import repaired
from models.search.reward import loss_of
from models.training import evaluate_trial, prepare
from tasks.rows import TIME
from tests.benchmarks.loop.learner import Learner
from tests.benchmarks.loop.streams import Stream

COLD, WARM = "cold", "from memory"
BLOCKS = 4  # after a retrain: on their rows its model is scored


@dataclass(frozen=True, slots=True)
class Searched:
    """One search of one retrain, as it stood after `mark` trials."""

    seed: int
    retrain: int  # 1: the first after the first champion
    arm: str
    mark: int
    trials: int  # fewer than `mark` where the search had stopped by itself
    cpu: float  # seconds of this process, fits and searcher
    best: float  # the smallest validation loss seen
    later: float  # log loss on the next blocks of what the searcher would choose


def retrains(stream: Stream, count: int) -> list[int]:
    """Blocks before which the model is retrained, evenly over the stream."""
    last = stream.blocks - BLOCKS
    if not 1 <= count <= last:
        raise ValueError(
            f"a stream of {stream.blocks} blocks has 1 to {last} retrains, got {count}: ask for "
            "fewer"
        )
    return [round(last * (i + 1) / count) for i in range(count)]


def run(
    stream: Stream,
    learner: Learner,
    blocks: Sequence[int],
    *,
    say: Callable[[str], None] = lambda _: None,
) -> list[Searched]:
    """Search before each of `blocks` in both ways, and score what was chosen on the next blocks.

    The memory is that of a model's life: the first search is cold and has `limits.trials`, each
    later one has `limits.warm_trials` and starts from the one before. Beside it, each time, a cold
    search of `limits.trials`, of which is told too what it had after `warm_trials`.
    """
    limits, found = learner.limits, []
    space = families.space(limits.families)
    known = [repaired(p, space) for p in families.defaults(limits.families)]
    first = Searching(stream, learner, int(stream.edges[0]))
    mindful = Controller(space, seed=learner.seed)
    first.go(mindful, COLD, 0, known, (limits.trials,))
    for number, block in enumerate(blocks, 1):
        here = Searching(stream, learner, int(stream.edges[block]))
        forgetful = Controller(space, seed=learner.seed + number)
        marks = (limits.warm_trials, limits.trials)
        found += here.go(forgetful, COLD, number, known, marks)
        seed = learner.seed + number
        mindful = Controller.warm(space, mindful.state_dict(), seed=seed, advised=known)
        found += here.go(mindful, WARM, number, (), (limits.warm_trials,))
        say(f"seed {learner.seed}: retrain {number} of {len(blocks)}, {here.end:,} rows")
    return found


class Searching:
    """Searches on the rows of a stream before position `end`."""

    def __init__(self, stream: Stream, learner: Learner, end: int) -> None:
        self.stream, self.learner, self.end = stream, learner, end
        limits, frame = learner.limits, stream.rows(0, end)
        cut = len(frame) - max(int(len(frame) * limits.validation), 1)
        parts = ((frame.iloc[:cut], limits.trial_rows), (frame.iloc[cut:], limits.trial_rows // 2))
        self._train, self._valid = (
            part.sample(most, random_state=learner.seed).sort_index() if len(part) > most else part
            for part, most in parts
        )
        self._split = prepare(self._train, self._valid, learner.schema)
        self._worth: dict[tuple[tuple[str, object], ...], float] = {}

    def go(
        self,
        searcher: Controller,
        arm: str,
        retrain: int,
        known: Sequence[Params],
        marks: Sequence[int],
    ) -> list[Searched]:
        """Search on, and tell at each of `marks` what was spent and what would be chosen."""
        found, cpu, learner = [], 0.0, self.learner
        for mark in marks:
            began = time.process_time()
            for params in known[len(searcher.history) : mark]:
                number = len(searcher.history)
                searcher.tell(self._evaluate(params, learner.seed + number, number))
            search(searcher, self._evaluate, Budget(mark, learner.limits.seconds))
            cpu += time.process_time() - began
            trials = searcher.history
            best = min(loss for t in trials if (loss := loss_of(t)) is not None)
            later = self._later(searcher.champion().params) if retrain else float("nan")
            found.append(Searched(learner.seed, retrain, arm, mark, len(trials), cpu, best, later))
        return found

    def _later(self, params: Params) -> float:
        """Log loss on the next blocks of a model that learnt all rows before `end`."""
        key = tuple(sorted(params.items()))
        if key not in self._worth:
            stream, schema = self.stream, self.learner.schema
            before = stream.rows(0, self.end)
            now = before[TIME].iloc[-1].to_pydatetime()
            model, _ = self.learner.fit(before, params, now)
            block = int(np.searchsorted(stream.edges, self.end))
            after = stream.rows(self.end, int(stream.edges[block + BLOCKS]))
            codes = to_labels(after[schema.target], schema.classes)
            self._worth[key] = measure(codes, model.predict(after, schema))["log_loss"]
        return self._worth[key]

    def _evaluate(self, params: Params, seed: int, number: int) -> Trial:
        return evaluate_trial(
            self._train,
            self._valid,
            self.learner.schema,
            params,
            number=number,
            seed=seed,
            objective="log_loss",
            seconds=self.learner.limits.seconds,
            split=self._split,
        )
