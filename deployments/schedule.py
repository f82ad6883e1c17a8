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
    from tasks.config import Config

ROLLOUT_SECONDS = 15.0  # between two looks for a roll-out, whose stages are shorter than checks

log = logging.getLogger(__name__)


def roll_all_on(
    configs: Sequence[Config], stop: threading.Event, every: float = ROLLOUT_SECONDS
) -> None:
    """Take the steps of roll-outs as they become due, until `stop`; a fault waits for the next."""
    while not stop.wait(every):
        for config in configs:
            roll_on(config)


def roll_on(config: Config) -> None:
    """One step of the model's roll-out, if one is under way."""
    from flows.rollout import advance
    from tasks import standing

    try:
        if standing.under_way(config):
            asyncio.run(advance(config))
    except Exception:  # such as a registry that is down, or another process that was faster
        log.exception("a step of the roll-out of %s failed", config.name)


def run_schedule(config: Config, path: Path, *, act: bool = True) -> None:
    """Check on schedule until SIGTERM or Ctrl-C, one check at a time; `act` in the check's process.

    A runner that knows the checks alone: a retrain that is due runs in the process of its check.
    """
    from deployments.definitions import Model
    from deployments.runner import Runner, run

    run(Runner([Model(config, path)], act=act, only=frozenset({"watch"}), elsewhere=False))
