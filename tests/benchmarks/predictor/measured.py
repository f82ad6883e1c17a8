"""Random configurations, fitted and timed as the product does, to learn from and to foretell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import families
from models.performance import Seen, seen
from models.records import Params, Trial
from models.search.base import trial_from_json, trial_to_json
from models.threads import one_thread
from models.training import Split, evaluate_trial, prepare
from tasks.rows import TIME
from tests.benchmarks.loop import streams

AGAIN = 24  # configurations that are measured a second time, after all others
CAREFUL = 0.2  # seconds of single rows, as in a search that asks for latency


@dataclass(frozen=True)
class Measured:
    """`again[i]` is `trials[i]` measured a second time."""

    name: str
    trials: list[Seen]
    again: list[Seen]


def trials(
    data: str,
    target: str | None,
    names: Sequence[str],
    count: int,
    sizes: Sequence[int],
    *,
    native: bool = False,
    kept: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Measure `count` configurations, each on a sample of one of `sizes` rows in turn."""
    if kept is not None and kept.exists():
        raw = json.loads(kept.read_text(encoding="utf-8"))
        parts = ([_seen(trial_from_json(row)) for row in raw[k]] for k in ("trials", "again"))
        return Measured(raw["name"], *parts)
    stream = (
        streams.demo(data)
        if data in ("flights", "spam")
        else streams.from_file(Path(data), str(target))
    )
    splits = {size: _split(stream, size) for size in sizes}
    rng = np.random.default_rng(0)
    space = families.space(names)
    drawn = [space.decode(rng.random(len(space))) for _ in range(count)]
    done: list[Trial] = []
    again: list[Trial] = []

    def measure(number: int) -> Trial:
        split = splits[sizes[number % len(sizes)]]
        return _evaluate(split, stream, drawn[number], number, served=not native)

    with one_thread():
        for number in range(count):
            done.append(measure(number))
            if number % 20 == 19:
                say(f"{number + 1} of {count} configurations")
        again += [measure(number) for number in range(min(AGAIN, count))]
    pairs = [(a, b) for a, b in zip(done, again, strict=False) if _complete(a, b)]
    rest = [trial for trial in done[AGAIN:] if _complete(trial)]
    ordered, second = [a for a, _ in pairs] + rest, [b for _, b in pairs]
    if kept is not None:
        rows = {"trials": [*map(trial_to_json, ordered)], "again": [*map(trial_to_json, second)]}
        kept.write_text(json.dumps({"name": stream.name, **rows}), encoding="utf-8")
    return Measured(stream.name, [*map(_seen, ordered)], [*map(_seen, second)])


def _split(stream: streams.Stream, size: int) -> Split:
    """`size` rows of the earlier four fifths, and half as many of the rest."""
    cut = int(0.8 * len(stream.frame))
    parts = stream.frame.iloc[:cut], stream.frame.iloc[cut:]
    chosen = (
        part.sample(min(n, len(part)), random_state=0).sort_index().drop(columns=[TIME])
        for part, n in zip(parts, (size, size // 2), strict=True)
    )
    return prepare(*chosen, stream.schema)


def _evaluate(
    split: Split, stream: streams.Stream, params: Params, number: int, *, served: bool
) -> Trial:
    return evaluate_trial(
        stream.frame,
        stream.frame,
        stream.schema,
        params,
        number=number,
        seed=number,
        objective="log_loss",
        split=split,
        footprint_seconds=CAREFUL,
        served=served,
    )


def _complete(*found: Trial) -> bool:
    return all(trial.status == "complete" for trial in found)


def _seen(trial: Trial) -> Seen:
    (one,) = seen([trial], "bench")
    return one
