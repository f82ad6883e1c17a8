"""Processes that die or race in the registry; run as `python -m` with the jobs as JSON.

One interpreter imports everything and forks once for each job, so that a dozen processes cost the
imports of one. Prints a JSON list of [exit code, output] in the order of the jobs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from models.errors import RegistryFault
from models.registry import Registry
from tests import registry_parts as parts


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def register_and_die(folder: Path, number: int, method: str, moment: str) -> None:
    """kill -9 `before`, `during` (two files are copied, a third is half there) or `after` it."""
    store = parts.registry(folder)
    client = store._client()
    real = getattr(client, method)

    def deadly(*args: Any, **more: Any) -> None:
        if moment == "during":
            copy, left = shutil.copy2, iter([True, True])

            def dying(source: str, target: str, **how: Any) -> Any:
                if next(left, False):
                    return copy(source, target, **how)
                Path(target).write_bytes(b"half a fi")
                return die()

            shutil.copy2 = dying  # type: ignore[assignment]
        if moment != "before":
            real(*args, **more)
        die()

    setattr(client, method, deadly)
    parts.register(store, number)


def race(folder: Path, what: str, which: str, go: Barrier) -> str:
    store = parts.registry(folder)
    store.champion()
    go.wait(60)
    try:
        if what == "promote":
            parts.promote(store, which, "1")
            return "won"
        return parts.register(store, int(which))
    except RegistryFault as fault:
        return f"lost: {fault}"


def opened(folder: Path, go: Barrier) -> int:
    """How many versions a store has whose tables all openers make at the same moment."""
    store = Registry(f"sqlite:///{folder / 'mlflow.db'}", "race", folder / "artifacts")
    go.wait(60)
    store._client()
    return len(store.versions())


def run(job: dict[str, Any], go: Barrier, answer: Connection) -> None:
    folder = Path(job.pop("folder"))
    if "method" in job:
        register_and_die(folder, **job)
    elif job["what"] == "open":
        answer.send(opened(folder, go))
    else:
        answer.send(race(folder, **job, go=go))


def main(jobs: list[dict[str, Any]]) -> list[tuple[int, str]]:
    # before the forks, not in each; so all that open a store begin at the same moment
    import mlflow.pyfunc
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    parts.candidates()
    fork = multiprocessing.get_context("fork")
    go = fork.Barrier(sum("what" in job for job in jobs) or 1)
    children = []
    for job in jobs:
        read, write = fork.Pipe(duplex=False)
        child = fork.Process(target=run, args=(job, go, write))
        child.start()
        write.close()
        children.append((child, read))
    results = []
    for child, read in children:
        try:
            output = read.recv()
        except EOFError:
            output = ""
        child.join(60)
        results.append((child.exitcode or 0, output))
    return results


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))))
