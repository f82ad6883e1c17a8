"""A small real model whose world has moved: a champion, its answered rows, labels that disagree.

It is made once; each fault begins from a copy of it in the same folder, since MLflow keeps the
folder in its records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.drill import checks, work
from deployments.processes import StackFault, free_port

if TYPE_CHECKING:
    import pandas as pd

    from tasks.config import Config

START = datetime(2024, 3, 4, 6, tzinfo=UTC)  # the first champion's labels end here
NOW = START + timedelta(days=10)  # and then the world has been another one for so long
ROWS = 700

_CONFIG = """\
name: drill
data:
  source: rows.csv
  target: late
  time: due
  columns: {carrier: category, hour: number, wind: number}
  classes: [on time, late]
train:
  families: [logistic]
  trials: 3
  warm_trials: 3
  seconds: 60
  parallel: 1
monitor:
  window: 10d
  performance_window: 10d
  longer_windows: []
  minimum_rows: 50
  minimum_labels: 50
  permutations: 99
  mmd_rows: 100
  thresholds: [{metric: log_loss, worse_by: 0.05}]
policy: {confirmations: 1, memory: 1, cooldown: 1h, minimum_new_labels: 50}
gate: {rows: 200, minimum_rows: 50, resamples: 200}
rollout: {bake: 0s}
serving: {port: PORT, poll_seconds: 0.2, flush_seconds: 0.05}
"""


@dataclass
class World:
    """The model's folder, and the copy that each fault begins from."""

    place: Path
    context: ForkServerContext
    env: Mapping[str, str] = field(default_factory=dict)  # of every process: where stores are
    labels: int = 0
    trials_before: int = 0  # lines on the first champion's trials

    @property
    def folder(self) -> Path:
        return self.place / "world"

    @property
    def config_path(self) -> Path:
        return self.folder / "drill.yaml"

    def make(self) -> None:
        """Train the champion, answer rows of the new world as a server would, label them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "logs").mkdir()
        rows(600, START - timedelta(minutes=15 * 600)).to_csv(self.folder / "rows.csv", index=False)
        text = _CONFIG.replace("PORT", str(free_port()))
        self.config_path.write_text(text, encoding="utf-8")
        process = work.start(self.context, self.job("train", START))
        process.join(300)
        if process.exitcode != 0:
            raise StackFault(f"the drill's first champion was not made: {self.said()}")
        with self.surroundings():
            self.labels = _served(self.config())
        trials = (self.folder / "trials.log").read_text(encoding="utf-8")
        self.trials_before = len(trials.splitlines())
        shutil.copytree(self.folder, self.place / "kept", dirs_exist_ok=True)

    def again(self) -> None:
        """As it was before any fault."""
        for child in self.folder.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        shutil.copytree(self.place / "kept", self.folder, dirs_exist_ok=True)

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """This process's own environment as that of the model's processes."""
        before = {name: os.environ.get(name) for name in self.env}
        os.environ.update(self.env)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def judged(self, kept: Iterable[str] = (), *, back: bool = False) -> checks.Found:
        """What is amiss in the stores now. Raises StackFault when they cannot be read."""
        case = checks.Case(
            self.config_path, self.labels, self.trials_before, self.env, frozenset(kept), back
        )
        here, there = self.context.Pipe(duplex=False)
        process = self.context.Process(target=checks.judge, args=(there, case))
        process.start()
        there.close()
        try:
            found: checks.Found = here.recv()
        except EOFError:
            raise StackFault("the stores could not be judged: see what was printed") from None
        finally:
            process.join()
        return found

    def config(self) -> Config:
        from tasks.config import load

        return load(self.config_path)

    def job(self, flow: str, now: datetime = NOW, **more: object) -> work.Job:
        log, trials = self.folder / "logs" / "flows.log", self.folder / "trials.log"
        return work.Job(self.config_path, flow, now, log, trials, env=self.env, **more)  # type: ignore[arg-type]

    def said(self, characters: int = 1_500) -> str:
        """The end of what its processes printed."""
        log = self.folder / "logs" / "flows.log"
        return (
            log.read_text(encoding="utf-8", errors="replace")[-characters:] if log.exists() else ""
        )


def rows(count: int, start: datetime, seed: int = 0, wind: float = 0.0) -> pd.DataFrame:
    """Labelled rows, one every 15 minutes; `wind` is added to that column."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    carrier = rng.choice(["AA", "B6", "EV", "UA"], count)
    hour, gust = rng.integers(6, 23, count), rng.gamma(2.0, 5.0, count) + wind
    score = 0.25 * (hour - 14) + 0.15 * (gust - 10) + 0.9 * (carrier == "EV")
    late = rng.random(count) < 1 / (1 + np.exp(1.0 - score))
    due = pd.date_range(start, periods=count, freq="15min", tz="UTC")
    columns = {"due": due, "carrier": carrier, "hour": hour, "wind": gust.round(2)}
    return pd.DataFrame({**columns, "late": np.where(late, "late", "on time")})


def _served(config: Config) -> int:
    """Answer rows with the champion, as its server would; the labels say the opposite. How many."""
    from models.bundle import Predictor
    from monitoring.records import Label, Prediction
    from tasks import places

    frame = rows(ROWS, START, seed=7, wind=20.0)
    registry = places.registry(config)
    model = Predictor.load(registry.download("1", config.folder / "serving"))
    inputs = list(config.data.columns)
    answers = model.predict_proba({name: frame[name].to_numpy() for name in inputs})
    predictions, labels = [], []
    for number, (row, answer) in enumerate(zip(frame.to_dict("records"), answers, strict=True)):
        when = row["due"].to_pydatetime()
        features = {name: row[name] for name in inputs}
        said = tuple(float(share) for share in answer)
        predictions.append(Prediction(f"row-{number}", when, "1", features, said, 1.0))
        truth = "late" if row["late"] == "on time" else "on time"
        labels.append(Label(f"row-{number}", truth, when + timedelta(hours=1)))
    with places.telemetry(config) as store:
        store.record(predictions)
        store.label(labels)
    return len(labels)
