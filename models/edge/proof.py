"""Whether an exported folder answers as the model does: asked through its own script.

The script runs in a process that cannot import everfit, on recorded rows and on rows beside them,
in batches of 1, 2 and 33 and all at once.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.schema import Schema

Row = Mapping[str, Any]
Native = Callable[[Mapping[str, Sequence[Any]]], NDArray[np.float64]]

ROWS = 512  # recorded rows that are looked at, and as many beside them
BATCHES = (1, 2, 33)

_TURNS = 8  # batches of each size
_SECONDS = 300.0
_CHILD = """
import json, sys, time
for name in ("flows", "tasks", "models", "monitoring", "deployments"):
    sys.modules[name] = None
home, asked, told = sys.argv[1:]
sys.path.insert(0, home)
import predict
batches = json.load(open(asked, encoding="utf-8"))
answers = [predict.predict(rows).tolist() for rows in batches]
one, taken = batches[-1][:1], []
for _ in range(50):
    began = time.perf_counter()
    predict.predict(one)
    taken.append(time.perf_counter() - began)
found = {"answers": answers, "one_us": 1e6 * min(taken)}
json.dump(found, open(told, "w", encoding="utf-8"))
"""


class EdgeFault(ModelError):
    """A model that cannot be exported as asked, or an export that does not answer as the model."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How far the script's answers are from the model's.

    `difference` and `mean` are of a probability, over all rows in all batches; `changed` is the
    share of rows whose most probable class is another; `one_us` microseconds for one row, with what
    prepares it.
    """

    recorded: int
    beside: int
    batches: tuple[int, ...]
    difference: float
    mean: float
    changed: float
    tolerance: float
    one_us: float

    def note(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {**asdict(self), "batches": list(self.batches)}


def prove(
    folder: Path,
    schema: Schema,
    native: Native,
    recorded: Sequence[Row],
    example: Sequence[Row],
    tolerance: float,
    *,
    python: Path | str = sys.executable,
    seed: int = 0,
) -> tuple[Proof, NDArray[np.float64]]:
    """Ask the folder's script, run by `python`, for what `native` answers to columns; gives the
    script's answers to `example` as well.

    Raises EdgeFault if the script fails, or is further away than `tolerance` in a probability.
    """
    rng = np.random.default_rng(seed)
    chosen = np.unique(np.linspace(0, len(recorded) - 1, ROWS).astype(np.int64))
    rows = [recorded[place] for place in chosen]
    every = [*rows, *beside(rows, schema, rng)]
    order = rng.permutation(len(every))
    picks: list[NDArray[np.int64]] = []
    for size in BATCHES:
        starts = range(0, min(_TURNS * size, len(every) - size + 1), size)
        picks += [order[at : at + size] for at in starts]
    picks.append(np.arange(len(every)))
    batches = [example, *([every[i] for i in pick] for pick in picks)]
    (first, *answers), one_us = ask(folder, batches, python)
    expected = native({c.name: [row[c.name] for row in every] for c in schema.columns})
    apart = [_apart(got, expected[pick]) for got, pick in zip(answers, picks, strict=True)]
    proof = Proof(
        recorded=len(rows),
        beside=len(every) - len(rows),
        batches=tuple(size for size in BATCHES if size <= len(every)),
        difference=max(apart),
        mean=float("inf"),
        changed=1.0,
        tolerance=tolerance,
        one_us=one_us,
    )
    if not proof.difference <= tolerance:
        raise EdgeFault(
            f"an exported model may differ by {tolerance:g} in a probability, got "
            f"{proof.difference:.2g} on {len(every):,} rows: allow it with --tolerance, or export "
            "another form"
        )
    whole = answers[-1]
    mean, changed = np.abs(whole - expected).mean(), whole.argmax(1) != expected.argmax(1)
    return replace(proof, mean=float(mean), changed=float(changed.mean())), first


def ask(
    folder: Path, batches: Sequence[Sequence[Row]], python: Path | str = sys.executable
) -> tuple[list[NDArray[np.float64]], float]:
    """(the script's answers to each batch of rows, microseconds for a row of the last one)."""
    with tempfile.TemporaryDirectory(prefix="everfit-edge-") as home:
        asked, told = Path(home) / "asked.json", Path(home) / "told.json"
        asked.write_text(json.dumps(batches), encoding="utf-8")
        command = [str(python), "-I", "-B", "-c", _CHILD, str(folder.resolve())]
        try:
            done = subprocess.run(  # noqa: S603 - our own script
                [*command, str(asked), str(told)],
                check=False,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise EdgeFault(f"predict.py could not be run by {python}: {fault}") from fault
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["(it said nothing)"])[-1]
            raise EdgeFault(
                f"predict.py must answer recorded rows, it ended with {last!r}: install what "
                f"requirements.txt of the folder names for {python}"
            )
        found = json.loads(told.read_text(encoding="utf-8"))
    return [np.asarray(each, dtype=np.float64) for each in found["answers"]], found["one_us"]


def beside(rows: Sequence[Row], schema: Schema, rng: np.random.Generator) -> list[dict[str, Any]]:
    """As many rows, each changed in about a third of its columns.

    A number becomes missing, another row's, or of another type; a category missing, unknown,
    another row's, or a number of the same text where it is one; a text another row's, or both.
    """
    made = []
    for row in rows:
        fresh = dict(row)
        for column in schema.columns:
            if rng.random() < 1 / 3:
                other = rows[int(rng.integers(len(rows)))][column.name]
                kind = int(rng.integers(4))
                fresh[column.name] = _changed(column.kind, row[column.name], other, kind)
        made.append(fresh)
    return made


def _changed(kind: str, value: Any, other: Any, how: int) -> Any:
    if how == 0:
        return None
    if kind == "number":
        number = other if value is None else value
        return (other, number and -float(number), bool(number))[how - 1]
    if kind == "text":
        return (other, f"{value or ''}\n{other or ''}", str(other or "").upper())[how - 1]
    return (other, "\u2014 never seen \u2014", _number(value))[how - 1]


def _number(value: Any) -> Any:
    """The value as a float where its text is one: '3' is the category 3.0 too."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return number if math.isfinite(number) else value  # 'inf' is a text like any other


def _apart(got: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max())
