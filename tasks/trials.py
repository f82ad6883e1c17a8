"""Trials side by side: as soon as one ends, the next is asked, within trials and seconds.

Asynchronous, and repeatable all the same: each end is told and answered by one ask before the next
end is looked at, so the seed and the order of the ends give the trials.

Time is kept in three ways. A trial that is predicted to end after the deadline is not started. One
that runs is stopped at its limit (see `models.watchdog`). One that even then does not stop, as in a
long call into C, is given up: it counts as failed, nobody waits for it, and its thread keeps its
place until it ends. A trial that waits for a node to run on is not timed until it begins.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from models.records import Params, Scalar, Trial
from models.search.base import key
from models.search.cost import CostModel, Left, full_seconds
from models.search.reward import loss_of
from tasks.journal import Journal

if TYPE_CHECKING:
    from models.performance.screen import Screen
    from models.search import Searcher
    from models.search.frontier import Frontier
    from models.search.objectives import Objective
    from models.space import Space

# (params, number, limit in seconds, callback for the outcome from any thread)
Start = Callable[[Params, int, float, Callable[[Trial], None]], None]


class Care(Protocol):
    """Looks after trials that run elsewhere."""

    def began(self, number: int) -> float | None:
        """When the trial began to run, by the search's clock; None while it waits for a node."""

    def stop(self, number: int) -> None:
        """Nobody waits for the trial any more."""

    def look(self) -> None:
        """Called several times a second. Raises what ends the search."""


log = logging.getLogger(__name__)

_PROPOSALS = 4  # asked for one that fits into the time left and can keep the limits
_TRIED = "every configuration of the space runs or has been tried"
_QUANTILE = 0.9  # of a family's seconds: what its next trial is predicted to take
_FEW = 5  # trials of a family that tell what its parameters cost
_FAR = 3.0  # times the longest of them, above which no prediction is believed


@dataclass(frozen=True, slots=True)
class Limits:
    """trials and seconds of wall clock for the whole search, and for one trial."""

    trials: int
    seconds: float
    parallel: int = 1
    trial_seconds: float | None = None

    @property
    def grace(self) -> float:
        """Seconds past its limit after which a trial that does not stop is given up."""
        return min(max(0.02 * self.seconds, 0.05), 2.0)


def predicted(params: Params, trials: Sequence[Trial], space: Space | None = None) -> float | None:
    """Seconds that a trial may take, judged by the earlier ones of its family; None: no idea.

    With a space and a few of them, by its parameters too: what an epoch or a tree more costs.
    """
    family = params.get("family")
    alike = [t for t in trials if t.params.get("family") == family]
    known = [s for t in alike if (s := full_seconds(t)) is not None]
    if space is not None and len(known) >= _FEW:
        return min(CostModel(space, alike).at_most(params, _QUANTILE), _FAR * max(known))
    return float(np.quantile(known, _QUANTILE)) if known else None


