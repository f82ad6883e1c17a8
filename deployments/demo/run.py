"""`everfit demo`: the whole loop on a year of flights or a summer of mails, with its real parts.

Everything it writes lies in one folder, such as `runs/demo`: the rows and the config that the first
champion learns from, the telemetry store, the registry, the report.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.demo import world as worlds
from deployments.demo.client import Client, DemoFault
from deployments.demo.comparators import Frozen, Weekly, bundle_fit
from deployments.demo.progress import Progress, final
from deployments.demo.replay import Day, replay
from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY, Scoreboard, headline
from deployments.demo.story import Check, Retrain, Story, check_of, to_json, write_json
from deployments.demo.world import DAY, World
from monitoring.records import Decision

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from tasks.config import Config

MARK = ".everfit-demo"  # a folder with this file was written by a demo, and may be written anew


def demo(
    name: str = "flights",
    *,
    weeks: int | None = None,
    json_path: Path | None = None,
    runs: Path | None = None,
    port: int | None = None,
    prefect_port: int | None = None,
    seed: int = 0,
    console: Console | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Replay `weeks` weeks of a world (see `world.WORLDS`), or all that it has.

    Returns the final table (see `story.to_json`), which also goes to `runs`/replay.json and to
    `json_path`. `runs` is the folder of this demo; ports that are not given are free ones. Raises
    DataFault when the rows are not there, DemoFault when the replay cannot go on.
    """
    from rich.console import Console

    from deployments.processes import free_port
    from deployments.stack import inference_server, prefect_server

    console, world = console or Console(), worlds.get(name)
    weeks = world.weeks if weeks is None else weeks
    if weeks < 1:
        raise DemoFault(f"a demo replays at least one week, got {weeks}: raise --weeks")
    began = time.monotonic()
    runs = (runs or world.runs).resolve()
    rows = world.load()
    with _folder(runs):
        port = port or free_port()
        config_path = write_inputs(world, rows, runs, port, seed=seed, quick=quick)
        console.print("starting Prefect's server and the model's server", highlight=False)
        with (
            prefect_server(runs / "prefect", prefect_port),
            inference_server(config_path, port),
        ):
            story = asyncio.run(
                _loop(world, config_path, rows, world.days(weeks), seed, console, began)
            )
    return publish(story, runs, json_path, console)


def write_inputs(
    world: World, rows: pd.DataFrame, runs: Path, port: int, *, seed: int, quick: bool
) -> Path:
    """The first champion's rows and the config beside them; the config's path."""
    world.table(rows, world.start).to_parquet(runs / f"{world.name}.parquet", index=False)
    text = (files("deployments.demo") / world.config).read_text(encoding="utf-8")
    text = changed(text, {"port": str(port), **(world.quick if quick else {})})
    text = text.replace("train:\n", f"train:\n  seed: {seed}\n", 1)
    path = runs / "everfit.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(text: str, values: Mapping[str, str]) -> str:
    """The config's text with other values for some keys, its comments kept.

    >>> changed("gate:\\n  rows: 400 # newest\\n", {"rows": "90"})
    'gate:\\n  rows: 90 # newest\\n'
    """
    for key, value in values.items():
        text, found = re.subn(
            rf"(?m)^( +{key}:) *[^#\n]*?( *(?:#.*)?)$", rf"\g<1> {value}\g<2>", text
        )
        if found != 1:
            raise DemoFault(f"the demo's config names {key} once, found {found} times: restore it")
    return text


