"""The same rows by every protocol, through clients of others; what they say beside MLflow's server.

    everfit bench protocols
    everfit bench protocols --set seconds=5 --set workers=1

Two models as in `everfit bench openapi`, each served by `everfit serve` with gRPC and two workers,
and by `mlflow models serve`. Clients: MLflow's own, Triton's over HTTP (tensors in JSON and as
bytes) and over gRPC. One connection asks again and again, so the figures are the client's as much
as the server's. `difference` is the largest one of a probability to what MLflow's server says to
the same rows; labels must be the same, or it fails.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks.protocols.served import MODELS, frame, prepare, served

Said = tuple[list[Any], np.ndarray]  # labels (n,) and the last class's probability (n,)
Ask = Callable[[], Said]


def run(
    json_path: Path | None = None, *, seconds: float = 2.0, workers: int = 2
) -> list[dict[str, Any]]:
    """One row for each model, number of rows in a request, and client."""
    from deployments.processes import free_port

    rows = []
    for name, (columns, classes) in MODELS.items():
        with tempfile.TemporaryDirectory(prefix="bench-protocols-") as folder, ExitStack() as stack:
            home, port = Path(folder), free_port()
            config = prepare(home, columns, classes, workers=workers, grpc_port=port)
            theirs = stack.enter_context(_mlflow(home))
            ours = stack.enter_context(served(config, home))
            for count in (1, 100):
                table = frame(columns, count, 1)
                asks = stack.enter_context(_clients(table, classes, theirs, ours, port))
                expected = None
                for client, ask in asks.items():
                    labels, shares = ask()
                    expected = expected or (labels, shares)
                    if labels != expected[0]:
                        raise RuntimeError(f"{client} says {labels}, MLflow's server {expected[0]}")
                    difference = float(np.abs(shares - expected[1]).max())
                    measured = _measured(ask, seconds)
                    rows.append(
                        {"model": name, "rows": count, "client": client}
                        | measured
                        | {"difference": difference}
                    )
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _measured(ask: Ask, seconds: float) -> dict[str, float]:
    times = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        ask()
        times.append(time.perf_counter() - begun)
    p50, p99 = np.percentile(np.array(times) * 1000, [50, 99])
    return {"requests/s": len(times) / sum(times), "p50 ms": float(p50), "p99 ms": float(p99)}


@contextmanager
def _mlflow(home: Path) -> Iterator[str]:
    """`mlflow models serve` on the registered model."""
    from deployments import environment
    from deployments.processes import free_port, running

    (marker,) = home.rglob("MLmodel")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(marker.parent)]
    command += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
    binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    url = f"http://127.0.0.1:{port}"
    with running(
        "mlflow",
        command,
        url=url,
        health="/ping",
        log=home / "mlflow.log",
        env=environment.child() | {"PATH": binaries},  # it calls uvicorn by name
    ):
        yield url


@contextmanager
def _clients(
    table: Any, classes: tuple[Any, ...], theirs: str, ours: str, grpc_port: int
) -> Iterator[dict[str, Ask]]:
    """The clients by name; MLflow's own server comes first."""
    import httpx
    import tritonclient.grpc
    import tritonclient.http
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient  # a client, to ask with

    last = f"probability_{classes[-1]}"

    def mlflow(url: str) -> Ask:
        client = ScoringServerClient("127.0.0.1", urlsplit(url).port)

        def ask() -> Said:
            found = client.invoke(table).get_predictions()
            return found["label"].tolist(), found[last].to_numpy()

        return ask

    def csv(client: httpx.Client) -> Ask:
        body = table.to_csv(index=False).encode()

        def ask() -> Said:
            answer = client.post("/invocations", content=body, headers={"content-type": "text/csv"})
            found = answer.raise_for_status().json()["predictions"]
            return [row["label"] for row in found], np.array([row[last] for row in found])

        return ask

    def triton(module: Any, client: Any, **options: Any) -> Ask:
        inputs = []
        for name in table:
            number = table[name].dtype.kind == "f"
            values = table[name].to_numpy() if number else table[name].to_numpy(dtype=object)
            made = module.InferInput(name, [len(table)], "FP64" if number else "BYTES")
            inputs.append(made.set_data_from_numpy(values, **options))
        names = ("label", last)
        outputs = [module.InferRequestedOutput(name, **options) for name in names]

        def ask() -> Said:
            found = client.infer("described", inputs, outputs=outputs)
            labels = found.as_numpy("label").tolist()
            plain = [value.decode() if isinstance(value, bytes) else value for value in labels]
            return plain, found.as_numpy(last)

        return ask

    http, grpc = tritonclient.http, tritonclient.grpc
    with (
        httpx.Client(base_url=ours, timeout=20) as plain,
        http.InferenceServerClient(urlsplit(ours).netloc) as over_http,
        grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as over_grpc,
    ):
        yield {
            "MLflow's, asking mlflow models serve": mlflow(theirs),
            "MLflow's": mlflow(ours),
            "CSV over HTTP": csv(plain),
            "Triton's over HTTP, JSON": triton(http, over_http, binary_data=False),
            "Triton's over HTTP, bytes": triton(http, over_http, binary_data=True),
            "Triton's over gRPC": triton(grpc, over_grpc),
        }
