"""Faults of what a retrain leans on: servers, databases, workers, the disk."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess

from deployments import stack
from deployments.drill import checks, work
from deployments.drill.cases import Skipped, during, ended, recovered
from deployments.drill.clients import Client
from deployments.drill.parts import Part, small_disk, trial_processes
from deployments.drill.points import RETRAIN, Point
from deployments.drill.world import World
from deployments.processes import StackFault, free_port

_DISK_MB = 64
_SERVED_SECONDS = 60.0  # in which a new champion must answer

Outcome = tuple[float, checks.Found]


def at(said: str) -> Point:
    return next(point for point in RETRAIN if point.said == said)


def prefect_killed(world: World, prefect: Part) -> Outcome:
    """The Prefect server dies among the trials, and comes back seconds later."""
    world.again()
    point = at("after the second trial is noted")
    return during(world, point, lambda _: prefect.kill(), prefect.start)


def mlflow_killed(world: World, prefect: Part) -> Outcome:  # noqa: ARG001 - as every case
    """The MLflow server dies in the middle of a registration, and comes back seconds later."""
    world.again()
    server = stack.mlflow_command(world.config(), free_port())
    served = replace(world, env={**world.env, "EVERFIT_REGISTRY_URL": server.url})
    with Part(server).running() as mlflow:
        point = at("before the version is made")
        return during(served, point, lambda _: mlflow.kill(), mlflow.start)


def worker_killed(world: World, prefect: Part) -> Outcome:  # noqa: ARG001
    """A worker of the model's server dies while it takes labels; the new champion answers."""
    from tasks.server import served

    world.again()
    config = world.config()
    server = stack.inference_command(world.config_path, config)
    with Part(server).running() as answering, Client(config.serving.port).asking() as client:
        time.sleep(1.0)
        point = at("before its files are kept")
        result = during(world, point, lambda _: answering.kill_one(), kept=client.kept)
        deadline = time.monotonic() + _SERVED_SECONDS
        while (version := served(config).version) != "2" and time.monotonic() < deadline:
            time.sleep(0.2)
    if version != "2":
        result[1].lost.append(f"the server answers with version {version}, not with 2")
    if not client.kept:
        result[1].lost.append("no label was acknowledged: the server did not answer")
    return result


def trial_killed(world: World, prefect: Part) -> Outcome:  # noqa: ARG001
    """The process in which a trial runs dies; the trial counts as failed or is tried again."""
    world.again()
    text = world.config_path.read_text(encoding="utf-8")
    text = text.replace("  parallel: 1", "  parallel: 1\n  runner: processes")
    world.config_path.write_text(text, encoding="utf-8")

    def fault(process: BaseProcess) -> None:
        assert process.pid is not None
        deadline = time.monotonic() + 30
        while not (found := trial_processes(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        if not found:
            raise StackFault("no process of a trial was found to kill")
        os.kill(found[-1], signal.SIGKILL)

    return during(world, at("after the second trial begins"), fault)


def disk_full(world: World, prefect: Part) -> Outcome:  # noqa: ARG001
    """The disk is full when a registration writes its files; then somebody makes room."""
    with small_disk(world.folder, _DISK_MB) as fault:
        if fault:
            raise Skipped(fault)
        world.again()
        job = world.job("watch", point=at("before its files are kept"), action="fill")
        code = ended(work.start(world.context, job), world)
        if code == 0:
            raise StackFault("the process ended well on a full disk")
        began = time.monotonic()
        (world.folder / "ballast").unlink()
        recovered(world)
        return time.monotonic() - began, world.judged()


def postgres_killed(world: World, prefect: Part) -> Outcome:  # noqa: ARG001
    """The PostgreSQL server of telemetry and registry crashes among the trials, and restarts."""
    from deployments import postgres

    if fault := postgres.missing():
        raise Skipped(fault)
    with postgres.temporary() as server:
        apart = World(
            world.place / "postgres",
            world.context,
            {
                "EVERFIT_TELEMETRY_URL": server.create("telemetry"),
                "EVERFIT_REGISTRY_URL": server.create("registry"),
            },
        )
        apart.make()
        point = at("after the second trial is noted")
        return during(apart, point, lambda _: server.kill(), server.start)


FAULTS: Mapping[str, Callable[[World, Part], Outcome]] = {
    "the Prefect server is killed": prefect_killed,
    "the MLflow server is killed": mlflow_killed,
    "a worker of the model's server is killed": worker_killed,
    "a trial's process is killed": trial_killed,
    "the disk is full": disk_full,
    "the PostgreSQL server is killed": postgres_killed,
}
