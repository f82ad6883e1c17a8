"""Rounds over real models with a real Prefect server, in a process of their own: prints JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from deployments import environment


def main(folder: Path) -> None:
    environment.prepare()
    from deployments.stack import prefect_server
    from tests.benchmarks.scale import herd

    with prefect_server(folder / "prefect"):
        from prefect.client.orchestration import get_client

        from deployments.rounds import flow
        from deployments.rounds.pool import Limits

        first = herd.first(folder, 300, 3)
        configs = [str(path) for path in herd.copies(first, 3)]
        (folder / "runs" / herd.name_of(1) / "telemetry.db").write_bytes(b"no database" * 1_000)
        place, told, ends = folder / "book.json", [], []

        def crashed(run: str, why: str) -> None:
            told.append(run)
            flow.tell_prefect(run, why)

        rounds = []
        for limits, skip in ((Limits(), True), (Limits(), True), (Limits(seconds=0.2), False)):
            made = flow.checked(
                configs, place, act=True, limits=limits, skip=skip, crashed=crashed,
                ended=ends.append,
            )  # fmt: skip
            rounds.append({"did": dict(made.did), "faults": made.faults})
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs()
            states = {run: client.read_flow_run(UUID(run)).state.name for run in told}
    checks = [run for run in runs if run.name.startswith("watch-scale-0")]
    print(  # noqa: T201 - what this script is for
        json.dumps(
            {
                "rounds": rounds,
                "states": states,
                "runs": Counter(f"{run.name} {run.state_name}" for run in checks),
                "tags": sorted({tag for run in checks for tag in run.tags}),
                "warm": [asdict(end)["cpu_seconds"] for end in ends if not end.fault],
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
