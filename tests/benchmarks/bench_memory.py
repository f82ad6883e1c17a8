"""The retrains of one stream, searched cold and from memory: trials, seconds, and loss.

A model is retrained so many times, evenly over the stream. Each time a search that starts from what
the earlier ones learnt is held against a cold one, on the same rows, with the product's searcher,
trials and fits; what each chose is fitted on all rows until then and scored on the next blocks.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deployments.commands.base import Command  # noqa: E402 - after the root is importable


@click.command(cls=Command, short_help="Retrains searched cold and from memory.")
@click.option("--data", metavar="FILE", default="flights", show_default=True,
              help="CSV (.csv, .csv.gz) or Parquet; or 'flights'.")  # fmt: skip
@click.option("--target", metavar="COL", help="The column of labels, of a file.")
@click.option("--time", "time_column", metavar="COL", help="The rows' time; without, their order.")
@click.option("--retrains", type=click.IntRange(1), default=8, show_default=True)
@click.option("--trials", type=click.IntRange(2), default=16, show_default=True, help="Cold.")
@click.option("--warm-trials", type=click.IntRange(1), default=6, show_default=True)
@click.option("--trial-rows", type=click.IntRange(100), default=30_000, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--json", "json_path", metavar="PATH", type=click.Path(path_type=Path))
def command(
    data: str,
    target: str | None,
    time_column: str | None,
    retrains: int,
    trials: int,
    warm_trials: int,
    trial_rows: int,
    seeds: int,
    json_path: Path | None,
) -> None:
    """Compare searches that remember with searches that don't, over the retrains of a stream."""
    from deployments.commands.bench import show
    from models.threads import one_thread
    from tests.benchmarks.loop import streams
    from tests.benchmarks.loop.learner import Learner
    from tests.benchmarks.loop.settings import Search
    from tests.benchmarks.memory import arms, tables

    if warm_trials >= trials:
        raise click.UsageError(f"--warm-trials is below --trials, got {warm_trials} of {trials}")
    if data != "flights" and target is None:
        raise click.UsageError("a file needs --target COL")
    stream = (
        streams.demo("flights")
        if data == "flights"
        else streams.from_file(Path(data), str(target), time=time_column)
    )
    limits = Search(trials=trials, warm_trials=warm_trials, trial_rows=trial_rows).of(stream)
    found: list[arms.Searched] = []
    with one_thread():
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                learner = Learner(stream.schema, Path(folder), limits, seed=seed)
                found += arms.run(
                    stream,
                    learner,
                    arms.retrains(stream, retrains),
                    say=lambda text: click.echo(text, err=True),
                )
    click.echo(f"{stream.name}: {retrains} retrains, {seeds} seeds")
    rows = tables.table(found)
    show(rows)
    if json_path is not None:
        told = {"table": rows, "searches": [asdict(row) for row in found]}
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command()
