"""Which of the gate's rows came together."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pandas as pd

from models.gate import GateRule
from tasks.prove import _groups
from tasks.rows import TIME


def test_the_gates_groups_are_stretches_of_its_block():
    times = pd.to_datetime(
        ["2024-01-01 09:00", "2024-01-02 08:59", "2024-01-02 09:00", None], utc=True
    )
    holdout = pd.DataFrame({TIME: times})
    config = SimpleNamespace(gate=GateRule(block=timedelta(days=1)))
    assert _groups(config, holdout).tolist() == [0, 0, 1, -1]
    assert _groups(SimpleNamespace(gate=GateRule()), holdout) is None
