"""everfit on a stream: its own detectors, rules, search and gate, under a simulated clock.

One check a block, as `everfit watch` makes it: measure, observe, decide, and retrain if the
decision says so. What a server, a store and a registry would hold is held in memory.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from monitoring import policy
from monitoring.evidence import Evidence, Settings
from monitoring.measure import lengths_tested, measure
from monitoring.records import Signals, Window
from monitoring.schedule import ErrorBudget, Spent
from tasks.rows import TIME
from tests.benchmarks.loop import settings
from tests.benchmarks.loop.entries import Attempt, Frozen
from tests.benchmarks.loop.learner import Learner, Model, Outcome, retrain
from tests.benchmarks.loop.proxies import Proxies
from tests.benchmarks.loop.settings import Plan
from tests.benchmarks.loop.streams import Stream

LATENCY_MS = 1.0  # nothing is served here, so latency is as usual


class Everfit(Frozen):
    """The product's loop under one rule set."""

    def __init__(
        self,
        stream: Stream,
        learner: Learner,
        first: Model,
        plan: Plan,
        *,
        memory: Mapping[str, Any],
        proxies: Proxies | None,
        shared: dict[Hashable, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, learner, first)
        self.name = (
            "everfit" if plan.rules.rule_set == "default" else f"everfit, {plan.rules.rule_set}"
        )
        self.plan, self.seed = plan, seed
        self._memory: Mapping[str, Any] = memory
        self._proxies = proxies
        # Work that another entry has done from the same state is taken over with its seconds.
        self._shared = {} if shared is None else shared
        self._version, self._since = 1, 0  # the champion, and the first block that it answered
        self._budget = ErrorBudget(shares={stream.span: 1.0})
        self._spent = Spent()
        start = stream.frame[TIME].iloc[stream.edges[0]].to_pydatetime()
        self._state = policy.after_retrain(policy.PolicyState(), True, start)
        # the cool-down is about retrains; the first champion is none
        self._state = replace(self._state, last_attempt=None)
        self._reference = self._sample(int(stream.edges[0]))

    def learn(self, block: int) -> None:
        """The labels of `block` are known: check, and act on the decision."""
        if self.last(block):
            return
        stream, rules = self.stream, self.plan.rules
        now = stream.ends(block)
        signals = self._look(block)
        self._state = policy.observe(self._state, signals, now, rules)
        decision = policy.decide(signals, self._state, now, rules)
        if not decision.retrain:
            return
        known = int(stream.edges[block + 1])
        key = ("retrain", known, id(self.model), id(self._memory))
        if key not in self._shared:
            self._shared[key] = retrain(
                self.learner, stream.rows(0, known), self.model, self._memory, self.plan.gate, now
            )
        outcome: Outcome = self._shared[key]
        self._memory = outcome.memory
        self.log.seconds += outcome.seconds
        passed = outcome.model is not None
        self._state = policy.after_retrain(self._state, passed, now)
        self.log.attempts.append(
            Attempt(block, passed, decision.reasons, decision.rule, outcome.verdict.reason)
        )
        if outcome.model is not None:
            self.model = outcome.model
            self._version, self._since = self._version + 1, block + 1
            self._reference = self._sample(known)

    def _look(self, block: int) -> Signals:
        """What is measured after `block`; proxies count as training, the rest as watching."""
        levels = self._budget.levels(self._spent, self.stream.ends(block))
        key = ("look", block, id(self.model), self._since, tuple(levels.items()))
        if key not in self._shared:
            began = time.perf_counter()
            before = self._proxies.seconds if self._proxies else 0.0
            signals = self._measure(block, levels)
            fitted = (self._proxies.seconds if self._proxies else 0.0) - before
            self._shared[key] = (signals, fitted, time.perf_counter() - began - fitted)
        signals, fitted, watched = self._shared[key]
        self.log.seconds += fitted
        self.log.watching += watched
        tested = tuple(length for length in lengths_tested(signals) if length in levels)
        self._spent = self._budget.spend(self._spent, self.stream.ends(block), tested)
        return signals

    def _measure(self, block: int, levels: Mapping[timedelta, float]) -> Signals:
        stream, plan = self.stream, self.plan
        now, ends = stream.ends(block), int(stream.edges[block + 1])
        current = self._answered(block, block)
        from_block = max(self._since, block - settings.CALIBRATION_BLOCKS + 1)
        matured = self._answered(from_block, block)
        window = Window(
            f"{block:05d}",
            stream.name,
            str(self._version),
            now - stream.span,
            now,
            len(current),
            len(current),
        )
        limits = plan.thresholds
        if self.model.gate_rows:
            limits = (*limits, settings.worse_by(self.model.deviation, self.model.gate_rows))
        how = Settings(
            columns={c.name: c.kind for c in stream.schema.columns if c.kind != "text"},
            texts=stream.schema.texts,
            classes=stream.schema.classes,
            thresholds=limits,
            rules=plan.rules,
            levels=levels,
            confidence=settings.CONFIDENCE,
            minimum_rows=plan.minimum_rows,
            minimum_labels=plan.minimum_rows,
            mmd_rows=min(settings.MMD_ROWS, stream.block),
            explain="never",  # it costs much and decides nothing
            seed=self.seed,
        )
        evidence = Evidence(
            reference=self._reference,
            current=current,
            matured=matured,
            baseline=self.model.baseline,
            new_labels=ends - self.model.rows,
            trained_rows=self.model.rows,
            last_label=now - timedelta(milliseconds=1),
        )
        signals = measure(window, evidence, how, now)
        if self._proxies is not None:
            found = self._proxies.signals(block, self._since)
            signals = replace(signals, items=(*signals.items, *found))
        return signals

    def _answered(self, first: int, last: int) -> pd.DataFrame:
        """The rows of some blocks as the telemetry store has them."""
        a, b = int(self.stream.edges[first]), int(self.stream.edges[last + 1])
        frame = self.stream.rows(a, b)
        frame = frame.rename(columns={self.stream.schema.target: "label", TIME: "time"})
        return frame.assign(
            proba=[tuple(p) for p in self.log.proba[a:b].tolist()],
            latency_ms=np.full(b - a, LATENCY_MS),
        )

    def _sample(self, rows: int) -> pd.DataFrame:
        """The reference: a sample of what the champion learnt from."""
        frame = self.stream.rows(0, rows).drop(columns=[TIME])
        size = min(settings.REFERENCE_ROWS, rows)
        return frame.sample(size, random_state=self.seed).reset_index(drop=True)
