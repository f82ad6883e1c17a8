"""Check a model on its config's schedule, for as long as this process runs.

Prefect keeps the schedule and starts each check in a process of its own. Import this where Prefect
already knows its server.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, runtime
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.schedules import Cron
from prefect.states import Cancelled, Completed, State

if TYPE_CHECKING:
    from tasks.config import Config

# A check that could not start in time is left out: the next one looks at the newest rows anyway,
# and a machine that was off for a week need not run seven checks when it is back.
LATEST_START = timedelta(minutes=15)

ROLLOUT_SECONDS = 15.0  # between two looks for a roll-out, whose stages are shorter than checks

log = logging.getLogger(__name__)


@flow(name="scheduled-check", flow_run_name="check-{config_path}")
async def scheduled_check(config_path: str, runs: str, port: int, act: bool = True) -> State:
    """One check by the config as it is now; `runs` and `port` are those of the command."""
    from flows.watch import watch
    from tasks.config import load

    if late(runtime.flow_run.scheduled_start_time, datetime.now(UTC)):
        return Cancelled(message=f"due more than {LATEST_START} ago: left out")
    decision = await watch(load(config_path, runs=runs, serving__port=port), act=act)
    return Completed(message=f"{decision.action.value}: {'; '.join(decision.reasons)}")


def late(due: datetime | None, now: datetime) -> bool:
    """Whether a check that was due then should be left out now.

    >>> noon = datetime(2013, 2, 1, 12, tzinfo=UTC)
    >>> late(noon, noon + timedelta(minutes=1)), late(noon, noon + timedelta(hours=1))
    (False, True)
    """
    return due is not None and now - due > LATEST_START


def roll_on(config: Config, stop: threading.Event, every: float = ROLLOUT_SECONDS) -> None:
    """Take the steps of roll-outs as they become due, until `stop`; a fault waits for the next."""
    from flows.rollout import advance
    from tasks import standing

    while not stop.wait(every):
        try:
            if standing.under_way(config):
                asyncio.run(advance(config))
        except Exception:  # such as a registry that is down, or another process that was faster
            log.exception("a step of the roll-out of %s failed", config.name)


def run_schedule(config: Config, path: Path, *, act: bool = True) -> None:
    """Serve the schedule until SIGTERM or Ctrl-C; one check at a time."""
    stop = threading.Event()
    if act:
        threading.Thread(target=roll_on, args=(config, stop), name="rollout", daemon=True).start()
    try:
        _serve(config, path, act=act)
    finally:
        stop.set()


def _serve(config: Config, path: Path, *, act: bool) -> None:
    scheduled_check.serve(
        name=config.name,
        schedule=Cron(config.schedule.cron, timezone="UTC"),
        parameters={
            "config_path": str(path.expanduser().resolve()),
            "runs": str(config.folder),
            "port": config.serving.port,
            "act": act,
        },
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        print_starting_message=False,
    )