@dataclass
class Search:
    """One search as it runs; `run` answers why it ended."""

    searcher: Searcher
    goal: Objective
    journal: Journal
    limits: Limits
    start: Start
    seed: int  # trial `number` is fitted with seed + number
    known: Sequence[dict[str, Scalar]] = ()  # tried before the searcher is asked
    care: Care | None = None
    screen: Screen | None = None  # of what cannot keep the goal's limits
    frontier: Frontier | None = None  # asked for every second trial, where a front is wanted
    expect: Callable[[Params], float | None] = lambda _: None  # seconds, by earlier searches
    screened: list[Params] = field(default_factory=list)  # passed over: they can't keep a limit
    recovered: Sequence[Trial] = ()  # had ended in a search that was killed before it heard of it
    clock: Callable[[], float] = time.monotonic
    tick: float = 0.5  # seconds between two looks at what runs
    running: dict[int, tuple[Params, float, float]] = field(default_factory=dict)  # began, limit
    stuck: set[int] = field(default_factory=set)  # given up, and still on a thread
    _began: float = 0.0

    @property
    def trials(self) -> list[Trial]:
        return self.journal.trials

    @property
    def seconds(self) -> float:
        """Of wall clock since the search began, those of a killed process included."""
        return self.journal.spent + self.clock() - self._began

    @property
    def allowed(self) -> int:
        return self.limits.trials + self.journal.killed

    async def run(self, show: Callable[[Search], Awaitable[Any]] | None = None) -> str:
        """Search to the end; `show` is called after each end and now and then between."""
        self._began = self.clock()
        outcomes: asyncio.Queue[Trial] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def finished(trial: Trial) -> None:
            loop.call_soon_threadsafe(outcomes.put_nowait, trial)

        for trial in self.recovered:
            self.running[trial.number] = (trial.params, self.clock(), 0.0)
            self._end(trial)
        while True:
            stopped = self._fill(finished)
            if not self.running:
                return stopped
            if show is not None:
                await show(self)
            if self.care is not None:
                self.care.look()
            try:
                trial = await asyncio.wait_for(outcomes.get(), self._patience())
            except TimeoutError:
                self._give_up()
            else:
                self._end(trial)

    def _fill(self, finished: Callable[[Trial], None]) -> str:
        """Start what may be started; why nothing more is, '' while all places are taken."""
        while len(self.running) + len(self.stuck) < self.limits.parallel:
            stopped = self._spent() or self.searcher.done()
            if stopped:
                return stopped
            left = self._left()
            params, passed_over, late, widens = self._propose(left)
            if params is None:
                return late
            number = len(self.trials) + len(self.running)
            limit = min(self.limits.seconds - self.seconds, self.limits.trial_seconds or math.inf)
            self.journal.asked(
                number,
                params,
                seed=self.seed + number,
                pending=sorted(self.running),
                passed_over=passed_over,
                at=self.seconds,
                left=left,
                frontier=widens,
            )
            self.running[number] = (params, self.clock(), limit)
            self.start(params, number, limit, finished)
        if self.stuck and not self.running:
            return f"{len(self.stuck)} trials could not be stopped and take all places"
        return ""

    def _spent(self) -> str | None:
        if len(self.trials) + len(self.running) >= self.allowed:
            return f"all {self.limits.trials} trials spent"
        if self.seconds >= self.limits.seconds:
            return f"the {self.limits.seconds:g} s for the search are spent"
        return None

    def _left(self) -> Left | None:
        """What may still be spent, for a searcher that weighs it, rounded as it is journalled."""
        if not getattr(self.searcher, "budgeted", False):
            return None
        seconds = max(self.limits.seconds - self.seconds, 0.0)
        trials = self.allowed - len(self.trials) - len(self.running)
        return Left(round(seconds, 3), trials, round(seconds / self.limits.seconds, 6))

    def _propose(self, left: Left | None) -> tuple[Params | None, list[Params], str, bool]:
        """The next configuration, what was passed over for it, why there is none, and whether it is
        meant to widen the front.

        A proposal that takes too long for what is left, or cannot keep the goal's limits, is passed
        over, and the searcher asked as if it were under way. One that runs already means that
        nothing new is left until it ends.
        """
        number = len(self.trials) + len(self.running)
        if number < len(self.known):
            return self.known[number], [], "", False
        pending = [params for params, _, _ in self.running.values()]
        passed_over = list(self.screened)  # or a searcher that draws would draw them again
        tried = {key(trial.params) for trial in self.trials}
        late = ""
        for attempt in range(_PROPOSALS):
            params, widens = self._ask(number, [*pending, *passed_over], left)
            if key(params) in {key(other) for other in (*pending, *passed_over)}:
                break
            if self.running and key(params) in tried:
                break
            seconds = predicted(params, self.trials, self.searcher.space)
            seconds = self.expect(params) if seconds is None else seconds
            over = self.limits.seconds - self.seconds
            if seconds is None or seconds <= over or not any(map(_complete, self.trials)):
                if attempt == _PROPOSALS - 1 or not self._hopeless(params):
                    return params, passed_over, "", widens
                self.screened.append(params)
            else:
                late = (
                    f"no time for another trial: {max(over, 0):.1f} of {self.limits.seconds:g} s "
                    f"are left, and the next is predicted to take {seconds:.1f} s"
                )
            passed_over.append(params)
        return None, passed_over, late or _TRIED, False

    def _ask(
        self, number: int, pending: Sequence[Params], left: Left | None
    ) -> tuple[Params, bool]:
        """What the frontier or the searcher proposes, and whether it was the frontier."""
        if self.frontier is not None and number % 2:
            found = self.frontier.propose(self.trials, pending)
            if found is not None:
                return found, True
        ask: Callable[..., Params] = self.searcher.ask
        return ask(pending, *(() if left is None else (left,))), False

    def _hopeless(self, params: Params) -> bool:
        why = None if self.screen is None else self.screen(params, self.trials)
        if why is not None:
            log.info("passed over %s: %s", dict(params), why)
        return why is not None

    def _patience(self) -> float:
        now = self.clock()
        overdue = min(map(self._overdue, self.running))
        return min(max(overdue - now, 0.001), self.tick)

    def _overdue(self, number: int) -> float:
        """When the trial is given up: past its own limit, or past the end of the search."""
        _, began, limit = self.running[number]
        end = self._began + self.limits.seconds - self.journal.spent
        if self.care is None:
            end = began + limit
        elif (run := self.care.began(number)) is not None:
            end = min(run + limit, end)
        return end + self.limits.grace

    def _give_up(self) -> None:
        now = self.clock()
        for number, (params, began, limit) in list(self.running.items()):
            if now > self._overdue(number):
                self.stuck.add(number)
                error = (
                    f"FitTimeout: a trial may take {limit:.3g} s and could not be stopped: give "
                    "more seconds or fewer rows"
                )
                seed = self.seed + number
                self._tell(Trial(number, params, "failed", None, now - began, seed, error=error))
                if self.care is not None:
                    self.care.stop(number)

    def _end(self, trial: Trial) -> None:
        if trial.number in self.stuck:  # told already; its thread is free again
            self.stuck.discard(trial.number)
            return
        if trial.status == "complete":
            trial = self._turned(trial)
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        del self.running[trial.number]
        self.searcher.tell(trial)
        self.journal.ended(trial, self.seconds)

    def _turned(self, trial: Trial) -> Trial:
        """With the loss that the goal makes of its metrics, measured by the first complete one."""
        first = next(filter(_complete, self.trials), trial)
        loss = self.goal.told(trial.metrics, first.metrics)
        if math.isfinite(loss):
            return replace(trial, loss=loss)
        lacking = [name for name in self.goal.named if name not in trial.metrics]
        error = f"DataFault: the goal needs {', '.join(lacking) or self.goal}, which has no value"
        return replace(trial, status="failed", loss=None, error=error)


def _complete(trial: Trial) -> bool:
    return loss_of(trial) is not None
