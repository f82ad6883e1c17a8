"""One metric, several weighed, and a rule that picks from a front: side by side on flights.

    everfit bench objectives
    everfit bench objectives --seeds 5 --trials 40 --json objectives.json --picture front.png
    everfit bench objectives --fronts --seeds 10     # how much of a front 12, 24 and 48 trials find

Each arm searches the same families on the same rows with as many trials, by the product's own
search; what it chose is fitted on all of them, scored on the weeks that follow, registered and
served. The servers of one seed run side by side and are asked in turns at a fixed rate: single
rows, then 100 rows a request. CPU share is that of the server's processes, of one core. Figures are
means over the seeds with half of their 95 % interval, and below them what each arm changes against
the single metric, paired by seed.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deployments.commands.base import Command  # noqa: E402 - after the root is importable


@click.command(cls=Command, short_help="One metric, several weighed, and a front, on flights.")
@click.option("--data", type=click.Choice(["flights", "spam"]), default="flights",
              show_default=True)  # fmt: skip
@click.option("--families", default="", help="By comma; those of the data's kind otherwise.")
@click.option("--weights", default="macro=0.01,meso=0.01,micro=0.01", show_default=True,
              help="Of the weighed arm.")  # fmt: skip
@click.option("--rule", default="best log_loss with latency_ms <= 0.02 and size_mb <= 0.1",
              show_default=True, help="Of the arm that picks from the front.")  # fmt: skip
@click.option("--trials", type=click.IntRange(4), default=32, show_default=True)
@click.option("--trial-rows", type=click.IntRange(200), default=10_000, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True,
              help="Of each measurement at a server.")  # fmt: skip
@click.option("--rate", type=click.IntRange(10), default=1_000, show_default=True,
              help="Requests of one row a second; those of 100 rows are a fifth.")  # fmt: skip
@click.option("--fronts", is_flag=True,
              help="Only this: fronts of replayed trials, beside Optuna's samplers.")  # fmt: skip
@click.option("--picture", metavar="PNG", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw the first seed's front there.")  # fmt: skip
@click.option("--json", "json_path", metavar="PATH", type=click.Path(path_type=Path))
def command(
    data: str,
    families: str,
    weights: str,
    rule: str,
    trials: int,
    trial_rows: int,
    seeds: int,
    seconds: float,
    rate: int,
    fronts: bool,
    picture: Path | None,
    json_path: Path | None,
) -> None:
    """Search for one metric, for several and for a front, and serve what each chose."""
    from deployments.commands.bench import show
    from tests.benchmarks.objectives import arms, served, tables

    if fronts:
        from tests.benchmarks.objectives.fronts import run

        found_fronts = run((12, 24, 48), seeds, say=lambda text: click.echo(text, err=True))
        show(found_fronts)
        if json_path is not None:
            json_path.write_text(json.dumps(found_fronts, indent=2) + "\n", encoding="utf-8")
        return
    try:
        weighed = {name: float(v) for name, v in (pair.split("=") for pair in weights.split(","))}
    except ValueError:
        raise click.BadParameter(
            f"it is NAME=NUMBER by comma, got {weights!r}", param_hint="--weights"
        ) from None
    wanted: dict[str, dict[str, Any]] = {
        arms.ONE: {},
        arms.WEIGHED: {"weights": weighed},
        arms.FRONT: {"pareto": rule},
    }
    names = [name for name in families.split(",") if name]
    rows = arms.Rows.of(data, trial_rows)
    found: list[tables.Figures] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are ended
    try:
        for seed in range(seeds):
            with tempfile.TemporaryDirectory(prefix="bench-objectives-") as home:
                made = [
                    arms.search(rows, Path(home), name, train, names, trials, trial_rows, seed)
                    for name, train in wanted.items()
                ]
                if picture is not None and seed == 0:
                    arms.draw(made[-1], picture)
                asked = served.measure(made, rows, seconds=seconds, rate=rate)
                told_now = [tables.Figures.of(one, asked[one.arm], seed) for one in made]
            found += told_now
            for one in told_now:
                click.echo(f"seed {seed}, {one.arm}: {one.family}, {one.chosen}", err=True)
    finally:  # what is complete counts, also when somebody has seen enough
        if found:
            click.echo(f"{data}: {found[-1].seed + 1} seeds, {trials} trials an arm, rule: {rule}")
            for rows_told in (tables.means(found), tables.changes(found)):
                show(rows_told)
    if json_path is not None:
        told = {"means": tables.means(found), "changes": tables.changes(found)}
        told |= {"searches": [asdict(one) for one in found]}
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command()
