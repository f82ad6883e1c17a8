"""The round: every model of a schedule, one after the other in each warm process."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, runtime
from prefect.states import Cancelled, Completed, Failed, State

from deployments.rounds import book
from deployments.rounds.order import Entry, ordered
from deployments.rounds.pool import Done, Job, Limits, Pool

log = logging.getLogger(__name__)

WARM = "deployments.rounds.warm"
SHARE = 0.95  # of the time until the next round, in which checks are started
_SHOWN = 10  # failed models that are named
_LIMITS = Limits()


@dataclass
class Round:
    """What came of a round."""

    models: int = 0
    did: Counter[str] = field(default_factory=Counter)  # checked, skipped, failed
    actions: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)  # by config
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of all checks, without Prefect's server
    memory_mb: float = 0.0  # of the largest process

    @property
    def left(self) -> int:
        """Models that there was no time for: they come first in the next round."""
        return self.models - sum(self.did.values())

    def __str__(self) -> str:
        parts = [f"{n} {what}" for what, n in self.did.items() if n]
        parts += [f"{self.left} left for the next round"] * (self.left > 0)
        said = ", ".join(f"{action} {n}" for action, n in self.actions.items())
        text = f"{self.models} models in {self.seconds:.0f} s: {', '.join(parts) or 'none'}"
        text += f"; {said}" * bool(said)
        for name, fault in list(self.faults.items())[:_SHOWN]:
            text += f"\n{name}: {fault}"
        return text


def checked(
    configs: Sequence[str],
    place: Path,
    *,
    act: Any = False,
    workers: int = 1,
    period: timedelta = timedelta(hours=1),
    due: datetime | None = None,
    limits: Limits = _LIMITS,
    skip: bool = True,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    crashed: Callable[[str, str], None] | None = None,
    ended: Callable[[Done], None] | None = None,
) -> Round:
    """Check the models of `configs`, `workers` at once, the most overdue first.

    `place` is the file that remembers the order. No check is started after `SHARE` of `period` from
    `due`. `act` is passed on to the watch. `crashed` gets the flow run of a check whose process
    ended, and why; `ended` every end.
    """
    began = clock()
    known = book.read(place)
    names = ordered(configs, known, began, period)
    stop = (due or began) + SHARE * period
    made = Round(models=len(names))

    def jobs() -> Iterator[Job]:
        for name in names:
            if clock() >= stop:
                return
            yield {"config": name, "act": act, "skip": skip}

    begun: dict[str, str] = {}  # flow runs by config

    def begin(job: Job, run: Any) -> None:
        begun[str(job["config"])] = str(run)
        book.note_running(place, begun)

    pool = Pool(
        "deployments.rounds.checks:check",
        max(1, min(workers, len(names))),
        (WARM,),
        "deployments.rounds.checks:connected",
        limits,
        begin,
    )
    entries = {name: known[name] for name in names if name in known}
    try:
        for done in pool.run(jobs()):
            name = str(done.job["config"])
            _count(made, name, done)
            begun.pop(name, None)
            entries[name] = Entry(clock(), bool(done.fault), done.seconds)
            if crashed is not None and done.crashed and done.told:
                crashed(str(done.told), done.fault)
            if ended is not None:
                ended(done)
    finally:
        made.seconds = (clock() - began).total_seconds()
        book.write(place, entries)
        if crashed is not None:  # the round itself is being ended
            for run in begun.values():
                crashed(run, "was ended with its round")
        book.note_running(place, {})
    return made


def _count(made: Round, name: str, done: Done) -> None:
    made.cpu_seconds += done.cpu_seconds
    made.memory_mb = max(made.memory_mb, done.memory_mb)
    if done.fault:
        made.did["failed"] += 1
        made.faults[name] = done.fault
        log.warning("the check of %s failed: %s", name, done.fault)
        return
    made.did[done.result["did"]] += 1
    if "action" in done.result:
        made.actions[done.result["action"]] += 1


def found(configs: Sequence[str]) -> list[str]:
    """The configs' paths, each once, in order: files, patterns (`/etc/everfit/*.yaml`), and
    `@FILE`, a text file with one of these a line."""
    every: list[str] = []
    for one in configs:
        if one.startswith("@"):
            lines = Path(one[1:]).read_text(encoding="utf-8").splitlines()
            every += found([line.strip() for line in lines if line.strip()])
        elif glob.has_magic(one):
            every += sorted(glob.glob(os.path.expanduser(one)))
        else:
            every.append(str(Path(one).expanduser().resolve()))
    return list(dict.fromkeys(every))


@flow(name="round", flow_run_name="round-{name}")
def round_of_checks(
    name: str,
    configs: list[str],
    place: str,
    cron: str | None = None,
    act: bool = True,
    workers: int = 1,
    seconds: float = 600.0,
) -> State[Any]:
    """Check the models of `configs` (files, patterns, @FILE), of these the ones with the schedule
    `cron` if that is given, in `workers` warm processes; the order is remembered in `place`.

    Every check is a flow run of its own, with the tag `model:NAME`. A check that takes
    longer than `seconds` is ended. The round has failed when every one of its checks has.
    """
    due, now = runtime.flow_run.scheduled_start_time, datetime.now(UTC)
    period = period_of(cron, now)
    if due is not None and now - due > period:
        return Cancelled(message=f"due at {due:%Y-%m-%d %H:%M}: a later round covers it")
    for run in book.running(Path(place)).values():
        tell_prefect(run, "ended with the process of its round")
    made = checked(
        scheduled(found(configs), cron),
        Path(place),
        act=act,
        workers=workers,
        period=period,
        due=due,
        limits=Limits(seconds=seconds),
        crashed=tell_prefect,
    )
    log.info("%s: %s", name, made)
    ill = made.models and made.did["failed"] == made.models
    return (Failed if ill else Completed)(message=str(made))


def scheduled(paths: Sequence[str], cron: str | None) -> list[str]:
    """The configs whose schedule this is. One that cannot be read stays: its check says why."""
    from tasks.config import ConfigFault, load

    def mine(path: str) -> bool:
        try:
            return bool(cron is None or load(path).schedule.cron == cron)
        except ConfigFault:
            return True

    return [path for path in paths if mine(path)]


def period_of(cron: str | None, now: datetime) -> timedelta:
    """The time between the next two rounds; an hour without a schedule.

    >>> period_of("*/10 * * * *", datetime(2013, 2, 1, 12, tzinfo=UTC))
    datetime.timedelta(seconds=600)
    """
    from cronsim import CronSim

    if cron is None:
        return timedelta(hours=1)
    times = CronSim(cron, now)
    first = next(times)
    return next(times) - first


def tell_prefect(run: str, why: str) -> None:
    """A check whose process has ended cannot say so itself."""
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
            if state is None or not state.is_final():
                client.set_flow_run_state(
                    UUID(run), Crashed(message=f"the check {why}"), force=True
                )
    except Exception:  # such as a run that was deleted; the round goes on
        log.exception("flow run %s could not be told that its check %s", run, why)
