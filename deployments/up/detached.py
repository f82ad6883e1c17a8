"""`everfit up --detach`: the same in the background, until `everfit down`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from deployments import environment
from deployments.processes import StackFault, last_words
from deployments.stack import python
from deployments.up.place import Place
from deployments.up.plan import Model, Wishes

_TICK = 0.2


def start(
    place: Place, models: Sequence[Model], wishes: Wishes, echo: Callable[[str], None]
) -> None:
    """Start it and wait until everything is healthy. Raises StackFault when that fails."""
    log = place.logs / "detached.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [*python("deployments"), *arguments(place, models, wishes)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment.child(),
            start_new_session=True,
        )
    try:
        state = _until_ready(place, process)
    except KeyboardInterrupt:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if state is None:
        raise StackFault(f"it ended with code {process.returncode}; {last_words(log, 20)}")
    for part in state["parts"]:
        echo(f"{part['part']:<12} {part['page']}")
    names = " ".join(str(m.path) for m in models)
    echo(f"runs as process {process.pid}: `everfit status {names}`, `everfit down {names}`")


def arguments(place: Place, models: Sequence[Model], wishes: Wishes) -> list[str]:
    """The command that does in the foreground what was asked for in the background."""
    flags = ["up", *(str(m.path) for m in models), "--silent"]
    if place.prefect.parent == place.folder:  # else it is the one model's own
        flags += ["--home", str(place.folder)]
    for name in ("prefect_port", "mlflow_port", "evidently_port", "postgres"):
        if (value := getattr(wishes, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    if not wishes.mlflow:
        flags.append("--no-mlflow")
    return flags + [f"--{name}" for name in ("evidently", "train") if getattr(wishes, name)]


def _until_ready(place: Place, process: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]
    while process.poll() is None:
        state = place.read()
        if state.get("pid") == process.pid and state.get("phase") == "running":
            return state
        time.sleep(_TICK)
    return None
