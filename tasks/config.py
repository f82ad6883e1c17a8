"""The configuration of one model: a YAML file, validated whole, every fault with its path."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from models.gate import GateRule
from monitoring.rules import Rules, Threshold

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class ConfigFault(Exception):
    """A config that cannot be used: every fault with its path and its remedy."""


def _duration(value: Any) -> Any:
    """'90s', '30m', '6h', '7d' or '2w' as a timedelta; ISO 8601 ('P7D') is left for pydantic."""
    if isinstance(value, str) and not value.startswith("P"):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", value)
        if not match:
            raise ValueError(f"a duration is a number and one of s, m, h, d, w; got {value!r}")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _write_duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    unit = next(u for u in ("d", "h", "m", "s") if seconds % _UNITS[u] == 0 or u == "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


Duration = Annotated[
    timedelta, BeforeValidator(_duration), PlainSerializer(_write_duration, when_used="json")
]


def _durations(*names: str) -> BeforeValidator:
    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: _duration(v) if k in names else v for k, v in value.items()}
        return value

    return BeforeValidator(convert)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Data(Section):
    """Where labelled rows come from and what their columns are."""

    source: Path  # CSV (.csv, .csv.gz) or Parquet
    target: str
    time: str | None = None  # when the row's prediction is asked for
    columns: dict[str, Literal["number", "category"]] = Field(min_length=1)
    classes: list[str | int | bool | float] = Field(min_length=2)  # the positive class comes last
    label_delay: Duration = timedelta(0)  # how long after `time` most labels have come


class Train(Section):
    """Families, their search space, and what a search may spend."""

    families: list[str] = Field(min_length=1)
    trainer: str | None = None  # your own, as module:attribute
    space: dict[
        str, dict[str, Any]
    ] = {}  # overrides, for instance {hgb.learning_rate: {low: 0.01}}
    objective: Literal["log_loss", "error", "one_minus_auc"] = "log_loss"
    trials: int = Field(16, ge=1, le=10_000)
    warm_trials: int = Field(6, ge=1, le=10_000)  # from the second retrain on
    seconds: float = Field(120.0, gt=0)
    parallel: int = Field(2, ge=1, le=256)
    trial_rows: int = Field(20_000, ge=100)  # a trial fits on at most so many of the newest rows
    validation: float = Field(0.2, gt=0, lt=1)  # share of the newest rows a trial is scored on
    maximum_rows: int | None = Field(None, ge=100)  # the final fit sees at most so many newest rows
    seed: int = 0


class Monitor(Section):
    """What each check looks at."""

    window: Duration = timedelta(days=1)  # drift: predictions of so long
    performance_window: Duration = timedelta(days=7)  # realised performance: matured labels
    minimum_rows: int = Field(200, ge=2)
    minimum_labels: int = Field(200, ge=2)
    reference_rows: int = Field(2_000, ge=50)
    mmd_rows: int = Field(500, ge=20)  # rows of each side that enter the MMD test
    permutations: int = Field(999, ge=19)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    thresholds: list[Threshold] = []


class Serving(Section):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=64)
    poll_seconds: float = Field(1.0, gt=0)  # how often the server looks at the alias
    maximum_body_mb: float = Field(8.0, gt=0)
    maximum_rows: int = Field(10_000, ge=1)  # per request
    flush_seconds: float = Field(0.2, gt=0)  # predictions reach the store after so long at most


class Schedule(Section):
    cron: str = "0 6 * * *"


class Config(Section):
    """One model under everfit's care. Paths are relative to the file that names them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    data: Data
    train: Train
    monitor: Monitor = Monitor()
    policy: Annotated[Rules, _durations("cooldown", "maximum_age", "label_silence")] = Rules()
    gate: GateRule = GateRule()
    serving: Serving = Serving()
    schedule: Schedule = Schedule()
    runs: Path | None = None  # everything the loop writes; default runs/NAME beside the file

    @model_validator(mode="after")
    def _columns_are_inputs(self) -> Config:
        for name in (self.data.target, self.data.time):
            if name is not None and name in self.data.columns:
                raise ValueError(
                    f"data.columns lists the inputs only; {name!r} is the target or the time: "
                    "remove it there"
                )
        return self

    @property
    def folder(self) -> Path:
        assert self.runs is not None
        return self.runs

    @property
    def store_url(self) -> str:
        """The telemetry store."""
        return f"sqlite:///{self.folder / 'telemetry.db'}"

    @property
    def registry_url(self) -> str:
        """MLflow's tracking and registry store."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def server_url(self) -> str:
        return f"http://{self.serving.host}:{self.serving.port}"


def load(path: str | Path, **overrides: Any) -> Config:
    """Read a config file; relative paths in it are resolved against its folder.

    `overrides` are dotted keys that win over the file (`serving.port` as `serving__port=8101`).
    Raises ConfigFault that names every fault at once.
    """
    path = Path(path).expanduser().resolve()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigFault(
            f"no config file at {path}: write one with `everfit init NAME --data FILE --target COL`"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise ConfigFault(f"{path} is not readable YAML: {fault}") from None
    if not isinstance(raw, dict):
        raise ConfigFault(f"{path} must hold a mapping at the top, got {type(raw).__name__}")
    for dotted, value in overrides.items():
        if value is None:
            continue
        place = raw
        *parents, last = dotted.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        config = Config.model_validate(raw)
    except ValidationError as fault:
        raise ConfigFault(_explain(path, fault)) from None
    return _resolved(config, path.parent)


def _resolved(config: Config, base: Path) -> Config:
    runs = config.runs or Path("runs") / config.name
    source = base / config.data.source.expanduser()
    if not source.is_file():
        raise ConfigFault(
            f"data.source: no such file: {source}: correct the path, or write the file first"
        )
    data = config.data.model_copy(update={"source": source.resolve()})
    return config.model_copy(update={"data": data, "runs": (base / runs.expanduser()).resolve()})


_REMEDIES = {
    "extra_forbidden": "remove it or correct its spelling",
    "missing": "add it",
    "literal_error": "use one of the values named",
}


def _explain(path: Path, fault: ValidationError) -> str:
    lines = []
    for error in fault.errors(include_url=False):
        place = ".".join(str(part) for part in error["loc"]) or "(top)"
        received = "" if error["type"] == "missing" else f", got {error['input']!r:.80}"
        remedy = _REMEDIES.get(error["type"])
        lines.append(f"  {place}: {error['msg']}{received}" + (f": {remedy}" if remedy else ""))
    return f"{path} has {len(lines)} fault{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)
