"""What both pictures share: the words, the colours, the ticks and where labels go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY
from deployments.demo.story import Story

# Okabe and Ito's colours, apart for every common kind of colour blindness; grey for the model that
# does nothing. Width and dashes tell the lines apart without colour too.
COLOUR = {FROZEN: "#6e7278", WEEKLY: "#0072B2", EVERFIT: "#D55E00"}
WIDTH = {FROZEN: 1.6, WEEKLY: 1.5, EVERFIT: 3.6}  # weekly is drawn on top of everfit
DASHES = {FROZEN: (5, 3), WEEKLY: None, EVERFIT: None}
WORD = {FROZEN: "frozen", WEEKLY: "weekly", EVERFIT: "everfit"}
LOSS_TITLE = "Log loss by week: how wrong each model was (lower is better)"
UNSEEN_TITLE = "Share of words that the training texts never had"
SHARE_TITLE = "Share of inputs whose distribution has drifted (Evidently)"


def titles(story: Story) -> tuple[str, ...]:
    """Of the strips, from the top; the last one only where inputs are texts."""
    found = (LOSS_TITLE, positives_title(story), mmd_title(story), SHARE_TITLE)
    return (*found, UNSEEN_TITLE) if story.texts else found


def mmd_title(story: Story) -> str:
    days = "day differs" if story.window_days == 1 else f"{story.window_days:g} days differ"
    return f"Whether the last {days} from the training data: -log10 p of the shift test"


def mmd_alarm(story: Story) -> str:
    if story.p_value_limit is None:
        return "filled: alarm"
    return f"filled: p \u2264 {story.p_value_limit:g}"


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one cloud: x in days since the replay began; `alarmed` of clouds only."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    alarmed: tuple[bool, ...] = ()


def losses(story: Story) -> dict[str, Series]:
    """Loss by week of each, drawn at the middle of its week."""
    last = len(story.weeks)
    middles = tuple(
        (7 * (w.week - 1) + (7 * w.week if w.week < last else story.days)) / 2 for w in story.weeks
    )
    return {
        name: Series(middles, tuple(w.loss[name] for w in story.weeks))
        for name in (FROZEN, WEEKLY, EVERFIT)
    }


def positives(story: Story) -> Series:
    """Share of the positive class among each week's scored rows, drawn as the losses are."""
    return Series(losses(story)[FROZEN].x, tuple(w.positive for w in story.weeks))


def positives_title(story: Story) -> str:
    return f"Share of {story.words.rows} that are {story.words.positive}, by week"


def mmd(story: Story) -> Series:
    """-log10 p of each day's check; a day on which the test could not speak has none."""
    spoke = [c for c in story.checks if c.mmd is not None and c.mmd_p_value is not None]
    return Series(
        tuple(c.day + 1.0 for c in spoke),
        tuple(max(c.mmd or 0.0, 0.0) for c in spoke),
        tuple(c.mmd_alarmed for c in spoke),
    )


def shares(story: Story) -> Series:
    spoke = [c for c in story.checks if c.drifted_share is not None]
    values = tuple(float(c.drifted_share or 0.0) for c in spoke)
    return Series(
        tuple(c.day + 1.0 for c in spoke), values, tuple(v >= story.share_limit for v in values)
    )


def unseen(story: Story) -> Series:
    """Share of never seen words in each day's window, where the vocabulary could be compared."""
    spoke = [c for c in story.checks if c.unseen is not None]
    return Series(
        tuple(c.day + 1.0 for c in spoke),
        tuple(float(c.unseen or 0.0) for c in spoke),
        tuple(c.unseen_alarmed for c in spoke),
    )


def dates(story: Story) -> list[tuple[float, str]]:
    """Ticks of the time axis: every first or second week, or the months of a long replay."""
    if story.days > 25 * 7:
        moment = story.start.replace(day=1)
        ticks = []
        while moment < story.start + timedelta(days=story.days):
            if moment >= story.start:
                ticks.append(((moment - story.start) / timedelta(days=1), f"{moment:%b}"))
            moment = (moment + timedelta(days=32)).replace(day=1)
        return ticks
    step = 7 if story.days <= 12 * 7 else 14
    return [
        (float(day), short_date(story.start + timedelta(days=day)))
        for day in range(0, story.days + 1, step)
    ]


def short_date(moment: datetime) -> str:
    """
    >>> short_date(datetime(2013, 2, 5))
    '5 Feb'
    """
    return f"{moment.day} {moment:%b}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 round numbers from `low` to `high`.

    >>> ticks(0.43, 0.61)
    [0.45, 0.5, 0.55, 0.6]
    """
    span = max(high - low, 1e-9)
    raw = span / most
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(s * base for s in (1, 2, 2.5, 5, 10) if s * base >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def figures(places: Sequence[float]) -> str:
    """How to write the numbers of an axis so that each is itself, with two decimals or more.

    >>> figures([0.45, 0.5]), figures([0.025, 0.05])
    ('{:.2f}', '{:.3f}')
    """
    decimals = next(d for d in range(2, 9) if all(round(p, d) == round(p, 9) for p in places))
    return f"{{:.{decimals}f}}"


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places as near as possible to the wanted ones, in their order, at least `gap` apart.

    >>> spread([10.0, 11.0, 40.0], gap=6.0)
    [7.5, 13.5, 40.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        groups.append([i])
        centres.append(wanted[i])
        while (
            len(groups) > 1
            and centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):  # two groups touch: one group around the mean of what its members wanted
            groups[-2:] = [groups[-2] + groups[-1]]
            centres[-2:] = [sum(wanted[j] for j in groups[-1]) / len(groups[-1])]
    places = [0.0] * len(wanted)
    for group, centre in zip(groups, centres, strict=True):
        for rank, i in enumerate(group):
            places[i] = centre + (rank - (len(group) - 1) / 2) * gap
    return places
