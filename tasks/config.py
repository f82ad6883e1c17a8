"""The configuration of one model: a YAML file, validated whole, every fault with its path."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from models import sql
from models.gate import GateRule
from monitoring.rollout import Plan
from monitoring.rules import Rules, Threshold
from monitoring.slices import SliceThreshold
from monitoring.wording import short
from tasks import engines
from tasks.config_faults import duplicates_refused, faults
from tasks.config_notify import Notify
from tasks.durations import Duration, durations, stage_durations

if TYPE_CHECKING:
    from models.search.objectives import Objective
    from models.search.pareto import Pick


_LENGTHS = ("cooldown", "maximum_age", "label_silence", "probation")  # of time, in the rules


class ConfigFault(Exception):
    """A config that cannot be used: every fault with its path and its remedy."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_the_default(cls, value: Any) -> Any:
        """A key with nothing but comments under it reads as None: it has its default."""
        if not isinstance(value, dict):
            return value
        fields = cls.model_fields
        return {
            key: given
            for key, given in value.items()
            if given is not None or key not in fields or fields[key].is_required()
        }


def _file_or_url(value: Any) -> Path | str:
    if not isinstance(value, str | Path):
        raise PydanticCustomError("path_type", "it must be a path or a database's URL")
    return str(value) if engines.is_url(value) else Path(value)


_FILE_OR_URL = PlainValidator(_file_or_url, json_schema_input_type=str)


class Data(Section):
    """Where labelled rows come from and what their columns are."""

    source: Annotated[Path | str, _FILE_OR_URL]  # CSV (.csv, .csv.gz), Parquet, or a
    # database's URL without its password, such as postgresql://user@host/database
    query: str | None = None  # of that database: one SELECT; :since and :until are bound
    target: str
    time: str | None = None  # when the row's prediction is asked for
    columns: dict[str, Literal["number", "category", "text"]] = Field(min_length=1)
    classes: list[str | int | bool | float] = Field(min_length=2)  # the positive class comes last
    label_delay: Duration = timedelta(0)  # how long after `time` most labels have come

    @model_validator(mode="after")
    def _query_and_database(self) -> Data:
        if (self.query is None) is engines.is_url(self.source):
            raise ValueError(
                "data.query and a database in data.source come together, got "
                f"{'no' if self.query is None else 'a'} query and "
                f"{engines.hidden(str(self.source))!r}: write both, or name a file"
            )
        if self.query is None:
            return self
        engines.checked(str(self.source), "source", "data.source")
        with _told_as_value_error():
            used = sql.parameters(sql.check(self.query))
        if used and self.time is None:
            raise ValueError(
                f"data.query asks for rows of a time (:{min(used)}), got no data.time: name the "
                "time's column, or take it out of the query"
            )
        return self

    @property
    def called(self) -> str:
        """The source for a person: a file's name, or the database."""
        return self.source.name if isinstance(self.source, Path) else sql.shown(self.source)


