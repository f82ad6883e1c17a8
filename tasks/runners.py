"""Where trials run: on threads of this process, in processes of their own, on Ray or on Dask."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL

from models.records import Params, Trial
from models.search.fidelity import Judge
from tasks import fitting
from tasks.cluster.extras import lacking
from tasks.trials import Care, Start

if TYPE_CHECKING:
    from tasks.cluster.store import Store
    from tasks.config import Config
    from tasks.journal import Journal
    from tasks.records import Snapshot

log = logging.getLogger(__name__)


@contextmanager
def runner(
    config: Config, snapshot: Snapshot, journal: Journal, earlier: Sequence[Trial]
) -> Iterator[tuple[Start, Care | None]]:
    """What starts a trial where the config says, and what looks after it meanwhile.

    Called inside a flow. Raises ClusterFault when a node lacks what trials need.
    """
    from models.families.ready import ready

    job = fitting.Job.of(config, snapshot)
    if config.train.runner == "threads":
        ready(config.train.families, adapt=bool(config.train.adapt), served=job.careful)
        with fitting.encoded(job):
            yield on_threads(config, job, journal, earlier), None
        return
    from tasks.cluster.remote import Remote

    store, token = _opened(config, snapshot, job, earlier)
    importable = trainer_folder(config.train.trainer)
    given = {"retrain": str(snapshot.folder), "token": token, "importable": importable}
    with ExitStack() as stack:
        nodes = stack.enter_context(_nodes(config, given))
        remote = Remote(nodes, store, journal, config.train.seed, judged=config.train.judged)
        yield remote.start, remote
    store.close()


def on_threads(
    config: Config, job: fitting.Job, journal: Journal, earlier: Sequence[Trial]
) -> Start:
    """Trials as Prefect tasks, on threads of the flow's own task runner.

    Each is judged by those that had ended when it was asked for, which is when it is started.
    """
    judged = config.train.judged

    def start(
        params: Params, number: int, seconds: float, finished: Callable[[Trial], None]
    ) -> None:
        began = time.monotonic()
        judge = Judge(params, journal.trials, earlier) if judged else None

        def ended(future: Any) -> None:
            try:
                outcome = future.result()
            except BaseException as fault:  # of Prefect, or a task that was cancelled there
                error, spent = f"{type(fault).__name__}: {fault}", time.monotonic() - began
                seed = job.seed + number
                outcome = Trial(number, params, "failed", None, spent, seed, error=error)
            finished(outcome)

        trial.submit(job, params, number, seconds, judge).add_done_callback(ended)

    return start


@task(cache_policy=NO_CACHE, task_run_name="trial-{number}")
def trial(
    job: fitting.Job, params: Params, number: int, seconds: float, judge: Judge | None
) -> Trial:
    """Fit one configuration and score it, in this process."""
    return fitting.fit(job, params, number, seconds, judge)


def recovered(journal: Journal) -> list[Trial]:
    """Trials that nodes had finished when the search was killed, and it had not heard of."""
    from tasks.cluster.store import Store

    store = Store(journal.folder)
    lost = [number for number in journal.unended() if store.folder.exists()]
    return [found for number in lost if (found := store.result(number)) is not None]


def _opened(
    config: Config, snapshot: Snapshot, job: fitting.Job, earlier: Sequence[Trial]
) -> tuple[Store, str]:
    from tasks.cluster.store import Store

    store, token = Store(snapshot.folder), secrets.token_hex(8)
    store.open(job, token, earlier if config.train.judged else ())
    return store, token


@contextmanager
def _nodes(config: Config, given: Mapping[str, Any]) -> Iterator[Any]:
    """The nodes that the config names, each looked at first."""
    from tasks.cluster.store import ClusterFault

    train = config.train
    api = PREFECT_API_URL.value() or ""
    context = FlowRunContext.get()
    flow = "" if context is None or context.flow is None else context.flow.fn.__module__
    arguments = (given["retrain"], given["token"], flow, api, given["importable"], train.trainer)
    if fault := lacking(train.runner):
        raise ClusterFault(fault)
    if train.runner == "processes":
        from tasks.cluster.on_processes import Processes

        with Processes(train.parallel, given, flow) as processes:
            yield processes
    elif train.runner == "ray":
        from tasks.cluster.on_ray import nodes_probed, on_ray

        with on_ray(train.cluster, train.parallel, given) as nodes:
            _sound(*nodes_probed(arguments), train.parallel, Path(given["retrain"]))
            yield nodes
    else:
        from tasks.cluster.on_dask import on_dask, workers_probed

        with on_dask(train.cluster, train.parallel, given) as nodes:
            probed = workers_probed(nodes.client, arguments)
            _sound(*probed, train.parallel, Path(given["retrain"]))
            yield nodes


def _sound(
    lacks: Sequence[str],
    versions: Mapping[str, Mapping[str, str]],
    slots: int,
    parallel: int,
    retrain: Path,
) -> None:
    """Raises ClusterFault with all that any node lacks; warns of what only makes a difference."""
    from tasks.cluster.node import versions as ours
    from tasks.cluster.store import ClusterFault

    if lacks:
        raise ClusterFault("\n".join(dict.fromkeys(lacks)))
    if not list((retrain / "cluster").glob("seen-*.json")):
        raise ClusterFault(
            f"what nodes write to {retrain} must be seen here, and it is not: all nodes and this "
            "one must share that folder, for instance by NFS"
        )
    here = ours()
    for host, found in versions.items():
        other = [f"{name} {found[name]}" for name in here if found.get(name) != here[name]]
        if other:
            log.warning(
                "the node %s has %s, and here is %s: equal seeds may give other trials",
                host,
                ", ".join(other),
                ", ".join(f"{name} {here[name]}" for name in here if found.get(name) != here[name]),
            )
    if slots < parallel:
        log.warning(
            "train.parallel is %d, and the cluster runs %d trials at once: the rest waits there",
            parallel,
            slots,
        )


def trainer_folder(trainer: str | None) -> str:
    """The folder from which nodes can import the user's own trainer; '' for an installed one."""
    if trainer is None:
        return ""
    import importlib

    top = trainer.partition(":")[0].partition(".")[0]
    try:
        module = importlib.import_module(top)
    except ImportError:
        return ""
    path = Path(getattr(module, "__file__", None) or "")
    folder = path.parent.parent if path.name == "__init__.py" else path.parent
    installed_here = any(part in ("site-packages", "dist-packages") for part in folder.parts)
    return "" if installed_here or str(folder) not in map(_absolute, sys.path) else str(folder)


def _absolute(entry: str) -> str:
    return str(Path(entry or ".").resolve())
