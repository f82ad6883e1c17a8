"""The same search under several goals, by the product's own config, loop and choice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from models.bundle import Predictor
from models.data import to_labels
from models.metrics import measure
from models.records import Params, Trial, Verdict
from models.schema import Schema
from models.search import Searcher
from models.training import fit_bundle
from tasks import fitting, foretelling, places, searchers, tune
from tasks.config import Config, load
from tasks.journal import Journal
from tasks.records import Snapshot
from tasks.rows import TIME
from tasks.trials import Limits, Search
from tests.benchmarks.loop import streams

ONE, WEIGHED, FRONT = "one metric", "weighed", "front"
LATER = 0.15  # of the rows, the last: what was chosen is scored on them
_MOST = 5  # times as many rows are learnt by the final fit as by a trial


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to search and learn on, and the later ones to be scored on."""

    name: str
    schema: Schema
    before: pd.DataFrame
    after: pd.DataFrame

    @classmethod
    def of(cls, data: str, trial_rows: int) -> Rows:
        stream = streams.demo(data)
        cut = int((1 - LATER) * len(stream.frame))
        before, after = stream.frame.iloc[:cut], stream.frame.iloc[cut:]
        most = _MOST * trial_rows
        if len(before) > most:
            before = before.sample(most, random_state=0).sort_index()
        return cls(data, stream.schema, before.reset_index(drop=True), after)

    def columns(self, frame: pd.DataFrame) -> dict[str, Any]:
        """As a server would get them."""
        return {
            c.name: frame[c.name].to_numpy() if c.kind == "number" else frame[c.name].tolist()
            for c in self.schema.columns
        }


@dataclass(frozen=True, eq=False)
class Made:
    """What a search chose, fitted and registered: ready to be served."""

    arm: str
    config: Config
    path: Path  # of the config
    searcher: Searcher
    trials: list[Trial]
    chosen: Trial
    why: str
    screened: int
    bundle_mb: float  # of the model's served form
    fit_s: float  # of the final fit
    model_ms: Mapping[int, float]  # that the bundle takes to answer so many encoded rows
    later: Mapping[str, float]  # metrics on the later rows


def search(
    rows: Rows,
    home: Path,
    arm: str,
    train: Mapping[str, Any],
    families: Sequence[str],
    trials: int,
    trial_rows: int,
    seed: int,
) -> Made:
    """Search under the goal that `train` gives, fit what is chosen, and register it."""
    folder = home / arm.replace(" ", "-")
    folder.mkdir(parents=True)
    path = _config(rows, folder, train, families, trials, trial_rows, seed)
    config = load(path)
    snapshot = Snapshot(folder / "search", len(rows.before), 0, f"{rows.name} {len(rows.before)}")
    snapshot.folder.mkdir()
    rows.before.to_parquet(snapshot.training)
    searcher, known, _ = searchers.searcher(config, None)
    journal = Journal(snapshot.folder)
    journal.replay(searcher)
    before = foretelling.Before([], foretelling.Performance([], ()), "bench")
    screen, frontier = tune.helped(config, searcher, before)
    job = fitting.Job.of(config, snapshot)
    with fitting.encoded(job):
        made = Search(
            searcher,
            config.train.goal,
            journal,
            Limits(trials, config.train.seconds),
            _on_a_thread(job),
            seed=seed,
            known=known,
            screen=screen,
            frontier=frontier,
        )
        asyncio.run(made.run())
    chosen, why = tune.choose(config, searcher, journal.trials)
    return _registered(
        rows, folder, arm, config, path, searcher, journal, chosen, why, len(made.screened)
    )


def _on_a_thread(job: fitting.Job) -> Callable[..., None]:
    def start(
        params: Params, number: int, seconds: float, finished: Callable[[Trial], None]
    ) -> None:
        def work() -> None:
            finished(fitting.fit(job, params, number, seconds))

        threading.Thread(target=work, daemon=True).start()

    return start


def _registered(
    rows: Rows,
    folder: Path,
    arm: str,
    config: Config,
    path: Path,
    searcher: Searcher,
    journal: Journal,
    chosen: Trial,
    why: str,
    screened: int,
) -> Made:
    bundle = folder / "bundle"
    candidate = fit_bundle(
        rows.before.drop(columns=[TIME]), rows.schema, chosen.params, folder=bundle, seed=0
    )
    predictor = Predictor.load(bundle)
    proba = predictor.predict_proba(rows.columns(rows.after))
    codes = to_labels(rows.after[rows.schema.target], rows.schema.classes)
    verdict = Verdict(True, "benchmark", 0, "log_loss", {}, {}, None, None, None, 0.95)
    registry, now = places.registry(config), datetime.now(UTC)
    release = registry.register(bundle, candidate, verdict, window_id="bench", now=now)
    registry.promote(
        release.version, expected=None, decision_id="b", who="b", why="benchmark", now=now
    )
    form = bundle / "model.onnx"
    files = [form] if form.exists() else [f for f in bundle.rglob("*") if f.is_file()]
    return Made(
        arm,
        config,
        path,
        searcher,
        list(journal.trials),
        chosen,
        why,
        screened,
        sum(file.stat().st_size for file in files) / 1e6,
        candidate.seconds,
        {count: _milliseconds(predictor, rows, count) for count in (1, 100)},
        measure(codes, proba),
    )


def _milliseconds(predictor: Predictor, rows: Rows, count: int) -> float:
    """Median of the answers of the bundle alone, on one thread."""
    encoded = predictor.encoder.transform(rows.columns(rows.after.head(count)))
    taken = []
    for _ in range(200):
        began = time.perf_counter()
        predictor.predict_encoded(encoded)
        taken.append(time.perf_counter() - began)
    return 1_000 * float(np.median(taken))


def _config(
    rows: Rows,
    folder: Path,
    train: Mapping[str, Any],
    families: Sequence[str],
    trials: int,
    trial_rows: int,
    seed: int,
) -> Path:
    """A config for the arm, beside a table of a few rows that stands for its data."""
    kinds = {column.name: column.kind for column in rows.schema.columns}
    rows.before.head(50).drop(columns=[TIME]).to_parquet(folder / "rows.parquet")
    text = "text" in kinds.values()
    defaults = ["tfidf"] if text else ["logistic", "hgb", "forest", "mlp"]
    raw = {
        "name": "objectives",
        **({"task": "text"} if text else {}),
        "data": {
            "source": "rows.parquet",
            "target": rows.schema.target,
            "columns": kinds,
            "classes": list(rows.schema.classes),
        },
        "train": {
            "families": list(families) or defaults,
            "trials": trials,
            "seconds": 3_600,
            "trial_rows": trial_rows,
            "seed": seed,
            **train,
        },
    }
    path = folder / "objectives.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def draw(made: Made, path: Path) -> None:
    """The search's picture, with its front."""
    from tasks.tuning_pictures import Shown, drawn

    tell: Callable[[], Any] = getattr(made.searcher, "distribution", dict)
    shown = Shown(
        made.searcher.space,
        tuple(made.trials),
        made.config.train.goal,
        made.chosen,
        {},
        tell(),
        {},
        f"{made.arm}: {made.config.train.goal}",
        made.why,
    )
    drawn(shown, path)
