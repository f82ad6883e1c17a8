"""Trials on Ray: a cluster that runs already, or one on this machine for as long as the search."""

from __future__ import annotations

import functools
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from tasks.cluster import node
from tasks.cluster.remote import Nodes
from tasks.cluster.store import ClusterFault, Mark

log = logging.getLogger(__name__)

_STORE = 80_000_000  # bytes of Ray's object store, which carries numbers here; its least
_WAIT = 60.0  # seconds for a node to say what it sees

# A Ray of our own: on loopback alone, behind a token that is made up for it, and without reports.
_OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: bind to loopback
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
}


@functools.cache
def own_token() -> str:
    """One for the process, since Ray reads it once."""
    return secrets.token_hex(32)


class OnRay(Nodes):
    """Trials by Prefect's task runner for Ray, which tries nothing again by itself."""

    def __init__(self, runner: Any, given: Mapping[str, Any]) -> None:
        self._runner, self._given = runner, given

    def submit(self, number: int, attempt: int) -> Any:
        from prefect_ray.context import remote_options

        with remote_options(max_retries=0, num_cpus=1):
            parameters = {**self._given, "number": number, "attempt": attempt}
            return self._runner.submit(node.trial, parameters)

    def stop(self, future: Any, mark: Mark | None) -> None:  # noqa: ARG002 - Ray knows its own
        import ray

        with suppress(Exception):  # gone with its node, or ended
            ray.cancel(future.wrapped_future, force=True)


@contextmanager
def on_ray(address: str | None, count: int, given: Mapping[str, Any]) -> Iterator[OnRay]:
    """Connect, or start `count` processes here. Raises ClusterFault when nothing answers."""
    with ExitStack() as stack:
        options: dict[str, Any] = {
            "namespace": "everfit",
            "log_to_driver": False,
            "logging_level": logging.WARNING,
        }
        if address is None:
            stack.enter_context(_environment({**_OWN, "RAY_AUTH_TOKEN": own_token()}))
            folder = tempfile.mkdtemp(prefix="everfit-ray-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            options |= {
                "address": "local",
                "num_cpus": count,
                "include_dashboard": False,
                "object_store_memory": _STORE,
                "_temp_dir": folder,
            }
        import ray
        from prefect_ray import RayTaskRunner

        runner = RayTaskRunner(address=address, init_kwargs=options)
        try:
            runner.__enter__()
        except (ConnectionError, RuntimeError, TimeoutError, ValueError) as fault:
            raise ClusterFault(
                f"train.cluster names a Ray that runs, and {address or 'one here'} does not "
                f"answer: {fault}: start it with `ray start --head`, or leave train.cluster out"
            ) from None
        stack.callback(ray.shutdown)  # Prefect's runner leaves a remote one connected
        yield OnRay(runner, given)


def nodes_probed(arguments: tuple[Any, ...]) -> tuple[list[str], dict[str, dict[str, str]], int]:
    """Of each node what it lacks; its versions by address; how many trials run at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [found for found in ray.nodes() if found["Alive"] and found["Resources"].get("CPU")]
    asked: dict[str, Any] = {}
    for found in alive:
        place = NodeAffinitySchedulingStrategy(found["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": place}
        probe = ray.remote(**options)(_probe)
        asked[found["NodeManagerAddress"]] = probe.remote(arguments)
    lacks: list[str] = []
    versions: dict[str, dict[str, str]] = {}
    for host, told in asked.items():
        try:
            lack, versions[host] = ray.get(told, timeout=_WAIT)
            lacks += lack
        except Exception as fault:
            lacks.append(
                f"every node runs this version of everfit, and {host} cannot: {_last(fault)}: "
                "install it there, in the environment that Ray was started from"
            )
    slots = int(ray.cluster_resources().get("CPU", 0))
    if not lacks:  # each process that is to run trials: as many at once as there will be
        options = {"num_cpus": 1, "max_retries": 0}
        warm = [ray.remote(**options)(node.ready).remote(*arguments[:3]) for _ in range(slots)]
        ray.wait(warm, num_returns=len(warm), timeout=_WAIT)
    return lacks, versions, slots


def _probe(arguments: tuple[Any, ...]) -> tuple[list[str], dict[str, str]]:
    return node.probe(*arguments), node.versions()


def _last(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[-1]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set while the block runs, except for what the user has set."""
    before = dict(os.environ)
    for name, value in values.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name in values:
            if name not in before:
                os.environ.pop(name, None)
