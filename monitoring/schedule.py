"""The error budget: one bound on false alarms for a year of checks, however many there are.

A drift test at level 0.05 that runs every hour is wrong 438 times a year when it is right about
everything else. Here the probability of *any* false alarm within a horizon is fixed first, 1 % a
year by default, and spent as time passes (alpha spending, Lan and DeMets, Biometrika 70, 1983): a
test is paid for by the time since the last test of the same window length. Ten times as many checks
get a tenth of the level each, checks that fall out spend nothing, and the sum stays the same. The
budget is shared between short windows, which see a jump at once, and long ones, which see a slow
or faint change that no hour shows.

Why the union bound and nothing sharper. All checks share the reference, so they depend on one
another: an unlucky reference is unlucky at every check, and after some near alarms one knows it.

- E-processes and betting (Ramdas, Grünwald, Vovk and Shafer, Statistical Science 38, 2023) multiply
  what every check earned, which needs a fair bet *given the past*. Against a shared reference the
  bets are not fair given the past, and the product is no supermartingale. Averaging e-values is
  valid, but then one check must earn 1 / level times the number of checks, as here.
- LORD, SAFFRON and their kin (Javanmard and Montanari, Annals of Statistics 46, 2018) want p-values
  that are valid given the past as well, and bound the rate of false discoveries; to a team that is
  called at night, any false alarm counts.
- Conformal test martingales (Vovk, Nouretdinov and Gammerman, ICML 2003; Vovk et al., COPA 2021)
  use every row once and are valid without a horizon. They test that the stream's rows are
  exchangeable one by one, which rows of a busy hour, correlated with their neighbours, are not; a
  permutation of whole blocks keeps such rows together.

The union bound asks for nothing but a test that is exact on its own, averaged over references: then
P(any false alarm) <= sum of levels <= probability, whatever the dependence. It also limits what an
unlucky reference can do: by Markov's inequality at most one reference in ten has a conditional
probability above ten times the budget. What it costs is little, since the distance a test can see
grows only with the square root of log(1 / level), and sequential permutation tests
(`monitoring.shift`) make a level of 1e-6 affordable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from monitoring.errors import WindowFault

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Spent:
    """What the budget remembers of one model between two checks. JSON through to_dict/from_dict.

    Keep it over retrains: the promise is about the model's alarms, not about one version's.
    """

    tested: Mapping[timedelta, datetime] = field(default_factory=dict)  # last test of each length
    since: datetime | None = None  # the first test
    total: float = 0.0  # levels spent since then

    def to_dict(self) -> dict[str, Any]:
        return {
            "tested": [[k.total_seconds(), v.isoformat()] for k, v in sorted(self.tested.items())],
            "since": self.since and self.since.isoformat(),
            "total": self.total,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Spent:
        """The state that `to_dict` wrote; an empty mapping is the state of a new model."""
        return cls(
            {
                timedelta(seconds=length): datetime.fromisoformat(time)
                for length, time in state.get("tested", ())
            },
            datetime.fromisoformat(state["since"]) if state.get("since") else None,
            float(state.get("total", 0.0)),
        )


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """The probability of any false alarm in any stretch of `horizon`, and how it is shared.

    `shares` are the parts of it that each window length gets, at most 1 in sum. A length is due
    when `fresh` of its window is new since it was last tested; testing the same rows again a
    minute later would only buy a smaller level. One test is paid for at most the longer of its
    window and `most`, so that a model whose checks stood still for a month does not spend it on one
    test; with daily checks an hour's window is still paid for the whole day.

    >>> from datetime import UTC
    >>> budget, now = ErrorBudget(), datetime(2026, 1, 1, tzinfo=UTC)
    >>> state = budget.spend(Spent(), now)
    >>> {str(k): f"{v:.1e}" for k, v in budget.levels(state, now + HOUR).items()}
    {'1:00:00': '3.8e-07'}
    """

    probability: float = 0.01
    horizon: timedelta = YEAR
    shares: Mapping[timedelta, float] = field(
        default_factory=lambda: {HOUR: 1 / 3, DAY: 1 / 3, WEEK: 1 / 3}
    )
    fresh: float = 0.125
    most: timedelta = DAY

    def __post_init__(self) -> None:
        zero = timedelta(0)
        if not 0 < self.probability < 1:
            _refuse("probability", "above 0 and below 1", self.probability, "0.01")
        if self.horizon <= zero:
            _refuse("horizon", "longer than nothing", self.horizon, "a year")
        if not self.shares or min(self.shares) <= zero:
            _refuse("shares", "keyed by lengths above 0", dict(self.shares), "hour, day and week")
        total = sum(self.shares.values())
        if min(self.shares.values()) <= 0 or total > 1 + 1e-9:
            _refuse("shares", "above 0 and at most 1 in sum", dict(self.shares), "equal ones")
        if not 0 < self.fresh <= 1:
            _refuse("fresh", "above 0 and at most 1", self.fresh, "0.125")
        if self.most < zero:
            _refuse("most", "at least 0", self.most, "a day")

    def levels(self, state: Spent, now: datetime) -> dict[timedelta, float]:
        """The level at which each window length that is due may be tested at `now`.

        A length that is not due is absent: it is not tested now. `now` carries its zone.
        """
        if now.tzinfo is None:
            raise WindowFault(f"now must carry its time zone, got {now}: use datetime.now(UTC)")
        found = {}
        for length, share in sorted(self.shares.items()):
            last = state.tested.get(length)
            elapsed = length if last is None else now - last
            if elapsed < self.fresh * length:
                continue
            # A first test is paid for without any time having passed before it. The longest payment
            # is added to the horizon, so the sum holds in every stretch, wherever it begins.
            longest = max(length, self.most)
            time = min(elapsed, longest) / (self.horizon + longest)
            found[length] = self.probability * share * time
        return found

    def spend(
        self, state: Spent, now: datetime, lengths: Iterable[timedelta] | None = None
    ) -> Spent:
        """The state after the tests of `lengths` at `now`; of every length due when None.

        Name only lengths that were tested: one that had too few rows keeps what it has. Raises
        WindowFault for a length that was not due.
        """
        due = self.levels(state, now)
        chosen = tuple(due) if lengths is None else tuple(dict.fromkeys(lengths))
        for length in chosen:
            if length not in due:
                raise WindowFault(
                    f"a length must be due to be tested, got {length} of the due "
                    f"{', '.join(map(str, due)) or 'none'}: test what `levels` names"
                )
        if not chosen:
            return state
        return Spent(
            {**state.tested, **dict.fromkeys(chosen, now)},
            state.since or now,
            state.total + sum(due[length] for length in chosen),
        )


def _refuse(name: str, rule: str, value: object, remedy: str) -> None:
    raise WindowFault(f"{name} of an error budget must be {rule}, got {value}: {remedy} is usual")
