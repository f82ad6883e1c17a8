"""Check a model on its config's schedule, for as long as this process runs; and step roll-outs on.

Import this where Prefect already knows its server.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.definitions import Model
    from tasks.config import Config

Stamp = tuple[int, ...]

_AT_ONCE = 20  # registries on servers that are asked in one turn
ROLLOUT_SECONDS = 15.0  # between two looks for a roll-out, whose stages are shorter than checks

log = logging.getLogger(__name__)


def roll_all_on(
    configs: Sequence[Config], stop: threading.Event, every: float = ROLLOUT_SECONDS
) -> None:
    """Take the steps of roll-outs as they become due, until `stop`; a fault waits for the next.

    A registry in a file is opened only when that has changed, or when a roll-out is under way. Of
    others at most `_AT_ONCE` are asked in a turn, each in its time.
    """
    idle: dict[str, Stamp] = {}  # of models without a roll-out: how their files were then
    turn = 0
    while not stop.wait(every):
        turn += 1
        for number, config in enumerate(configs):
            now = stamp(config)
            if now is None and number % max(1, len(configs) // _AT_ONCE) != turn % max(
                1, len(configs) // _AT_ONCE
            ):
                continue
            if now is not None and idle.get(config.name) == now:
                continue
            if roll_on(config) or now is None:
                idle.pop(config.name, None)
            else:
                idle[config.name] = now


def stamp(config: Config) -> Stamp | None:
    """When the model's registry was last written, and its server's folder; None for no file."""
    from models.registry_files import sqlite_file

    file = sqlite_file(config.registry_url)
    if file is None:
        return None
    found = []
    for path in (file, Path(f"{file}-wal"), config.folder / "serving"):
        try:
            found.append(path.stat().st_mtime_ns)
        except OSError:
            found.append(0)
    return tuple(found)


def roll_on(config: Config) -> bool:
    """One step of the model's roll-out; whether one is, or may be, under way."""
    from flows.rollout import advance
    from tasks import standing

    try:
        if not standing.under_way(config):
            return False
        asyncio.run(advance(config))
    except Exception:  # such as a registry that is down, or another process that was faster
        log.exception("a step of the roll-out of %s failed", config.name)
    return True


def run_schedule(config: Config, path: Path, *, act: bool = True) -> None:
    """Check on schedule until SIGTERM or Ctrl-C, one check at a time; `act` in the check's process.

    A runner that knows the checks alone: a retrain that is due runs in the process of its check.
    """
    from deployments.definitions import Model
    from deployments.runner import Runner, run

    run(Runner([Model(config, path)], act=act, only=frozenset({"watch"}), elsewhere=False))


def run_schedules(models: Sequence[Model], *, act: bool = True) -> None:
    """The same for several models. Retrains have processes of their own, so that no check waits."""
    from deployments.runner import Runner, retrains_at_once, run

    flows = frozenset({"watch", "retrain"})
    run(Runner(models, act=act, only=flows, retrains=retrains_at_once(models)))
