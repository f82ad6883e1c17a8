"""Trials on Dask: a scheduler that runs already, or one on this machine for as long as the search.

Dask sends a trial whose worker was lost to another one by itself; one that the scheduler takes for
the cause of several losses is not tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from tasks.cluster import node
from tasks.cluster.remote import Nodes
from tasks.cluster.store import ClusterFault, Mark

log = logging.getLogger(__name__)

_CONNECT = 15.0  # seconds for the scheduler to answer, and for its first worker to be there


class OnDask(Nodes):
    """Trials by Prefect's task runner for Dask."""

    def __init__(self, runner: Any, given: Mapping[str, Any], own: bool) -> None:
        self._runner, self._given, self._own = runner, given, own

    @property
    def client(self) -> Any:
        return self._runner.client

    def submit(self, number: int, attempt: int) -> Any:
        return self._runner.submit(
            node.trial, {**self._given, "number": number, "attempt": attempt}
        )

    def gone(self) -> str:
        if self.client.status == "running":
            return ""
        return (
            f"the Dask scheduler at {self._runner.address or 'this machine'} is gone, and what had "
            "finished is kept: start it again, and then the same retrain, which goes on from there"
        )

    def again(self, fault: BaseException) -> bool:
        from distributed.scheduler import KilledWorker

        return self._own or not isinstance(fault, KilledWorker)  # elsewhere Dask itself has tried

    def stop(self, future: Any, mark: Mark | None) -> None:
        """Forget the trial, and start its worker anew where it has no other to do: a thread cannot
        be ended."""
        with suppress(Exception):
            future.wrapped_future.cancel(force=True)
        if mark is not None and mark.worker:
            restart = threading.Thread(target=self._restart, args=(mark.worker,), daemon=True)
            restart.start()

    def _restart(self, worker: str) -> None:
        try:
            known = self.client.scheduler_info(n_workers=-1)["workers"].get(worker)
            if known is not None and known["nthreads"] == 1 and known.get("nanny"):
                self.client.restart_workers([worker], timeout=_CONNECT, raise_for_error=False)
        except Exception:
            log.warning("the Dask worker %s was not started anew", worker, exc_info=True)


@contextmanager
def on_dask(address: str | None, count: int, given: Mapping[str, Any]) -> Iterator[OnDask]:
    """Connect, or start `count` processes here. Raises ClusterFault when nothing answers."""
    import dask
    import distributed
    from prefect_dask import DaskTaskRunner

    client = {"timeout": _CONNECT}
    local = {
        "n_workers": count,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "memory_limit": 0,  # a share of the memory each would stop trials that fit well
        "silence_logs": logging.ERROR,
    }
    # one whose worker dies is ours to try again
    settings = {"distributed.scheduler.allowed-failures": 0} if address is None else {}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        runner = (
            DaskTaskRunner(cluster_kwargs=local, client_kwargs=client)
            if address is None
            else DaskTaskRunner(address=address, client_kwargs=client)
        )
        stack.enter_context(runner)
        try:
            runner.client.wait_for_workers(1, timeout=_CONNECT)
        except (OSError, TimeoutError, distributed.TimeoutError, ValueError) as fault:
            raise ClusterFault(
                f"train.cluster names a Dask scheduler that runs and has a worker, and "
                f"{address or 'one here'} does not answer: {fault}: start them with "
                "`dask scheduler` and `dask worker`, or leave train.cluster out"
            ) from None
        yield OnDask(runner, given, own=address is None)


def workers_probed(
    client: Any, arguments: tuple[Any, ...]
) -> tuple[list[str], dict[str, dict[str, str]], int]:
    """Of each worker what it lacks; its versions by address; how many trials run at once."""
    told = client.run(node.probe, *arguments, on_error="return")
    lacks: list[str] = []
    for worker, lack in told.items():
        if isinstance(lack, BaseException):
            lacks.append(
                f"every node runs this version of everfit, and {worker} cannot: {lack!r}: install "
                "it there, in the environment that the worker was started from"
            )
        else:
            lacks += lack
    versions = {} if lacks else dict(client.run(node.versions))
    return list(dict.fromkeys(lacks)), versions, sum(client.nthreads().values())
