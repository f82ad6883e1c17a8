"""Smaller models: accuracy, size and speed of what everfit makes of a network, beside pruning.

    everfit bench compress
    everfit bench compress --data spambase,sms_spam --seeds 2 --no-serve

A network of full size is trained, and made smaller by magnitude pruning (a fixed 60 % of each
layer, and as much as everfit takes), by everfit's adaptive sparsity (single weights, or whole
units), with weights of eight bits, and by teaching a student. All are trained for the same epochs
on the same rows. Then they are bundled as a retrain does it and measured; those of the last seed
are asked through the server.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command
from deployments.commands.bench import show, write
from tests.benchmarks.compress import measured, methods, results, served, tables


def _words(_: Any, __: Any, value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    known = (*tables.TABLES, *tables.TEXTS)
    if strange := [name for name in names if name not in known]:
        raise click.BadParameter(f"it is of {', '.join(known)}, got {', '.join(strange)}")
    return names


def _ways(_: Any, __: Any, value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    if strange := [name for name in names if name not in methods.ALL]:
        raise click.BadParameter(f"it is of {', '.join(methods.ALL)}, got {', '.join(strange)}")
    return names


@click.command(cls=Command)
@click.option(
    "--data",
    default=",".join((*tables.TABLES, *tables.TEXTS)),
    show_default=True,
    callback=_words,
    help="Tables and texts, by comma.",
)
@click.option(
    "--ways",
    default=",".join(methods.ALL),
    show_default=True,
    callback=_ways,
    help="To make models smaller, by comma.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option(
    "--share",
    default=0.86,
    show_default=True,
    type=click.FloatRange(0.5, 0.97),
    help="Of the weights that everfit removes.",
)
@click.option("--serve/--no-serve", default=True, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Of each load on a server.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    data: tuple[str, ...],
    ways: tuple[str, ...],
    seeds: int,
    share: float,
    serve: bool,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Measure smaller models beside the full size and magnitude pruning."""
    logging.getLogger("models").setLevel(logging.ERROR)
    runs: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []

    def write_down() -> None:
        if json_path is not None:
            write({"models": results.lines(runs), "server": answered, "runs": runs}, json_path)

    for name in data:
        with tempfile.TemporaryDirectory(prefix="bench-compress-") as home:
            for seed in range(seeds):
                runs += run(name, seed, share, Path(home) / str(seed), ways)
            if serve:
                answered += through_server(name, seed, runs, Path(home), seconds)
        write_down()  # a long run that is broken off is not lost
    show(results.lines(runs))
    if answered:
        show(answered)


def run(
    name: str, seed: int, share: float, home: Path, ways: Collection[str] = methods.ALL
) -> list[dict[str, Any]]:
    """One row for each method; the bundles stay under `home`."""
    from models.threads import one_thread

    task = tables.load(name, seed)
    encoder, data = measured.encoded(task)
    found = []
    with one_thread():
        every = methods.texts if task.text else methods.tables
        for made in every(data, seed, share, ways):
            folder = home / made.method
            predictor = measured.bundled(task, encoder, data, made.fitted, made.family, folder)
            found.append(
                {
                    "data": name,
                    "method": made.method,
                    "seed": seed,
                    "left": made.left,
                    "total": made.total,
                    "runtime": predictor.runtime,
                    **measured.figures(task, predictor, folder),
                }
            )
            shown = {key: found[-1][key] for key in ("accuracy", "left", "bundle_kb")}
            click.echo(f"{name}, seed {seed}, {made.method}: {shown}", err=True)
    return found


def through_server(
    name: str, seed: int, runs: list[dict[str, Any]], home: Path, seconds: float
) -> list[dict[str, Any]]:
    """Those of the models that serving is about, each asked through a server of its own."""
    from models.bundle import Predictor

    task = tables.load(name, seed)
    wanted = [r["method"] for r in runs if r["data"] == name and r["seed"] == seed]
    places = {}
    for method in wanted:
        if method == "full size" or (method.startswith("everfit") and method.endswith("int8")):
            folder = home / str(seed) / method
            predictor = Predictor.load(folder)
            place = home / "served" / method.replace(" ", "-").replace("%", "").replace(",", "")
            places[method] = served.registered(task, predictor, folder, predictor.family, place)
    return served.measured(places, task, seconds)
