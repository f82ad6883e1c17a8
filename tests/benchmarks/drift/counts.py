"""Rejections counted, with the Monte Carlo error that such a count has."""

from __future__ import annotations

import math


def chance(level: float, repetitions: int) -> tuple[int, int]:
    """The counts of rejections that an exact test stays between, 99 times in 100.

    >>> chance(0.05, 2000)
    (76, 126)
    """
    from scipy.stats import binom

    low, high = binom.interval(0.99, repetitions, level)
    return int(low), int(high)


def verdict(rejections: int, level: float, repetitions: int) -> str:
    """'' within Monte Carlo error, else on which side it is outside.

    >>> verdict(101, 0.05, 2000), verdict(166, 0.05, 2000)
    ('', 'too many')
    """
    low, high = chance(level, repetitions)
    return "too many" if rejections > high else "too few" if rejections < low else ""


def standard_error(rate: float, repetitions: int) -> float:
    return math.sqrt(rate * (1 - rate) / repetitions)