class Train(Section):
    """Families, their search space, and what a search may spend."""

    families: list[str] = Field(min_length=1)
    trainer: str | None = None  # your own, as module:attribute
    space: dict[
        str, dict[str, Any]
    ] = {}  # overrides, for instance {hgb.learning_rate: {low: 0.01}}
    objective: Literal["log_loss", "error", "one_minus_auc"] = "log_loss"
    weights: dict[str, float] = {}  # what else counts, for instance {latency_ms: 0.02}: twice the
    # latency is worth 2 % of the loss; also macro (throughput), meso (CPU, memory, cost), micro
    limits: dict[str, float] = {}  # trials beyond one are behind all others: {latency_p95_ms: 20}
    pareto: str | None = None  # pick from the front: best accuracy with latency_ms <= 20
    screen: bool = True  # what all past trials say cannot keep a limit is passed over, untried
    compress: Literal["auto", "always", "never"] = "auto"  # whether trials may make a torch model
    # smaller (sparse, narrower, a student, int8); auto: where weights, limits or pareto ask for it
    adapt: list[Literal["weights", "coral", "mmd", "self"]] = []  # ways in which trials may adapt a
    # model to the newest served rows, whose labels have not come (see deployments/docs/transfer.md)
    tuner: Literal[
        "controller", "grid", "random", "quasi-random", "tpe", "gp", "cma-es", "nsga-ii"
    ] = "controller"  # what proposes; the others are baselines, and remember nothing
    trials: int = Field(16, ge=1, le=10_000)
    warm_trials: int = Field(6, ge=1, le=10_000)  # from the second retrain on
    remember: bool = True  # a search starts from what the earlier ones learnt; false: each is cold
    seconds: float = Field(120.0, gt=0)  # of wall clock, for all trials
    trial_seconds: float | None = Field(None, gt=0)  # for one trial; none: what is left of those
    parallel: int = Field(2, ge=1, le=256)  # trials at once, each on one thread
    runner: Literal["threads", "processes", "ray", "dask"] = "threads"  # where trials run
    cluster: str | None = None  # address of a running Ray or Dask; none: one here, for the search
    fidelity: Literal["auto", "off"] = "off"  # off: each trial is fitted to its end; auto: one that
    # cannot win any more, by its learning curve, is stopped, where one metric alone counts
    trial_rows: int = Field(100_000, ge=100)  # a trial fits on a sample of at most so many rows;
    # with far fewer than the final fit has, models that are too simple win
    validation: float = Field(0.2, gt=0, lt=1)  # share of the newest rows a trial is scored on
    maximum_rows: int | None = Field(None, ge=100)  # the final fit sees at most so many newest rows
    seed: int = 0

    @field_validator("weights", "limits", "pareto")
    @classmethod
    def _objective_is_known(cls, value: Any, info: ValidationInfo) -> Any:
        if value:
            with _told_as_value_error():
                _goal("log_loss", **{str(info.field_name): value})
        return value

    @field_validator("adapt")
    @classmethod
    def _each_way_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError(f"a way to adapt stands once, got {value}: remove what is repeated")
        return value

    @model_validator(mode="after")
    def _cluster_is_of_the_runner(self) -> Train:
        if self.cluster is None:
            return self
        schemes = {"ray": ("ray", "ray://head:10001"), "dask": ("tcp|tls", "tcp://head:8786")}
        if self.runner not in schemes:
            raise ValueError(
                f"train.cluster is the address of a Ray or Dask, got {self.cluster!r} and runner "
                f"{self.runner}: set train.runner to ray or dask, or leave cluster out"
            )
        scheme, example = schemes[self.runner]
        host = r"(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+)"
        if not re.fullmatch(rf"(({scheme})://)?{host}:\d{{1,5}}", self.cluster):
            raise ValueError(
                f"train.cluster is the address of a running {self.runner.capitalize()}, got "
                f"{self.cluster!r}: write it as {example}"
            )
        return self

    @property
    def goal(self) -> Objective:
        """What the search minimises. With a `pareto` rule it is the rule's metric within limits."""
        return _goal(self.objective, self.weights, self.limits, self.pareto)

    @property
    def shrinks(self) -> bool:
        """Whether smaller forms of models are part of the search, as they are where `space` names
        one of their parameters."""
        from models.compress.choices import named

        if self.compress == "auto":
            return self.pareto is not None or not self.goal.plain or named(self.space)
        return self.compress == "always"

    @property
    def judged(self) -> bool:
        """Whether trials are stopped early; of several metrics, a curve of one says too little."""
        return self.fidelity == "auto" and self.pareto is None and self.goal.plain

    @property
    def pick(self) -> Pick | None:
        """The rule that picks from the front of all trials, if there is one."""
        from models.search.pareto import Pick

        if self.pareto is None:
            return None
        goal = self.goal
        return Pick(goal.metric, goal.limits)


def _goal(
    metric: str,
    weights: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
    pareto: str | None = None,
) -> Objective:
    from models.search.objectives import Limit, Objective
    from models.search.pareto import Pick

    bounds = tuple(Limit(name, value) for name, value in (limits or {}).items())
    if pareto is not None:
        rule = Pick.read(pareto)
        metric, bounds = rule.metric, tuple(dict.fromkeys((*rule.limits, *bounds)))
    return Objective(metric, dict(weights or {}), bounds)


