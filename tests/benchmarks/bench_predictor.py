"""How well latency, cost and score of configurations not yet tried are foretold.

    everfit bench predictor
    everfit bench predictor --data mails.csv --target spam --trials 120 --json predictor.json

Configurations drawn at random from the families' spaces are fitted on samples of several sizes and
measured as the product's trials are, in the form that a bundle serves. The predictor learns the
first of them, in an order drawn anew for each seed, and foretells the rest; beside it stands what
the median of the family's trials would have said. Each figure is the mean over the seeds, with half
of its 95 % interval. The last rows of the table foretell sizes beyond all that were learnt. Some
configurations are measured twice: how far two measurements lie apart is the least that any
prediction of one can err.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deployments.commands.base import Command  # noqa: E402 - after the root is importable


def _words(_: Any, __: Any, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(cls=Command, short_help="Latency, cost and score of unseen configurations.")
@click.option("--data", metavar="FILE", default="flights", show_default=True,
              help="CSV (.csv, .csv.gz) or Parquet; or 'flights' or 'spam'.")  # fmt: skip
@click.option("--target", metavar="COL", help="The column of labels, of a file.")
@click.option("--families", default="logistic,hgb,forest,mlp", show_default=True, callback=_words)
@click.option("--trials", type=click.IntRange(20), default=160, show_default=True)
@click.option("--rows", default="2000,5000,12000", show_default=True, callback=_words,
              help="Sizes of the samples that are fitted on.")  # fmt: skip
@click.option("--learn", default="16,32,64,96", show_default=True, callback=_words,
              help="So many trials are learnt, and the rest foretold.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(2), default=10, show_default=True)
@click.option("--native", is_flag=True, help="Measured in the families' own forms, not in ONNX.")
@click.option("--kept", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Measured trials: taken from there if it is there, else written.")  # fmt: skip
@click.option("--json", "json_path", metavar="PATH", type=click.Path(path_type=Path))
def command(
    data: str,
    target: str | None,
    families: tuple[str, ...],
    trials: int,
    rows: tuple[str, ...],
    learn: tuple[str, ...],
    seeds: int,
    native: bool,
    kept: Path | None,
    json_path: Path | None,
) -> None:
    """Foretell trials that were not learnt from, and say how far off that was."""
    from deployments.commands.bench import show
    from tests.benchmarks.predictor import figures, measured

    if data not in ("flights", "spam") and target is None:
        raise click.UsageError("a file needs --target COL")
    sizes: Sequence[int] = sorted({int(size) for size in rows})
    found = measured.trials(
        data,
        target,
        families,
        trials,
        sizes,
        native=native,
        kept=kept,
        say=lambda text: click.echo(text, err=True),
    )
    table = figures.table(found.trials, [int(n) for n in learn], seeds)
    beyond = figures.beyond(found.trials, seeds)
    click.echo(
        f"{found.name}: {len(found.trials)} trials, {len(found.again)} of them measured twice"
    )
    floor = figures.floor(found)
    show(floor)
    show(table)
    show(beyond)
    if json_path is not None:
        told = {"data": found.name, "floor": floor, "table": table, "beyond": beyond}
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command()
