"""A server with a model double behind real sockets: what the HTTP layer does is tested on it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvloop

from deployments.serving import lane
from deployments.serving.http import Application
from deployments.serving.supervisor import listen
from deployments.serving.wire import Wire
from models.encoding import Encoder
from models.records import Release
from models.schema import Column, Schema
from tasks.config import Config, load

CONFIG = """\
name: tiny
data:
  source: rows.csv
  target: late
  time: due
  columns: {hour: number, wind: number, carrier: category}
  classes: ["on time", "late"]
train: {families: [logistic]}
serving: {poll_seconds: 0.02, flush_seconds: 0.05, maximum_body_mb: 0.5, maximum_rows: 1000}
"""


class Double:
    """A model that answers from `hour`, `wind` and `carrier` by a rule written down here."""

    schema = Schema(
        (Column("hour", "number"), Column("wind", "number"), Column("carrier", "category")),
        target="late",
        classes=("on time", "late"),
        time="due",
    )
    classes = schema.classes
    encoder = Encoder(("hour", "wind"), {"carrier": ("UA", "B6")}, ("hour", "wind", "carrier"))

    def __init__(self, bias: float = 0.0, fault: Exception | None = None) -> None:
        self.bias = bias
        self.fault = fault

    def predict_proba(self, columns: Any) -> np.ndarray:
        return self._answers(self.encoder.transform(columns))

    def predict_rows(self, numbers: np.ndarray, categories: Any, texts: Any = ()) -> np.ndarray:
        del texts  # it reads none
        return self._answers(self.encoder.encode(numbers, categories))

    def _answers(self, encoded: Any) -> np.ndarray:
        score = np.nan_to_num(encoded.numbers).astype(float) @ np.array([0.1, 0.05])
        score = np.clip(score, -30, 30)
        late = 1 / (1 + np.exp(-(score + self.bias - 0.3 * encoded.codes[:, 0])))
        return np.column_stack([1 - late, late])

    def self_check(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass
class Alias:
    """A registry of doubles: version '1' is champion until `version` is set to another."""

    version: str | None = "1"
    fault: Exception | None = None
    models: dict[str, Double] = field(default_factory=lambda: {"1": Double()})
    asked: int = 0
    downloads: list[str] = field(default_factory=list)
    before: str | None = None
    trying: str | None = None
    stages: dict[str, Any] = field(default_factory=dict)  # version: models.registry_stages.Staged

    def champion(self) -> Release | None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self._release(self.version)

    def challenger(self) -> Release | None:
        return self._release(self.trying)

    def previous(self) -> Release | None:
        return self._release(self.before)

    def _release(self, version: str | None) -> Release | None:
        if version is None:
            return None
        stage = self.stages.get(version)
        tags = {"rollout": json.dumps(asdict(stage))} if stage else {}
        return Release("tiny", version, f"digest-{version}", "window-1", "run-1", tags)

    def download(self, version: str, folder: Path) -> Path:
        self.downloads.append(version)
        return folder / version

    def load(self, bundle: Path, digest: str) -> Double:
        assert digest == f"digest-{bundle.name}"
        return self.models[bundle.name]


@pytest.fixture(scope="session")
def serving_double() -> type[Double]:
    return Double


@pytest.fixture(scope="session")
def serving_alias() -> type[Alias]:
    return Alias


@pytest.fixture(scope="session")
def serving_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """Each call gives a config with a folder of its own; `settings` are those of serving."""

    def make(**settings: Any) -> Config:
        folder = tmp_path_factory.mktemp("serving")
        (folder / "rows.csv").write_text("due,hour,wind,carrier,late\n")
        (folder / "tiny.yaml").write_text(CONFIG)
        overrides = {f"serving__{name}": value for name, value in settings.items()}
        return load(folder / "tiny.yaml", **overrides)

    return make


@pytest.fixture(scope="session")
def serving_release(make_frame: Callable[..., Any]) -> Callable[..., Release]:
    """`release(config, family=, seed=)` trains, registers and promotes a real version.

    It is fetched here, where MLflow is imported; with `fetch=False` the server has to, in a process
    that imports it for two seconds.
    """

    def release(
        config: Config,
        *,
        family: str = "logistic",
        seed: int = 0,
        promote: bool = True,
        fetch: bool = True,
    ) -> Release:
        from models import families
        from models.records import Verdict
        from models.registry import Registry
        from models.training import fit_bundle

        schema = Schema(
            tuple(Column(name, kind) for name, kind in config.data.columns.items()),
            target=config.data.target,
            classes=tuple(config.data.classes),
            time=config.data.time,
        )
        frame = make_frame(400, seed=seed)
        params = families.space([family]).sample(np.random.default_rng(seed))
        folder = config.folder / f"bundle-{seed}"
        candidate = fit_bundle(frame, schema, params, folder=folder, seed=seed)
        verdict = Verdict(True, "better", 100, "log_loss", {}, {}, 0.1, 0.05, 0.15, 0.95)
        registry = Registry(config.registry_url, config.name, config.artifacts)
        now = datetime.now(UTC)
        made = registry.register(folder, candidate, verdict, window_id=f"window-{seed}", now=now)
        if fetch:
            registry.download(made.version, config.folder / "serving")
        if not promote:
            return made
        champion = registry.champion()
        return registry.promote(
            made.version,
            expected=champion and champion.version,
            decision_id=f"decision-{seed}",
            who="test",
            why="test",
            now=now,
        )

    return release


@contextmanager
def _running(app: Application, *, ready: bool = True) -> Iterator[httpx.Client]:
    """A worker's part in a thread of this process, so that tests can reach into the application."""
    listening = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    told = asyncio.Event()

    async def run() -> None:
        await app.startup()
        wire = Wire(app, lanes=lane.of(app.state.service))
        try:
            wire.start(listening)
            await told.wait()
            await wire.stop(5)
        finally:
            await app.shutdown()

    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=url, timeout=20) as client:
            while (found := _status(client)) != 200 and (ready or found is None):
                assert thread.is_alive(), "the server did not start"
                thread.join(0.01)
            yield client
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(20)
        loop.close()


def _status(client: httpx.Client) -> int | None:
    try:
        return client.get("/v2/health/ready").status_code
    except httpx.TransportError:
        return None


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[httpx.Client]]:
    """`with serving(app) as client`: the app behind a socket, ready unless `ready=False`."""
    return _running