@contextmanager
def _told_as_value_error() -> Iterator[None]:
    from models.errors import ModelError

    try:
        yield
    except ModelError as fault:
        raise ValueError(str(fault)) from None


class Monitor(Section):
    """What each check looks at."""

    window: Duration = timedelta(days=1)  # drift: predictions of so long
    longer_windows: list[Duration] = [timedelta(days=7)]  # tested too, for slow drift, where they
    # are longer than `window`
    false_alarms: float = Field(0.01, gt=0, lt=1)  # probability of any false drift alarm in a year
    performance_window: Duration = timedelta(days=7)  # realised performance: matured labels
    recency: bool = False  # fit two small models in each check: do newer rows teach better?
    slices: list[str] = []  # columns by whose values the performance is told as well
    slice_thresholds: list[SliceThreshold] = []  # as `thresholds`, in each slice of one column
    minimum_rows: int = Field(200, ge=2)
    minimum_labels: int = Field(200, ge=2)
    reference_rows: int = Field(2_000, ge=50)
    mmd_rows: int = Field(500, ge=20)  # rows of each side that enter the MMD test
    permutations: int = Field(999, ge=19)
    name_words: bool = True  # words of text columns that moved are named to whoever asks, if ten
    # texts hold them; never in a log or a message
    block: Duration | None = None  # rows of so long a stretch of time resemble each other, as those
    # of a day's weather do: the drift test permutes such stretches whole
    performance_block: Duration | None = None  # the intervals of realised performance are over such
    # stretches, of which `performance_window` should hold 7 or more
    confidence: float = Field(0.95, gt=0.5, lt=1)
    thresholds: list[Threshold] = [
        Threshold("log_loss", worse_by=0.02),
        Threshold("latency_p95_ms", above=500.0),
        Threshold("error_rate", above=0.05),
    ]

    @field_validator("window", "longer_windows", "performance_window", "block", "performance_block")
    @classmethod
    def _some_time(cls, value: Any) -> Any:
        lengths = value if isinstance(value, list) else [value]
        if any(length is not None and length <= timedelta(0) for length in lengths):
            raise ValueError("a stretch of time is longer than nothing: write it as 7d")
        return value


class Serving(Section):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=64)
    poll_seconds: float = Field(1.0, gt=0)  # how often the server looks at the alias
    maximum_body_mb: float = Field(8.0, gt=0)
    maximum_rows: int = Field(10_000, ge=1)  # per request
    maximum_text: int = Field(100_000, ge=1)  # characters of one value of a text column
    maximum_waiting: int = Field(1_000, ge=1)  # requests in a worker; further ones are turned away
    timeout_seconds: float = Field(30.0, gt=0)  # to send a body, and to be worked on
    flush_seconds: float = Field(0.2, gt=0)  # predictions reach the store after so long at most
    sample: float = Field(1.0, gt=0, le=1)  # share of the predictions that is recorded, by their id
    spool_mb: float = Field(512.0, ge=1)  # of predictions on disk while the store is down
    hang_seconds: float = Field(20.0, gt=0)  # a worker that stands still so long is started anew
    load_seconds: float = Field(300.0, gt=0)  # a version that takes longer to load is given up
    memory_mb: float | None = Field(None, ge=64)  # a worker beyond this is replaced
    grpc_port: int | None = Field(None, ge=1, le=65535)  # needs the extra grpc; off by default
    otel_endpoint: str | None = Field(None, pattern="^https?://")  # OTLP over HTTP; extra otel

    @model_validator(mode="after")
    def _ports_differ(self) -> Serving:
        if self.grpc_port == self.port:  # workers share ports, so neither would fail to listen
            raise ValueError(
                f"serving.grpc_port must differ from serving.port, got {self.port} for both: "
                "choose another"
            )
        return self


class Telemetry(Section):
    """What may be kept of the predictions, and how long."""

    keep: Duration | None = None  # older predictions and their labels are purged by each check
    never_store: list[str] = []  # columns that are answered with and never recorded
    hash_ids: bool = False  # ids are stored as a keyed hash; the key is in EVERFIT_ID_KEY

    @field_validator("keep")
    @classmethod
    def _some_time(cls, value: Any) -> Any:
        if value is not None and value <= timedelta(0):
            raise ValueError("a stretch of time is longer than nothing: write it as 365d")
        return value


