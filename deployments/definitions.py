"""The deployments of one model, from prefect.yaml: the one place where they are defined."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tasks.config import ConfigFault
from tasks.entry import parameter

if TYPE_CHECKING:
    from tasks.config import Config

FILE = Path(__file__).with_name("prefect.yaml")
POOL = "everfit"
_PLACE = re.compile(r"\{\{\s*\$(EVERFIT_\w+)\s*\}\}")
_NEVER = "0 0 1 1 *"  # what an inactive schedule says


@dataclass(frozen=True, slots=True)
class Model:
    """A config and the file that it was read from."""

    config: Config
    file: Path

    @property
    def name(self) -> str:
        return self.config.name


def environment(model: Model, pool: str = POOL) -> dict[str, str]:
    """What the places in prefect.yaml stand for; a schedule that is `never` is not active."""
    schedule = model.config.schedule
    found = {
        "EVERFIT_MODEL": model.name,
        "EVERFIT_CONFIG": str(model.file.expanduser().resolve()),
        "EVERFIT_POOL": pool,
        "EVERFIT_CRON": schedule.cron,
    }
    for name in ("safety", "report", "reconcile"):
        cron = getattr(schedule, name)
        found[f"EVERFIT_{name.upper()}"] = _NEVER if cron == "never" else cron
        found[f"EVERFIT_{name.upper()}_ACTIVE"] = str(cron != "never").lower()
    found["EVERFIT_VERSION"] = digest({**found, "file": FILE.read_text(encoding="utf-8")})
    return found


def definitions(
    model: Model,
    pool: str = POOL,
    *,
    act: bool = True,
    elsewhere: bool = True,
    paused: tuple[str, ...] = (),
) -> dict[str, dict[str, Any]]:
    """Each deployment by its flow's name, as prefect.yaml says, with what this runner adds.

    The config's runs folder and port are named too, since they may be the command's. `act` False
    has checks only measure and decide; the schedules of the flows in `paused` are not active.
    `version` follows from all of it.
    """
    text = FILE.read_text(encoding="utf-8")
    filled = _filled(yaml.safe_load(text), environment(model, pool))
    config = parameter(model.file, model.config.folder, model.config.serving.port)
    found: dict[str, dict[str, Any]] = {}
    for one in filled["deployments"]:
        flow = one["entrypoint"].rpartition(".")[2]
        one["parameters"]["config"] = config
        for name, value in (("act", act), ("elsewhere", elsewhere)):
            if name in one["parameters"]:
                one["parameters"][name] = value
        for schedule in one.get("schedules", []):
            active = schedule.get("active", True) in (True, "true")
            schedule["active"] = active and flow not in paused
        one["version"] = digest({**one, "version": None})
        found[flow] = one
    return found


def distinct(models: list[Model]) -> list[Model]:
    """The models. Raises ConfigFault if two have one name: they would share their deployments."""
    files: dict[str, Path] = {}
    for model in models:
        if model.name in files:
            raise ConfigFault(
                f"each model has a name of its own, got {model.name!r} in {files[model.name]} and "
                f"in {model.file}: rename one"
            )
        files[model.name] = model.file
    return models


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    """
    >>> _filled(["{{ $EVERFIT_MODEL }}: {{ event.id }}"], {"EVERFIT_MODEL": "churn"})
    ['churn: {{ event.id }}']
    """
    if isinstance(value, dict):
        return {key: _filled(inner, places) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, places) for inner in value]
    if isinstance(value, str):
        return _PLACE.sub(lambda place: places[place[1]], value)
    return value


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that change with `value`."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
