"""Retraining on a labelled stream: frozen, scheduled, ADWIN-triggered and everfit, side by side.

Prequential (Gama, Sebastião and Rodrigues 2013): each block is predicted, then its labels come,
then whoever wants to retrains. `everfit bench loop --data FILE --target COL` takes any table; its
rules come from its block size, its clock and the base rates of its first rows
(tests/benchmarks/loop/settings.py), and are the same for every file. The rule on a champion's
maximum age is off unless --age is given.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deployments.commands.base import Command  # noqa: E402 - after the root is importable

if TYPE_CHECKING:
    from tests.benchmarks.loop.entries import Log
    from tests.benchmarks.loop.settings import Search
    from tests.benchmarks.loop.streams import Stream

FROZEN, SCHEDULE = "frozen", "every block"


@click.command(cls=Command, short_help="Frozen, scheduled, ADWIN and everfit on a stream.")
@click.option(
    "--data", metavar="FILE", help="CSV (.csv, .csv.gz) or Parquet; or 'flights', or 'spam'."
)
@click.option("--target", metavar="COL", help="The column of labels.")
@click.option("--time", "time_column", metavar="COL", help="The rows' time; without, their order.")
@click.option("--block", type=click.IntRange(20), help="Rows a block; default: 60 blocks in all.")
@click.option("--every", type=click.IntRange(2), default=3, show_default=True,
              help="A second, sparser schedule: after so many blocks.")  # fmt: skip
@click.option("--synthetic", type=click.Choice(["still", "harmless", "abrupt"]),
              help="A made stream instead of --data.")  # fmt: skip
@click.option("--rows", type=click.IntRange(1_000), default=30_000, help="Of --synthetic.")
@click.option("--shuffle", is_flag=True, help="Put the file's rows out of order: no drift is left.")
@click.option("--age", is_flag=True, help="Leave the maximum-age rule on (20 blocks).")
@click.option("--recency/--no-recency", default=True, help="Use the recency test.")
@click.option(
    "--search/--no-search",
    "again",
    default=True,
    help="Let everfit's retrains search; without, they keep the first champion's parameters.",
)
@click.option("--families", metavar="A,B",
              help="Of the searches; default: hgb,logistic; tfidf of texts.")  # fmt: skip
@click.option("--trials", type=click.IntRange(1), help="Of the first search.")
@click.option("--warm-trials", type=click.IntRange(1), help="Of each later search.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "json_path", metavar="PATH", type=click.Path(path_type=Path),
              help="Write tables, decisions and block losses there.")  # fmt: skip
@click.option("--png", "png_path", metavar="PATH", type=click.Path(path_type=Path),
              help="Draw loss over time with every retrain.")  # fmt: skip
def command(
    data: str | None,
    target: str | None,
    time_column: str | None,
    block: int | None,
    every: int,
    synthetic: str | None,
    rows: int,
    shuffle: bool,
    age: bool,
    recency: bool,
    again: bool,
    families: str | None,
    trials: int | None,
    warm_trials: int | None,
    seed: int,
    json_path: Path | None,
    png_path: Path | None,
) -> None:
    """Compare on one labelled stream: predict a block, get its labels, maybe retrain."""
    from tests.benchmarks.loop import streams
    from tests.benchmarks.loop.settings import Search

    if synthetic:
        stream = streams.synthetic(synthetic, rows=rows, block=block, seed=seed)
    elif data in ("flights", "spam"):
        stream = streams.demo(data, block)
    elif data and target:
        stream = streams.from_file(
            Path(data), target, time=time_column, block=block, shuffle=seed if shuffle else None
        )
    else:
        raise click.UsageError(
            "give --data FILE and --target COL, --data flights or spam, or --synthetic"
        )
    named = tuple(families.split(",")) if families else None
    chosen = {"families": named, "trials": trials, "warm_trials": warm_trials, "again": again}
    search = Search(**{name: value for name, value in chosen.items() if value is not None})
    result = run(stream, search=search, every=every, age=age, recency=recency, seed=seed,
                 say=lambda text: click.echo(text, err=True))  # fmt: skip
    click.echo(report(result))
    if json_path is not None:
        json_path.write_text(json.dumps(result["json"], indent=2) + "\n", encoding="utf-8")
    if png_path is not None:
        from tests.benchmarks.loop.drawing import draw

        click.echo(f"picture: {draw(stream, result['logs'], png_path)}")


def run(
    stream: Stream,
    *,
    search: Search | None = None,
    every: int = 3,
    age: bool = False,
    recency: bool = True,
    seed: int = 0,
    say: Any = lambda text: None,
) -> dict[str, Any]:
    """Replay the stream for every entry; tables and logs."""
    from models.threads import one_thread
    from tasks.rows import TIME
    from tests.benchmarks.loop import entries, score, settings
    from tests.benchmarks.loop.everfit import Everfit
    from tests.benchmarks.loop.learner import Learner, retrain
    from tests.benchmarks.loop.proxies import Proxies

    search = (search or settings.Search()).of(stream)
    logging.getLogger("models").setLevel(logging.ERROR)  # a failed trial is part of a search
    plans = [
        settings.plan(stream, name, search, age=age) for name in ("default", "performance-first")
    ]
    with tempfile.TemporaryDirectory() as folder, one_thread():
        learner = Learner(stream.schema, Path(folder), search, seed=seed)
        start = stream.frame[TIME].iloc[stream.edges[0]].to_pydatetime()
        first = retrain(
            learner, stream.rows(0, int(stream.edges[0])), None, None, plans[0].gate, start
        )
        model = first.model
        if model is None:
            say(f"the first model is no better than the base rates: {first.verdict.reason}")
            model, _ = learner.fit(stream.rows(0, int(stream.edges[0])), first.params, start)
        family = model.params.get("family")
        say(f"{stream.name}: {len(stream.y):,} rows in {stream.blocks} blocks of {stream.block:,}")
        say(f"  the first champion ({family}) took {first.seconds:.1f} s")
        contestants: list[Any] = [
            entries.Frozen(stream, learner, model),
            entries.Scheduled(stream, learner, model),
            entries.Scheduled(stream, learner, model, every=every),
            entries.Triggered(stream, learner, model),
        ]
        proxies, shared = Proxies(stream, learner) if recency else None, {}
        for plan in plans:
            contestants.append(
                Everfit(
                    stream,
                    learner,
                    model,
                    plan,
                    memory=first.memory,
                    proxies=proxies,
                    shared=shared,
                    seed=seed,
                )
            )
        for entry in contestants:
            began = time.perf_counter()
            for block in range(stream.blocks):
                entry.predict(block)
                entry.learn(block)
            took = time.perf_counter() - began
            say(f"  {entry.name}: {entry.log.retrains} retrains, {took:.0f} s")
    logs: dict[str, Log] = {entry.name: entry.log for entry in contestants}
    rows = score.table(stream, logs, frozen=FROZEN, schedule=SCHEDULE, seed=seed)
    return {"rows": rows, "logs": logs, "stream": stream, "json": _json(stream, logs, rows, plans)}


def report(result: dict[str, Any]) -> str:
    """The table, the aim, and why each retrain came about."""
    from tests.benchmarks.loop import score

    stream, rows, logs = result["stream"], result["rows"], result["logs"]
    lines = [
        f"{stream.name}: {len(stream.y) - int(stream.edges[0]):,} rows asked in {stream.blocks} "
        f"blocks of {stream.block:,} after {int(stream.edges[0]):,} to start with; "
        f"{len(stream.schema.columns)} columns, {len(stream.schema.classes)} classes",
        *(f"  note: {note}" for note in stream.notes),
        "",
        score.text(rows),
        "",
        *score.verdicts(rows, SCHEDULE, stream),
    ]
    if stream.shifts:
        moves = ", ".join(str(s) for s in stream.shifts)
        lines.append(f"the stream moves after the blocks {moves}")
    for name, log in logs.items():
        if name.startswith("everfit"):
            lines += ["", f"{name}: why"]
            lines += [
                f"  block {a.block + 1:>3} {a.rule}, {'passed' if a.passed else 'refused'}: "
                + "; ".join(a.why)
                for a in log.attempts
            ] or ["  it never retrained"]
    return "\n".join(lines)


def _json(stream: Stream, logs: dict[str, Log], rows: list[dict[str, Any]], plans: Any) -> Any:
    from monitoring.records import to_dict
    from tests.benchmarks.loop import score

    return {
        "stream": stream.name,
        "rows": len(stream.y),
        "blocks": stream.blocks,
        "block": stream.block,
        "first": int(stream.edges[0]),
        "shifts": list(stream.shifts),
        "table": rows,
        "block_losses": {n: score.block_losses(stream, log).tolist() for n, log in logs.items()},
        "retrains": {n: [asdict(a) for a in log.attempts] for n, log in logs.items()},
        "rules": [json.loads(json.dumps(to_dict(plan.rules), default=str)) for plan in plans],
    }


if __name__ == "__main__":
    command()
