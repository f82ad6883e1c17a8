"""One process that works the deployments of any number of models: `python -m deployments.runner`.

It registers the work pool, its queues, every model's deployments and automations with the server
that PREFECT_API_URL names, all of it as often as it likes, then starts each run in a process of
its own until SIGTERM or Ctrl-C. Several may work one pool. Beside that it looks after what Prefect
leaves: runs that a later one covers, runs whose process is gone, and the steps of roll-outs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments import environment

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.workers.process import ProcessWorker

    from deployments.definitions import Model

POLL_SECONDS = 1.0  # between two looks for runs: most of what an event waits for
LOOK_SECONDS = 15.0  # between two looks for stale and lost runs
BEAT_SECONDS = 2.0  # between two signs of life for whoever started this process
GRACE_SECONDS = 20.0  # that runs have to end after SIGTERM
SERVER_SECONDS = 120.0  # that the server may take to answer, at the start

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger("everfit.runner")


@dataclass
class Runner:
    """`work` registers and works until `stop` is set; `ids` are the deployments, by model and flow.

    From `rounds.MANY` models on, one deployment checks all of a schedule, `checks` at once.

    `only` these flows, all without; `act` False has checks only measure; `elsewhere` has retrains
    run by the retrain deployment, of which `retrains` may run at once, over all models and runners
    of the pool.
    """

    models: Sequence[Model]
    pool: str = "everfit"
    retrains: int = 1
    checks: int = 1
    act: bool = True
    only: frozenset[str] | None = None
    elsewhere: bool = True
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ids: dict[str, dict[str, UUID]] = field(default_factory=dict)

    async def work(self) -> None:
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            await _answering(client)
            await self.register(client)
            await self.look(client)
            log.info("works %d models in the pool %s", len(self.models), self.pool)
            worker = _worker(self.pool)
            working = asyncio.create_task(worker.start(printer=lambda *_: None))
            looking = asyncio.create_task(self._look_on(client))
            beating = asyncio.create_task(_beat(worker))
            stopping = asyncio.create_task(self.stop.wait())
            threads = self._roll_on()
            try:
                await asyncio.wait(
                    {working, looking, stopping}, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                threads.set()
                for task in (looking, beating, stopping):
                    task.cancel()
                await _ended(working)
        if working.done() and not working.cancelled() and (fault := working.exception()):
            raise fault

    async def register(self, client: PrefectClient) -> None:
        """Make the server know all of it; what it knows already stays."""
        from deployments import register
        from deployments.rounds import register as rounds

        await register.pool(client, self.pool, retrains=self.retrains)
        only, many = self.only, len(self.models) >= rounds.MANY and self.elsewhere
        if many and (only is None or "watch" in only):
            only = rounds.BESIDE if only is None else rounds.BESIDE & only
            self.ids["rounds"] = await rounds.ensure(
                client, self.models, self.pool, act=self.act, workers=self.checks
            )
        for model in self.models:
            self.ids[model.name] = await register.model(
                client,
                model,
                self.pool,
                act=self.act,
                elsewhere=self.elsewhere,
                only=only,
                paused=("advance",),  # this process looks for roll-outs itself, and more often
            )

    async def look(self, client: PrefectClient) -> None:
        """Set right what the server believes of stale and of lost runs."""
        from deployments import lost
        from tasks import backlog, once

        every = [found for flows in self.ids.values() for found in flows.values()]
        retrains = [flows["retrain"] for flows in self.ids.values() if "retrain" in flows]
        for run in await lost.set_right(client, every, retrains):
            log.warning("the process of %s was lost", run.name)
        if left_out := await backlog.clear(client, every, datetime.now(UTC)):
            log.info("left out %d runs that later ones cover", left_out)
        if doubled := await once.clear(client, retrains):
            log.info("left out %d runs whose windows others have", doubled)

    async def _look_on(self, client: PrefectClient) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look(client)
            except Exception:  # such as a server that restarts
                log.exception("stale and lost runs could not be looked for")

    def _roll_on(self) -> threading.Event:
        from deployments.schedule import roll_all_on

        stop = threading.Event()
        if self.act:
            configs = [model.config for model in self.models]
            threading.Thread(
                target=roll_all_on, args=(configs, stop), name="rollouts", daemon=True
            ).start()
        return stop


def _worker(pool: str) -> ProcessWorker:
    from prefect.workers.process import ProcessWorker

    from deployments.lost import worker_name
    from deployments.register import PRIORITIES

    return ProcessWorker(
        work_pool_name=pool,
        work_queues=list(PRIORITIES),
        name=worker_name(),
        prefetch_seconds=1,
        create_pool_if_not_found=False,
    )


async def _beat(worker: ProcessWorker) -> None:
    """Touch the file that EVERFIT_BEAT names for as long as the worker looks for runs."""
    named = os.environ.get("EVERFIT_BEAT")
    while named:
        if worker.is_worker_still_polling(POLL_SECONDS):
            Path(named).touch()
        await asyncio.sleep(BEAT_SECONDS)


async def _ended(working: asyncio.Task[None]) -> None:
    """End the worker; its runs get SIGTERM, and end their work themselves."""
    working.cancel()
    done, _ = await asyncio.wait({working}, timeout=GRACE_SECONDS)
    if not done:
        log.warning("runs did not end within %.0f s of SIGTERM", GRACE_SECONDS)


async def _answering(client: PrefectClient) -> None:
    """Wait for the server. Raises the last fault when it does not answer in time."""
    deadline = asyncio.get_running_loop().time() + SERVER_SECONDS
    while (fault := await client.api_healthcheck()) is not None:
        if asyncio.get_running_loop().time() >= deadline:
            raise fault
        await asyncio.sleep(0.5)


def retrains_at_once(models: Sequence[Model], cores: int | None = None) -> int:
    """As many as the cores carry, by the widest search of the models; at least one."""
    cores = cores or os.cpu_count() or 1
    return max(1, cores // max((m.config.train.parallel for m in models), default=1))


def run(runner: Runner) -> None:
    """`work` until SIGTERM or Ctrl-C, then return."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        runner.stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, runner.stop.set)
        await runner.work()

    asyncio.run(until_told())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 2 where it cannot begin."""
    given = _arguments().parse_args(arguments)
    environment.prepare()
    os.environ.setdefault("PREFECT_WORKER_QUERY_SECONDS", str(POLL_SECONDS))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "prefect.workers.process"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not os.environ.get("PREFECT_API_URL"):
        sys.stderr.write(
            "PREFECT_API_URL must name a running Prefect server: start one with `everfit up`, or "
            "with `prefect server start`, and set it\n"
        )
        return 2
    from deployments.definitions import Model, distinct
    from deployments.rounds import register as rounds
    from tasks.config import ConfigFault, load

    try:
        overrides: dict[str, Any] = {"runs": given.runs, "serving__port": given.port}
        models = distinct([Model(load(path, **overrides), path) for path in given.config])
    except ConfigFault as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    run(
        Runner(
            models,
            pool=given.pool,
            retrains=given.retrains or retrains_at_once(models),
            checks=given.checks or rounds.processes(),
            act=not given.no_act,
        )
    )
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.runner", description=__doc__)
    parser.add_argument("config", nargs="+", type=Path, help="the models' configs")
    parser.add_argument("--pool", default="everfit", help="the work pool (%(default)s)")
    parser.add_argument("--retrains", type=_positive, help="at once, of all models (by the cores)")
    parser.add_argument("--checks", type=_positive, help="at once, of many models (half the cores)")
    parser.add_argument("--no-act", action="store_true", help="checks measure and start nothing")
    parser.add_argument("--runs", help="everything the loop writes, of a single model")
    parser.add_argument("--port", type=int, help="of the server of a single model")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"it is 1 or more, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
