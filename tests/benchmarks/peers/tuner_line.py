"""A tuner in a process of its own, one JSON document a line; beside the peers' own scripts.

First line in: {"space": rows of parameters, "seed": int, "trials": int}. Then a line out with the
next parameters and the CPU seconds spent so far, and a line in with their loss, until it is closed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def serve(make: Callable[[list[Row], int, int], tuple[Callable[[], Row], Callable[[float], None]]]):
    """`make(rows, seed, trials)` answers ask() -> params, and tell(loss) of what was asked last."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints goes to the errors
    job = json.loads(sys.stdin.readline())
    started = time.process_time()
    ask, tell = make(job["space"], job["seed"], job["trials"])
    while True:
        params = active(job["space"], ask())
        out.write(json.dumps({"params": params, "cpu": time.process_time() - started}) + "\n")
        out.flush()
        line = sys.stdin.readline()
        if not line:
            return
        tell(json.loads(line)["loss"])


def active(rows: list[Row], params: Row) -> Row:
    """Only what counts; a peer without conditions sets everything."""
    out: Row = {}
    for row in rows:
        when = row.get("when")
        if when is None or (when[0] in out and out[when[0]] in wanted(when)):
            out[row["name"]] = params[row["name"]]
    return out


def wanted(when: list[Any]) -> list[Any]:
    return when[1] if isinstance(when[1], list) else [when[1]]


def values(row: Row) -> list[Any] | None:
    """The choices of a categorical or ordinal parameter, None for a number."""
    return row.get("choices") or row.get("values")
