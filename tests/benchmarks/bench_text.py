"""Text models: accuracy beside TF-IDF and logistic regression, and seconds an epoch."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deployments.commands.base import Command  # noqa: E402 - after the root is importable

NETWORKS = ("bag", "conv", "attention")


@click.command(cls=Command, short_help="Accuracy and speed of text models.")
@click.option("--corpus", "names", multiple=True, metavar="NAME", help=(
    "books, dvd, electronics, sms_spam or spamassassin; all without it."
))  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--trials", type=click.IntRange(1), default=12, show_default=True, help=(
    "Of each search."
))  # fmt: skip
@click.option("--family", "extra", multiple=True, metavar="NAME", help=(
    "Families of a second search, for instance tfidf, textnet and sentence."
))  # fmt: skip
@click.option("--only", type=click.Choice(("accuracy", "speed")), help="One half alone.")
@click.option("--network", "networks", multiple=True, type=click.Choice(NETWORKS),
              default=("bag", "conv"), show_default=True, help="Whose epochs.")  # fmt: skip
@click.option("--json", "json_path", metavar="PATH", type=click.Path(path_type=Path))
def command(
    names: tuple[str, ...],
    seeds: int,
    trials: int,
    extra: tuple[str, ...],
    only: str | None,
    networks: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Text models on five corpora (EVERFIT_DATA), each seed with rows drawn anew.

    The search is the product's controller; the gate its gate, with the conventional model as the
    champion.
    """
    from deployments.commands.bench import show
    from models.threads import one_thread
    from tests.benchmarks.text import accuracy, corpora, speed

    try:
        every = [corpora.load(name) for name in names or corpora.NAMES]
    except KeyError as fault:
        raise click.UsageError(
            f"a corpus is one of {', '.join(corpora.NAMES)}, got {fault}"
        ) from None
    except FileNotFoundError as fault:
        raise click.ClickException(str(fault)) from None
    told: dict[str, object] = {}
    if only != "accuracy":
        epochs = [each for corpus in every for each in speed.run(corpus, seeds, networks)]
        show(speed.table(epochs))
        told["speed"] = [asdict(each) for each in epochs]
        told["speed table"] = speed.table(epochs)
    if only != "speed":
        arms = [("end to end", ["textnet"])]
        arms += [("everfit", list(extra))] if extra else []
        scores: list[accuracy.Scores] = []
        with one_thread():
            for corpus in every:
                for seed in range(seeds):
                    here = accuracy.run(corpus, seed, arms, trials)
                    line = ", ".join(f"{each.arm} {100 * each.accuracy:.2f}" for each in here)
                    click.echo(f"{corpus.name}, seed {seed}: {line}", err=True)
                    scores += here
        show(accuracy.table(scores))
        told["accuracy"] = [asdict(each) for each in scores]
        told["accuracy table"] = accuracy.table(scores)
    if json_path is not None:
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command()