class Engines(Section):
    """Databases in the place of files under `runs`; passwords come from the environment alone."""

    telemetry: str | None = None  # postgresql://user@host/database: a schema there for each model
    registry: str | None = None  # the same for MLflow's, or a running MLflow server, http://...
    artifacts: Path | None = None  # files of registered versions; all machines must see this folder

    @field_validator("telemetry", "registry")
    @classmethod
    def _no_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else engines.checked(value, str(info.field_name))


class Schedule(Section):
    """When what runs by itself is run: minute, hour, day, month, weekday; UTC."""

    cron: str = "0 6 * * *"  # checks
    safety: str = "0 4 * * 0"  # retrains what was asked for and never begun, and a model that no
    # check has looked at for a week; or never
    report: str = "0 7 * * 1"  # the week's digest; or never
    reconcile: str = "*/5 * * * *"  # looks for what broke off or was lost; or never

    @field_validator("cron", "safety", "report", "reconcile")
    @classmethod
    def _five_fields(cls, value: str, info: ValidationInfo) -> str:
        if value == "never" and info.field_name != "cron":
            return value
        if not re.fullmatch(r"\s*([\w*/,#-]+\s+){4}[\w*/,#-]+\s*", value):
            raise ValueError(
                "a schedule is minute, hour, day, month and weekday: write it as '0 6 * * *'"
            )
        return value


class Disk(Section):
    """How much must be free under the runs folder; people are told when it is less."""

    free_share: float = Field(0.05, ge=0, lt=1)  # of the disk
    free_mb: float = Field(500.0, ge=0)


