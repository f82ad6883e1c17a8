"""The report and the pictures of a made replay: complete, self-contained, and honest."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from deployments.demo import flights as fl
from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY, Scoreboard, headline
from deployments.demo.story import Check, Retrain, Story

START = fl.YEAR_STARTS + 28 * fl.DAY


def made_story(days=112, seed=4, retrains=((9, True), (30, False), (52, True), (87, True))):
    """A replay in which the world moves, with the retrains given as (day, passed)."""
    rng = np.random.default_rng(seed)
    board = Scoreboard(days)
    skill = 0.75
    for day in range(days):
        skill = 1.0 if (day, True) in retrains else skill - 0.004
        level = -1.3 + 0.7 * np.sin(day / 20) + rng.normal(scale=0.4)
        x = rng.normal(size=60) * 1.2
        y = (rng.random(60) < 1 / (1 + np.exp(-x - level))).astype(float)
        said = {FROZEN: x * 0.5 - 1.3, WEEKLY: x + 0.9 * level - 0.1, EVERFIT: skill * x + level}
        board.add(day, y, {name: 1 / (1 + np.exp(-odds)) for name, odds in said.items()})
    by_day = dict(retrains)
    checks, made = [], []
    for day in range(days):
        time = START + timedelta(days=day + 1)
        drift = 0.15 + 0.25 * abs(np.sin(day / 20)) + rng.normal(scale=0.06)
        acted = day in by_day
        window = f"flights-v{1 + len(made)}-{time:%Y%m%dT%H%M%SZ}"
        checks.append(
            Check(
                day=day,
                time=time,
                window_id=window,
                version=str(1 + len(made)),
                action="retrain" if acted else "keep",
                rule="confirmed drift" if acted else "quiet",
                reasons=(
                    ("MMD p = 0.001 < 0.005 on 3 of 3 windows", "2,310 new labels")
                    if acted
                    else ("no confirmed breach",)
                ),
                mmd_p_value=None if day % 31 == 5 else float(10 ** -min(3, drift * 7)),
                drifted_share=float(np.clip(drift, 0, 1)),
                report=f"reports/{window}.html" if drift > 0.3 else None,
            )
        )
        if acted:
            made.append(
                Retrain(
                    number=len(made) + 1,
                    day=day,
                    time=time,
                    window_id=window,
                    rule="confirmed drift",
                    reasons=checks[-1].reasons,
                    passed=by_day[day],
                    verdict="gain 0.031 per row, interval 0.012 to 0.049, above 0"
                    if by_day[day]
                    else "interval -0.004 to 0.011 does not clear 0: the champion stays",
                    version=str(len(made) + 2),
                    seconds=6.4,
                    trials=6,
                    gain=0.031 if by_day[day] else 0.003,
                    low=0.012 if by_day[day] else -0.004,
                    high=0.049 if by_day[day] else 0.011,
                    gate_rows=2000,
                )
            )
    table = board.table(resamples=200)
    weekly = (days - 1) // 7
    return Story(
        start=START,
        days=days,
        first_rows=23886,
        first_days=28,
        requests=days * 19,
        rows=days * 62,
        unlabelled=days * 2,
        weeks=tuple(board.by_week()),
        checks=tuple(checks),
        retrains=tuple(made),
        table=table,
        weekly_retrains=weekly,
        training_seconds={FROZEN: 0.0, WEEKLY: 14.2, EVERFIT: 25.6},
        wall_seconds=212.0,
        p_value_limit=0.005,
        share_limit=0.5,
        headline=tuple(headline(table, len(made), weekly)),
    )
