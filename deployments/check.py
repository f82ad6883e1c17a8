"""Everything that can be wrong with a config, found before anything runs on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.check_blocks import few_blocks, few_stretches
from deployments.check_text import inputs, longest, reading
from models.errors import ModelError
from models.schema import closest
from tasks.cluster.extras import lacking
from tasks.config import (
    Config,
    Data,
    Train,
    beside,
    missing_source,
    read,
    resolved,
    source_of,
    told,
)
from tasks.config_faults import faults
from tasks.engines import data_url, is_url
from tasks.engines import faults as environment_faults

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

    from models.gate import GateRule

# What a retrain keeps for the fit at least, beside the rows that the gate holds back.
TRAINING_ROWS = 50
HOLDOUT_SHARE = 0.2
LOOKED_AT = 100_000  # rows of a query


@dataclass(frozen=True, slots=True)
class Report:
    """The faults of a config with path and remedy; without any, a summary of what it says."""

    path: Path
    faults: tuple[str, ...]
    summary: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.faults:
            return told(self.path, list(self.faults))
        return f"{self.path} is sound\n" + "\n".join(f"  {line}" for line in self.summary)


def check(path: Path) -> Report:
    """Look at the file, then at what it names; a fault in one section hides none of another's.

    Raises ConfigFault when the file cannot be read as YAML at all.
    """
    path, raw = read(path)
    found = faults(raw, Config)
    data, train = _section(Data, raw.get("data")), _section(Train, raw.get("train"))
    config = None if found else Config.model_validate(raw)
    summary: list[str] = []
    if data is None:
        found += _source_fault(raw.get("data"), path)
    else:
        found += _data_faults(data, path, raw, config, summary)
    if train is not None:
        found += _train_faults(train, path, summary)
    if config is not None:
        found += wrong if (wrong := environment_faults()) else _engines(config, path, summary)
        summary += _rest(config)
    return Report(path, tuple(found), () if found else tuple(summary))


def _engines(config: Config, path: Path, summary: list[str]) -> list[str]:
    from deployments.check_engines import engine_faults

    return engine_faults(resolved(config, path), summary)


def _section(model: type[BaseModel], raw: Any) -> Any:
    return None if faults(raw, model) else model.model_validate(raw)


def _source_fault(raw: Any, path: Path) -> list[str]:
    """Whether the file is missing, when that is all that a faulty section lets us look at."""
    source = raw.get("source") if isinstance(raw, dict) else None
    if not isinstance(source, str) or is_url(source) or source_of(source, path).is_file():
        return []
    return [missing_source(source, path)]


def _data_faults(
    data: Data, path: Path, raw: Any, config: Config | None, summary: list[str]
) -> list[str]:
    if isinstance(data.source, Path) and not source_of(data.source, path).is_file():
        return [missing_source(data.source, path)]
    try:
        frame = _table(data, path, str(raw.get("name")))
    except ModelError as fault:
        said = str(fault)
        return [said if said.startswith("data.") else f"data.source: {said}"]
    part = data.query is not None and len(frame) == LOOKED_AT
    places = {"data.target": data.target}
    if data.time is not None:
        places["data.time"] = data.time
    places |= {f"data.columns.{name}": name for name in data.columns}
    found = [
        f"{place}: {data.called} has no column {name!r}: {closest(name, frame.columns)}"
        for place, name in places.items()
        if name not in frame.columns
    ]
    found += _column_faults(data, frame)
    if data.time in frame.columns:
        found += _time_faults(frame, str(data.time))
    if data.target in frame.columns:
        labelled = frame[frame[data.target].notna()]
        found += _class_faults(data, labelled[data.target], part)
        if config is not None:
            found += _row_faults(len(labelled), config.gate)
        summary += _described(data, frame, labelled[data.target], part)
    if config is not None:
        summary += longest(data, frame, config.serving.maximum_text)
    if config is not None and not found:
        summary += [*few_blocks(config, frame, part=part), *few_stretches(config)]
    return found


def _table(data: Data, path: Path, name: str) -> pd.DataFrame:
    """The rows of the file, or the first that the query gives."""
    if isinstance(data.source, Path):
        from models.data import read_table

        return read_table(source_of(data.source, path))
    from models.errors import DataFault
    from models.sql import SqlSource

    source = SqlSource(beside(data_url(name, data.source), path), str(data.query), data.time)
    frame = source.read(most=LOOKED_AT)
    if not len(frame):
        raise DataFault(f"data.query: it gives no rows at {data.called}: correct it")
    return frame


def _column_faults(data: Data, frame: pd.DataFrame) -> list[str]:
    """Columns whose values are not of the kind that the config says."""
    from models.encoding import Encoder
    from models.schema import Column, Schema

    found = []
    for name, kind in data.columns.items():
        if name not in frame.columns or name in (data.target, data.time):
            continue
        try:
            schema = Schema((Column(name, kind),), data.target, (0, 1))
            Encoder.fit(frame[[name]], schema)
        except ModelError as fault:
            found.append(f"data.columns.{name}: {fault}")
    return found


def _time_faults(frame: pd.DataFrame, column: str) -> list[str]:
    from models.data import times

    try:
        times(frame, column)
    except ModelError as fault:
        return [f"data.time: {fault}"]
    return []


def _class_faults(data: Data, labels: pd.Series, part: bool) -> list[str]:
    from models.schema import class_key

    listed = {class_key(label): label for label in data.classes}
    found = []
    if len(listed) < len(data.classes):
        found.append(
            f"data.classes: each class is named once, got {data.classes}: remove what repeats"
        )
    there = {class_key(value): value for value in labels.unique()}
    foreign = [str(value) for key, value in there.items() if key not in listed]
    if foreign:
        found.append(
            f"data.classes: {data.target!r} also holds {', '.join(foreign[:5])}"
            f"{' and more' if len(foreign) > 5 else ''}: add each class, or drop these rows"
        )
    absent = [label for key, label in listed.items() if key not in there]
    if absent and not part:  # a rare one may be among the rows that were not looked at
        near = closest(str(absent[0]), [str(value) for value in there.values()])
        found.append(f"data.classes: no row of {data.target!r} is {absent}: {near}")
    return found


def _row_faults(rows: int, gate: GateRule) -> list[str]:
    held = min(gate.rows, int(rows * HOLDOUT_SHARE))
    if rows - held < TRAINING_ROWS:
        return [
            f"data.source: {rows} labelled rows leave {rows - held} to train on, and "
            f"{TRAINING_ROWS} are needed: bring more rows"
        ]
    if held < gate.minimum_rows:
        return [
            f"gate.minimum_rows: the gate can hold back {held} of {rows} labelled rows (a fifth), "
            f"and {gate.minimum_rows} are asked for: lower it to {held} or less, or bring more rows"
        ]
    return []


def _train_faults(train: Train, path: Path, summary: list[str]) -> list[str]:
    import sys

    from models import families
    from models.text.sentences import absent

    found = [
        f"train.families: there is no family {name!r}: {closest(name, families.NAMES)}"
        for name in train.families
        if name not in families.NAMES
    ]
    if fault := lacking(train.runner):
        found.append(fault)
    known = [name for name in train.families if name in families.NAMES]
    if "sentence" in known and (fault := absent()):
        found.append(f"train.families: {fault}")
    if "custom" in known and train.trainer is None:
        found.append("train.trainer: the family 'custom' is your own: name it as module:attribute")
        known.remove("custom")
    if train.trainer is not None:
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        try:
            families.get("custom", train.trainer).space  # noqa: B018 - resolving is the check
        except ModelError as fault:
            return [*found, f"train.trainer: {fault}"]
        except Exception as fault:  # the user's module may raise anything when imported
            return [*found, f"train.trainer: importing {train.trainer!r} raised {fault!r}: mend it"]
    if not known and train.trainer is None:
        return found
    space = families.space(known, train.trainer, train.adapt, shrink=train.shrinks)
    found += _adapt_faults(train, known)
    for name, change in train.space.items():
        if name.partition(".")[0] in set(train.families) - set(known):
            continue  # its family is the fault
        try:
            space.override({name: change})
        except ModelError as fault:
            found.append(f"train.space.{name}: {fault}")
    summary.append(
        f"tunes {', '.join(dict.fromkeys([*known, *(['custom'] if train.trainer else [])]))}: "
        f"{len(space)} parameters, at most {train.trials} trials or {train.seconds:g} s"
    )
    return found


def _adapt_faults(train: Train, known: list[str]) -> list[str]:
    """Each way to adapt that no family can be given."""
    from models import families

    named = [*known, *(["custom"] if train.trainer else [])]
    able = {way for name in named for way in families.get(name, train.trainer).adapts}
    return [
        f"train.adapt: {' and '.join(named)} cannot adapt by {way}: take it out, or add a family "
        f"that can, such as {families.adapting(way)[0]}"
        for way in train.adapt
        if way not in able
    ]


def _described(data: Data, frame: pd.DataFrame, labels: pd.Series, part: bool) -> list[str]:
    kinds = list(data.columns.values())
    from models.schema import class_key

    named = {class_key(label): label for label in data.classes}  # 1 beside gaps is read as 1.0
    shares = labels.value_counts(normalize=True).head(6)
    said = ", ".join(f"{named.get(class_key(k), k)} {share:.0%}" for k, share in shares.items())
    return [
        f"data: {data.called}, {'the first ' * part}{len(frame):,} rows, {len(labels):,} labelled",
        f"learns {data.target} ({said}) from {inputs(kinds)}"
        + (f", in order of {data.time}" * bool(data.time)),
    ]


def _rest(config: Config) -> list[str]:
    from monitoring.wording import short
    from tasks.evidence import lengths

    thresholds = ", ".join(str(t) for t in config.monitor.thresholds) or "no thresholds"
    windows = " and ".join(short(length) for length in lengths(config))
    fixed = config.policy.drift_p_value
    level = (
        f"{config.monitor.false_alarms:.3g} false alarms a year"
        if fixed is None
        else f"level {fixed:g} of each test"
    )
    return [
        *reading(config),
        f"serves on {config.server_url}, checks at '{config.schedule.cron}', {thresholds}",
        f"tests windows of {windows} for drift, {level}; rule set {config.policy.rule_set}",
        *_people(config),
    ]


def _people(config: Config) -> list[str]:
    """Who decides and who is told; what the environment here lacks for it."""
    said = []
    if config.approval == "required":
        within = f"{config.approval_within.total_seconds() / 86400:.3g} days"
        said.append(f"a person approves what passed its gate, within {within}, before it answers")
    for entry in config.notify:
        lacking = "" if os.environ.get(entry.to.variable) else " (not set here: set it there)"
        said.append(f"tells {entry.to} of {', '.join(entry.on)}, by {entry.to.variable}{lacking}")
    return said