class Config(Section):
    """One model under everfit's care. Paths are relative to the file that names them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    task: Literal["table", "text"] = "table"  # text: there are columns of sentences, mails, reviews
    data: Data
    train: Train
    monitor: Monitor = Monitor()
    policy: Annotated[Rules, durations(*_LENGTHS)] = Rules()
    gate: Annotated[GateRule, durations("block")] = GateRule()
    rollout: Annotated[Plan, durations("bake"), stage_durations] = Plan()
    approval: Literal["none", "required"] = "none"  # required: a person says yes to what passed its
    # gate before it answers any caller; as shadow it may be compared meanwhile
    approval_within: Duration = timedelta(days=7)  # after that nobody can say yes any more
    serving: Serving = Serving()
    telemetry: Telemetry = Telemetry()
    engines: Engines = Engines()
    schedule: Schedule = Schedule()
    notify: list[Notify] = []  # who is told of what
    disk: Disk = Disk()
    runs: Path | None = None  # everything the loop writes; default runs/NAME beside the file

    @field_validator("approval_within")
    @classmethod
    def _some_time(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("a stretch of time is longer than nothing: write it as 7d")
        return value

    @model_validator(mode="after")
    def _gate_can_pass(self) -> Config:
        if self.gate.minimum_rows > self.gate.rows:
            raise ValueError(
                f"gate.minimum_rows must not exceed gate.rows, got {self.gate.minimum_rows} of "
                f"{self.gate.rows}: the gate would refuse every challenger, lower it"
            )
        return self

    @model_validator(mode="after")
    def _texts_are_the_task(self) -> Config:
        texts = [name for name, kind in self.data.columns.items() if kind == "text"]
        if bool(texts) != (self.task == "text"):
            raise ValueError(
                "task: text and columns of text come together, got "
                f"task: {self.task} and {len(texts)} columns of text under data.columns: set the "
                "task, or the kind of a column"
            )
        if texts:
            from models import families

            kinds = set(self.data.columns.values())
            named = [name for name in self.train.families if name in families.NAMES]
            if deaf := [name for name in named if not families.get(name).reads & kinds]:
                raise ValueError(
                    f"a family reads one of the kinds under data.columns "
                    f"({', '.join(sorted(kinds))}), got {', '.join(deaf)} under train.families: "
                    f"for text take {', '.join(families.reading('text'))}"
                )
        return self

    @model_validator(mode="after")
    def _slices_are_columns(self) -> Config:
        limits = [t.slice for t in self.monitor.slice_thresholds]
        unknown = [n for n in (*self.monitor.slices, *limits) if n not in self.data.columns]
        if unknown:
            raise ValueError(
                f"slices are columns of data.columns, got {', '.join(unknown)}: correct them under "
                "monitor"
            )
        kinds = self.data.columns
        if texts := [n for n in (*self.monitor.slices, *limits) if kinds[n] == "text"]:
            raise ValueError(
                f"slices are of number or category columns, got {', '.join(texts)} of text: take "
                "them out under monitor"
            )
        return self

    @model_validator(mode="after")
    def _something_is_stored(self) -> Config:
        never, columns = self.telemetry.never_store, self.data.columns
        unknown = [name for name in never if name not in columns]
        if unknown:
            raise ValueError(
                f"telemetry.never_store names columns of data.columns, got {', '.join(unknown)}: "
                "correct them; what is no input of the model is not stored anyway"
            )
        sliced = {*self.monitor.slices, *(t.slice for t in self.monitor.slice_thresholds)}
        if both := sorted(sliced & set(never)):
            raise ValueError(
                f"performance can be told by stored columns alone, and telemetry.never_store has "
                f"{', '.join(both)}: take them out there, or out of the slices under monitor"
            )
        if len(set(never)) == len(columns) and self.task == "table":
            raise ValueError(
                "drift is seen in stored columns, and telemetry.never_store has all of them: leave "
                "one out, such as one that says nothing about a person"
            )
        return self

    @model_validator(mode="after")
    def _blocks_have_times(self) -> Config:
        blocks = {"monitor.block": self.monitor.block, "gate.block": self.gate.block}
        for key, block in blocks.items():
            if block is not None and self.data.time is None:
                raise ValueError(
                    f"{key} groups rows by their time, got {short(block)} and no data.time: name "
                    "the time's column, or leave block out"
                )
        return self

    @model_validator(mode="after")
    def _performance_has_blocks(self) -> Config:
        window, block = self.monitor.performance_window, self.monitor.performance_block
        if block is not None and 2 * block > window:
            raise ValueError(
                f"monitor.performance_window holds two blocks at least, better 7, got "
                f"{short(window)} and monitor.performance_block {short(block)}: lengthen the "
                "window or shorten the block"
            )
        return self

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
    def watched(self) -> dict[str, Literal["number", "category"]]:
        """The inputs that are recorded, and so can be watched, as columns of a table."""
        never = set(self.telemetry.never_store)
        return {
            name: kind
            for name, kind in self.data.columns.items()
            if kind != "text" and name not in never
        }

    @property
    def texts(self) -> tuple[str, ...]:
        """The text columns that are recorded; they are watched in a way of their own."""
        never = set(self.telemetry.never_store)
        return tuple(
            name for name, kind in self.data.columns.items() if kind == "text" and name not in never
        )

    @property
    def store_url(self) -> str:
        """The telemetry store; it may hold a password, so it is for no log and no record."""
        file = f"sqlite:///{self.folder / 'telemetry.db'}"
        return engines.telemetry_url(self.name, self.engines.telemetry) or file

    @property
    def registry_url(self) -> str:
        """MLflow's tracking and registry store, likewise."""
        file = f"sqlite:///{self.folder / 'mlflow.db'}"
        return engines.registry_url(self.name, self.engines.registry) or file

    @property
    def artifacts(self) -> Path:
        given = engines.artifacts(self.name)
        return (
            Path(given).absolute()
            if given
            else self.engines.artifacts or (self.folder / "artifacts")
        )

    @property
    def data_url(self) -> str:
        """Where data.query is asked, likewise."""
        return engines.data_url(self.name, str(self.data.source))

    @property
    def server_url(self) -> str:
        return f"http://{self.serving.host}:{self.serving.port}"


