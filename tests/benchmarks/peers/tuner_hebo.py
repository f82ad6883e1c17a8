"""HEBO; run by the interpreter of `tuner_hebo`.

Cowen-Rivers and others, *HEBO: Pushing the limits of sample-efficient hyperparameter optimisation*,
JAIR 2022. It knows no conditions: it is given every parameter, and inactive ones are dropped.
"""

from __future__ import annotations

import warnings
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hebo.design_space.design_space import DesignSpace  # noqa: E402
from hebo.optimizers.hebo import HEBO  # noqa: E402
from tuner_line import serve, values  # noqa: E402

torch.set_num_threads(1)


def described(row: dict[str, Any]) -> dict[str, Any]:
    """Choices go by their index, ordinal ones as whole numbers."""
    name, choices = row["name"], values(row)
    if row["kind"] == "ordinal":
        return {"name": name, "type": "int", "lb": 0, "ub": len(choices) - 1}
    if choices:
        return {"name": name, "type": "cat", "categories": list(range(len(choices)))}
    if row["kind"] == "int":
        kind = "pow_int" if row["log"] else "int"
    else:
        kind = "pow" if row["log"] else "num"
    return {"name": name, "type": kind, "lb": row["low"], "ub": row["high"]}


def make(rows: list[dict[str, Any]], seed: int, trials: int):
    np.random.seed(seed)
    torch.manual_seed(seed)
    hebo = HEBO(DesignSpace().parse([described(row) for row in rows]), scramble_seed=seed)
    asked: list[Any] = []

    def ask() -> dict[str, Any]:
        asked.append(hebo.suggest(n_suggestions=1))
        found = asked[-1].iloc[0].to_dict()
        return {row["name"]: read(row, found[row["name"]]) for row in rows}

    def tell(loss: float) -> None:
        hebo.observe(asked[-1], np.array([[loss]]))

    return ask, tell


def read(row: dict[str, Any], value: Any) -> Any:
    choices = values(row)
    if choices:
        return choices[int(value)]
    kind = int if row["kind"] == "int" else float
    return min(max(kind(value), row["low"]), row["high"])


if __name__ == "__main__":
    serve(make)
