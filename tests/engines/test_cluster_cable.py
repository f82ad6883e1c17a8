"""A node in a network of its own: its cable is cut, and its storage with it, while it works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tasks.cluster.extras import lacking
from tasks.cluster.store import Mark, Store
from tasks.config import load
from tasks.journal import recorded
from tests.engines import clusters, namespaces
from tests.engines.test_cluster import NOW, asked_again, trained

pytestmark = pytest.mark.timeout(400)


def test_a_node_whose_cable_is_cut_is_done_without(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason in (lacking("dask"), namespaces.unsupported()):
        if reason:
            pytest.skip(reason)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.tune import tune_only

    monkeypatch.setattr("tasks.cluster.remote.SILENT", 6.0)
    folder = tmp_path / "search"
    cut: dict[str, Mark] = {}
    with (
        namespaces.namespace() as net,
        clusters.prefect(net.here, tmp_path) as api,
        clusters.dask(1, net.here, {net.there: net.within}) as cluster,
    ):
        given = {
            "runner": "dask",
            "cluster": cluster.address,
            "parallel": 2,
            "trials": 8,
            "seconds": 600.0,
            **trained(tmp_path, "time.sleep(1.5)"),
        }
        config = load(tiny_config, **{f"train__{key}": value for key, value in given.items()})

        async def cutting() -> None:
            """While the node at the other end of the cable runs its second trial."""
            store, seen = Store(folder), set()
            while len(seen) < 2:
                for number in range(8):
                    mark = store.mark(number)
                    if mark is not None and net.there in mark.worker:
                        seen.add(number)
                        cut["mark"] = mark
                await asyncio.sleep(0.02)
            namespaces.hide(cut["mark"].pid, folder)
            net.cut()

        async def both() -> None:
            await asyncio.gather(tune_only(config, folder, NOW), cutting())

        with temporary_settings({PREFECT_API_URL: api}):
            asyncio.run(both())
    trials = recorded(folder)
    assert {t.status for t in trials} == {"complete"}, [t.error for t in trials]
    assert sorted(t.number for t in trials) == list(range(8))
    asked_again(folder, config)