def load(path: str | Path, **overrides: Any) -> Config:
    """Read a config file; relative paths in it are resolved against its folder.

    `overrides` are dotted keys that win over the file (`serving.port` as `serving__port=8101`);
    None leaves the file's value. With a trainer of one's own the file's folder becomes importable.
    Raises ConfigFault that names every fault at once.
    """
    path, raw = read(path, **overrides)
    try:
        config = Config.model_validate(raw)
    except ValidationError:
        raise ConfigFault(told(path, faults(raw, Config))) from None
    if wrong := engines.faults():
        raise ConfigFault(told(path, wrong))
    if isinstance(config.data.source, Path) and not source_of(config.data.source, path).is_file():
        raise ConfigFault(told(path, [missing_source(config.data.source, path)]))
    if config.train.trainer is not None and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end: it shadows nothing
    return resolved(config, path)


class _Policy(Section):
    """Nothing but the rules."""

    policy: Annotated[Rules, durations(*_LENGTHS)] = Rules()


def load_rules(path: str | Path, base: Rules) -> Rules:
    """Rules of a file, on top of `base`: its `policy` section, or the rules' keys by themselves.

    Raises ConfigFault that names every fault at once.
    """
    path, raw = read(path)
    given = raw["policy"] or {} if "policy" in raw else raw
    if not isinstance(given, dict):
        raise ConfigFault(told(path, ["policy: write `key: value` lines under it"]))
    kept = {field.name: getattr(base, field.name) for field in fields(base)}
    merged = {"policy": {**kept, **given}}
    found = faults(merged, _Policy)
    if found:
        raise ConfigFault(told(path, found))
    return _Policy.model_validate(merged).policy


def read(path: str | Path, **overrides: Any) -> tuple[Path, dict[str, Any]]:
    """The file's absolute path and its values before validation, `overrides` on top."""
    path = Path(path).expanduser().resolve()
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), duplicates_refused())  # noqa: S506 - safe
    except FileNotFoundError:
        raise ConfigFault(
            f"no config file at {path}: write one with `everfit init NAME --data FILE --target COL`"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise ConfigFault(f"{path} is not readable YAML: {fault}: correct it there") from None
    if not isinstance(raw, dict):
        raise ConfigFault(
            f"{path} must hold `key: value` lines at the top, got {type(raw).__name__}: write one "
            "with `everfit init`"
        )
    for dotted, value in overrides.items():
        if value is None:
            continue
        place = raw
        *parents, last = dotted.split("__")
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = value
    return path, raw


def source_of(source: str | Path, path: Path) -> Path:
    """Where the data that the config at `path` names lies."""
    return (path.parent / Path(source).expanduser()).resolve()


def missing_source(source: str | Path, path: Path) -> str:
    return (
        f"data.source: no such file: {source_of(source, path)}: correct the path, or write the "
        "file first"
    )


def told(path: Path, lines: list[str]) -> str:
    """All faults of the config at `path`, one a line."""
    count = f"{len(lines)} fault{'s' * (len(lines) > 1)}"
    return f"{path} has {count}:\n" + "\n".join(f"  {line}" for line in lines)


def resolved(config: Config, path: Path) -> Config:
    """The config of the file at `path` with all its places absolute."""
    runs = config.runs or Path("runs") / config.name
    update: dict[str, Any] = {"runs": (path.parent / runs.expanduser()).resolve()}
    source = config.data.source
    if isinstance(source, Path):
        place: Path | str = source_of(source, path)
    else:
        place = beside(source, path)
    update["data"] = config.data.model_copy(update={"source": place})
    given = config.engines
    places: dict[str, Any] = {
        key: beside(url, path)
        for key in ("telemetry", "registry")
        if (url := getattr(given, key)) is not None
    }
    if given.artifacts is not None:
        places["artifacts"] = (path.parent / given.artifacts.expanduser()).resolve()
    update["engines"] = given.model_copy(update=places)
    return config.model_copy(update=update)


def beside(url: str, path: Path) -> str:
    """A SQLite file's URL with its path relative to the config's folder; any other as it is."""
    scheme, mark, place = url.partition(":///")
    if not scheme.startswith("sqlite") or not mark or place.startswith(("/", "file:", ":")):
        return url
    name, question, options = place.partition("?")
    return f"{scheme}:///{source_of(name, path)}{question}{options}"