async def _loop(
    world: World,
    config_path: Path,
    rows: pd.DataFrame,
    days: int,
    seed: int,
    console: Console,
    began: float,
) -> Story:
    """Train the first champion, replay, and tell the story. Prefect's server runs already."""
    from flows.retrain import retrain
    from flows.watch import watch
    from models.bundle import Predictor
    from tasks import lineage, places
    from tasks.config import load

    config, start = load(config_path), world.start
    board = Scoreboard(days)
    progress = Progress(console, days, board.weeks)
    progress.say(f"training the first champion on the {world.words.rows} before {start:%d %B}")
    first = await retrain(config, "first", now=start, why="the first champion")
    champion = places.registry(config).champion()
    if champion is None:
        raise DemoFault(f"the first champion has to pass the gate, but: {first.reason}")
    made = lineage.read(config, champion)
    progress.say(
        f"version {champion.version} ({made.params.get('family')}) serves after "
        f"{first.seconds:.1f} s of training; now {days} days under a simulated clock"
    )
    bundle = places.registry(config).download(champion.version, config.folder / "serving")
    predictor = Predictor.load(bundle)
    fit = bundle_fit(places.schema(config), made.params, seed)
    weekly = Weekly(world, predictor, fit, config.folder / "weekly")
    checks: list[Check] = []
    retrains: list[Retrain] = []

    def on_day(day: Day) -> None:
        checks.append(check_of(day.decision, day.number, config.folder))
        if day.decision.retrain:
            retrains.append(retrain_of(config, day.decision, day.number, len(retrains) + 1))
            progress.retrained(retrains[-1])
        progress.day(day, board.loss())

    with places.telemetry(config) as store:
        client = Client(
            world, config.server_url, lambda a, b: store.window(config.name, None, a, b).rows
        )
        with progress.running():
            totals = await replay(
                world,
                rows,
                start=start,
                days=days,
                served=client,
                watch=lambda now: watch(config, now=now),
                frozen=Frozen(world, predictor),
                weekly=weekly,
                board=board,
                on_day=on_day,
            )
        client.close()
    table = board.table(seed=seed)
    return Story(
        world=world.name,
        words=world.words,
        texts=world.texts,
        start=start,
        days=days,
        first_rows=made.rows,
        first=world.first,
        requests=client.requests,
        rows=totals.rows,
        unlabelled=totals.unlabelled,
        weeks=tuple(board.by_week()),
        checks=tuple(checks),
        retrains=tuple(retrains),
        table=table,
        weekly_retrains=weekly.retrains,
        training_seconds={
            FROZEN: 0.0,
            WEEKLY: weekly.seconds,
            EVERFIT: sum(r.seconds for r in retrains),
        },
        wall_seconds=time.monotonic() - began,
        p_value_limit=config.policy.drift_p_value,
        share_limit=config.policy.drifted_share,
        gate_margin=config.gate.margin,
        window_days=config.monitor.window / DAY,
        headline=tuple(headline(table, len(retrains), weekly.retrains)),
    )


def retrain_of(config: Config, decision: Decision, day: int, number: int) -> Retrain:
    """How the retrain that a decision started ended, as its claim and its lineage say."""
    from tasks import claims, lineage, places

    with places.claims(config) as book:
        claim = book.get(decision.window_id)
    if claim is None or claim.result is None:
        raise DemoFault(
            f"the retrain of window {decision.window_id} has no outcome: see Prefect's page for "
            "the run's fault"
        )
    outcome = claims.outcome_of(claim.result)
    note = places.retrain_folder(config, decision.window_id) / lineage.LINEAGE
    verdict: dict[str, Any] = {}  # a refusal that no challenger was made for has none
    if note.exists():
        verdict = json.loads(note.read_text(encoding="utf-8"))["verdict"]
    return Retrain(
        number=number,
        day=day,
        time=decision.time,
        window_id=decision.window_id,
        rule=decision.rule,
        reasons=decision.reasons,
        passed=outcome.passed,
        verdict=outcome.reason,
        version=outcome.version,
        seconds=outcome.seconds,
        trials=outcome.trials,
        warm=outcome.warm,
        gain=verdict.get("gain"),
        low=verdict.get("low"),
        high=verdict.get("high"),
        gate_rows=verdict.get("rows", 0),
    )


def publish(story: Story, runs: Path, json_path: Path | None, console: Console) -> dict[str, Any]:
    """Write the report, the picture and the table, and say where to look next."""
    from deployments.demo import picture, report

    shown = _shown(runs)
    final(console, story)
    ui = f"everfit ui {shown / 'everfit.yaml'}"
    for path in (
        report.write(story, runs / "report.html", ui=ui),
        picture.draw(story, runs / "report.png"),
        write_json(story, runs / "replay.json"),
    ):
        console.print(f"wrote {_shown(path)}", highlight=False, soft_wrap=True)
    if json_path is not None:
        path = _shown(write_json(story, json_path))
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    pages = "the Prefect, MLflow and Evidently pages"
    look = f"look next: open {shown / 'report.html'}, and for {pages}: {ui}"
    console.print(look, highlight=False, soft_wrap=True)
    return to_json(story)


def _shown(path: Path) -> Path:
    """A path as a person would write it from here."""
    path, here = path.resolve(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextmanager
def _folder(runs: Path) -> Iterator[None]:
    """The demo's folder, emptied of what an earlier demo left, and this demo's alone."""
    from filelock import FileLock, Timeout

    from deployments.stack import recorded_server

    if runs.exists() and any(runs.iterdir()) and not (runs / MARK).exists():
        raise DemoFault(
            f"the demo writes into a new folder or an earlier demo's, and {runs} holds something "
            "else: name another with --runs"
        )
    runs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(runs / MARK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DemoFault(
            f"one demo at a time in {runs}, and one runs there: wait, or name another folder with "
            "--runs"
        ) from None
    try:
        keep = {MARK, "prefect"} if recorded_server(runs / "prefect") else {MARK}
        for left in runs.iterdir():
            if left.name not in keep:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        lock.release()
        (runs / MARK).touch()  # some systems remove a lock file at its release
