"""Runs whose process is gone and which the server still takes for running.

After `kill -9` of a runner, or a power cut, nobody tells the server: it would hold the run's place
in its queue for minutes or for ever. Whoever works the pool next looks whether the processes of
this machine live, and sets right what the server believes: a retrain goes on as the same run, from
what it had finished; of anything else the next one on the schedule does the work.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from monitoring.claims import owner_alive, process_owner

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

TRIES = 5  # of one run; what ends its process each time is no accident
_WORKER = "prefect.worker.name"  # the label that a worker gives a run
_PREFIX = "everfit-"


def worker_name() -> str:
    """This process as a worker: the name says by whom a run was taken, and whether that lives."""
    return _PREFIX + process_owner()


async def set_right(
    client: PrefectClient, deployments: Sequence[UUID], retrains: Sequence[UUID] = ()
) -> list[FlowRun]:
    """Set right what the server believes of lost runs of these deployments. Returns them."""
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import AwaitingRetry, Crashed

    if not deployments:
        return []
    wanted = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": list(deployments)},
            "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}},
        }
    )
    found = [
        run for run in await client.read_flow_runs(flow_run_filter=wanted, limit=200) if lost(run)
    ]
    for run in found:
        cancelling = run.state is not None and run.state.is_cancelling()
        again = run.deployment_id in retrains or run.run_count == 0  # it had not even begun
        if again and run.run_count < TRIES and not cancelling:
            told = AwaitingRetry(message="its process was lost: it goes on")
        else:
            told = Crashed(message="its process was lost")
        await client.set_flow_run_state(run.id, told, force=True)
    return found


def lost(run: FlowRun) -> bool:
    """Whether the run's process cannot live any more, as far as this machine can tell."""
    owner = str(run.labels.get(_WORKER, "")).removeprefix(_PREFIX)
    if owner.count(":") < 2 or owner.partition(":")[0] != socket.gethostname():
        return False  # a worker of another kind, or another machine: not ours to judge
    if run.infrastructure_pid and run.infrastructure_pid.isdigit():
        return not _runs(int(run.infrastructure_pid), run.id)
    return owner_alive(owner) is False  # nobody noted a process, and who would have is gone


def _runs(pid: int, run: UUID, proc: Path = Path("/proc")) -> bool:
    """Whether process `pid` lives and runs `run`; a process that cannot be looked into may."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        surroundings = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return True
    if stat.rpartition(")")[2].split()[0] in ("Z", "X"):
        return False
    return str(run).encode() in surroundings or not surroundings
