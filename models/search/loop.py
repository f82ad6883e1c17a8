"""The plain loop that runs any searcher within a budget, and the choice of the best trial."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from models.errors import SpaceFault
from models.records import Params, Trial
from models.search.base import Searcher, ordered, trial_seed
from models.search.reward import loss_of


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may spend: trials, and seconds of wall clock."""

    trials: int
    seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.trials < 1 or not self.seconds > 0:
            raise SpaceFault(
                f"a budget has at least one trial and some seconds, got {self}: raise it"
            )

    def spent(self, trials: int, seconds: float) -> str | None:
        """Why nothing more may be started after so many trials and seconds, or None."""
        if trials >= self.trials:
            return f"the budget of {self.trials} trials is spent"
        if seconds >= self.seconds:
            return f"the budget of {self.seconds:g} s is spent"
        return None


Evaluate = Callable[[Params, int, int], Trial]


def search(
    controller: Searcher,
    evaluate: Evaluate,
    budget: Budget,
    *,
    clock: Callable[[], float] = time.monotonic,
    on_trial: Callable[[Trial], None] | None = None,
) -> tuple[list[Trial], str]:
    """Ask, evaluate, tell until the budget is spent or the controller stops by itself.

    `evaluate(params, seed, number)` answers a Trial; an exception it raises becomes a failed trial.
    The budget counts the trials that the controller already knows, and no trial is started after
    the seconds are over. Returns all trials by number, and the reason of the end.
    """
    started = clock()
    while True:
        number = len(controller.history)
        reason = budget.spent(number, clock() - started) or controller.done()
        if reason:
            return controller.history, reason
        params = controller.ask()
        seed = trial_seed(controller.seed, number)
        before = clock()
        try:
            trial = evaluate(params, seed, number)
        except Exception as fault:  # a trial that raises is a recorded loss, not a failed search
            error = f"{type(fault).__name__}: {fault}"
            trial = Trial(number, params, "failed", None, clock() - before, seed, error=error)
        controller.tell(trial)
        if on_trial is not None:
            on_trial(trial)


def best(trials: Iterable[Trial]) -> Trial:
    """The complete trial with the smallest loss, the earliest among equals.

    Raises SpaceFault when none is complete, with the last error that was seen.
    """
    known = ordered(trials)
    complete = [trial for trial in known if loss_of(trial) is not None]
    if not complete:
        errors = [trial.error for trial in known if trial.error]
        raise SpaceFault(
            f"at least one trial must complete, got {len(known)} of which none did"
            + (f" (last error: {errors[-1]})" if errors else "")
            + ": read the trials' errors, or give the search more trials"
        )
    return min(complete, key=lambda trial: (loss_of(trial), trial.number))
