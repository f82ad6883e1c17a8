"""Transfer between domains: source-only, adapted, target-trained, and distances against drops."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deployments.commands.base import Command  # noqa: E402 - after the root is importable


@click.command(cls=Command, short_help="Every ordered pair of domains of a table.")
@click.option("--data", metavar="FILE", type=click.Path(path_type=Path), help=(
    "A table of your own instead of the Amazon reviews."
))  # fmt: skip
@click.option("--target", default="target", show_default=True, help="Its label.")
@click.option("--by", default="domain", show_default=True, help="Its column of domains.")
@click.option("--family", default=None, help="Of the models; tfidf for the reviews, logistic.")
@click.option("--small", type=click.Choice(["sparse", "units", "student"]), help=(
    "Make every model small in its fit: 86 % of the weights gone, or a student of 16 units."
))  # fmt: skip
@click.option("--way", "ways", multiple=True, help="A way to adapt; all of the family without it.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--from", "first", type=click.IntRange(0), default=0, help="The first seed.")
@click.option("--rows", type=click.IntRange(400), default=2_000, show_default=True, help=(
    "Of each domain, at most."
))  # fmt: skip
@click.option("--permutations", type=click.IntRange(19), default=199, show_default=True)
@click.option("--json", "json_path", metavar="PATH", type=click.Path(path_type=Path))
def command(
    data: Path | None,
    target: str,
    by: str,
    family: str | None,
    small: str | None,
    ways: tuple[str, ...],
    seeds: int,
    first: int,
    rows: int,
    permutations: int,
    json_path: Path | None,
) -> None:
    """The study of `everfit transfer` on every ordered pair of domains (EVERFIT_DATA).

    Each seed splits anew: 70 % of the source is learnt, 30 % held out; half of the target is
    adapted to without its labels (and teaches the target-trained model), the other half scores.
    Accuracies in per cent, intervals at 95 % over seeds.
    """
    from deployments.commands.bench import show
    from models.threads import one_thread
    from tests.benchmarks.transfer import pairs, score

    try:
        if data is None:
            world = pairs.amazon(family or ("textnet" if small else "tfidf"))
        else:
            world = pairs.world(data, target, by, [family or ("mlp" if small else "logistic")])
        params = None if small is None else pairs.made_small(world, small)
    except (FileNotFoundError, ValueError) as fault:
        raise click.ClickException(str(fault)) from None
    records: list[dict[str, Any]] = []
    with one_thread():
        for seed in range(first, first + seeds):
            for pair in world.pairs():
                records.append(_studied(world, pair, params, ways, seed, rows, permutations))
                if json_path is not None:
                    json_path.write_text(json.dumps(records) + "\n", encoding="utf-8")
    for part in (score.table, score.correlations, score.honesty, score.chosen):
        if found := part(records):
            show(found)


def _studied(
    world: Any,
    pair: tuple[str, str],
    params: dict[str, Any] | None,
    ways: tuple[str, ...],
    seed: int,
    rows: int,
    permutations: int,
) -> dict[str, Any]:
    from tasks.transfer import study

    began = time.process_time()
    sides = [world.side(name, rows, seed) for name in pair]
    found = study(
        world.config, *sides, by=world.by, ways=ways or None, permutations=permutations,
        params=params, seed=seed,
    ).to_json()  # fmt: skip
    spent = time.process_time() - began
    name = " to ".join(pair)
    gains = ", ".join(f"{one['way']} {100 * one['gain']['value']:+.1f}" for one in found["adapted"])
    click.echo(
        f"seed {seed}, {name}: {100 * found['target']['value']:.1f}, {gains}; {spent:.0f} CPU s",
        err=True,
    )
    return {**found, "pair": name, "seed": seed, "cpu_s": spent}


if __name__ == "__main__":
    command()
