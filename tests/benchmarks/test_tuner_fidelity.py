"""The comparison with and without stopping: paired, replayed from what was recorded."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.search.fidelity import Judge
from tests.benchmarks.tuner import fidelity


def test_every_recorded_table_is_whole() -> None:
    for name in fidelity.TABLES:
        task = fidelity.recorded(name)
        assert task.most >= 24
        assert len(task.space) > 5


def test_a_recorded_fit_is_answered_once_and_stopped_as_a_real_one() -> None:
    task = fidelity.recorded("noaa")
    ask = task.evaluate(0)
    params = task.space.decode(np.full(len(task.space), 0.5))
    first = [ask(params, number, None) for number in range(5)]
    assert len({tuple(sorted(t.params.items())) for t in first}) == 5
    assert {t.params["family"] for t in first} == {params["family"]}
    assert all(t.status == "complete" and t.curve == () for t in first)
    again = task.evaluate(0)
    watched = [again(params, number, Judge(params, [])) for number in range(5)]
    assert [t.params for t in watched] == [t.params for t in first]
    assert [t.loss for t in watched] == [t.loss for t in first]


def test_pairs_share_all_but_the_stopping() -> None:
    task = fidelity.recorded("elec2")
    (pair,) = fidelity.pairs([task], seeds=1, trials=12, seconds=None)
    assert pair.off.stopped == 0
    assert len(pair.off.at) == 12
    assert pair.on.within(pair.off.at[-1])[0] >= 1
    same = int(np.argmin(pair.off.loss[:4] == pair.on.loss[:4])) or 4
    assert same >= 2  # until the first is stopped, nothing differs but the curve's cost
    row = fidelity.table([pair], trials=12, seconds=None)[0]
    assert row["problem"] == "elec2, recorded"
    saved = 100 * (1 - pair.on.after(12)[0] / pair.off.after(12)[0])
    assert row["saved % at 12 trials"].startswith(f"{saved:+.2f}")


@pytest.mark.parametrize(("seconds", "trials"), [(0.5, 0), (1.0, 1), (9.0, 3)])
def test_what_ended_within_the_seconds(seconds: float, trials: int) -> None:
    run = fidelity.Run(np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.4, 0.4]), 0, 0.0)
    count, loss = run.within(seconds)
    assert count == trials
    assert math.isnan(loss) if not trials else loss == run.loss[trials - 1]
