"""What a bundle costs to answer from: ONNX Runtime beside the family's own form.

    everfit bench onnx
    everfit bench onnx --set 'families=["hgb"]' --set categories=0 --set rows=100000

Each family is fitted with its default parameters on made-up rows and bundled. A process of its own
then loads the bundle in each form and is measured: microseconds of encoding columns of plain
values and of the model's answer, for one row and for a batch, on one thread; seconds to load, and
megabytes of the whole process after that. `export_s` is what bundling took longer for the form:
drawing it, and proving on rows that it answers alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CARDS = (3, 12, 40, 100, 250)  # different values of the category columns
BATCH = 100


def run(
    json_path: Path | None = None,
    *,
    families: Sequence[str] = ("logistic", "hgb", "forest", "mlp"),
    rows: int = 20_000,
    numbers: int = 20,
    categories: int = 5,
) -> list[dict[str, Any]]:
    """One line for each family, kind of table and form."""
    found = []
    for cards in [(), CARDS[:categories]] if categories else [()]:
        table = _table(rows, numbers, cards)
        for family in families:
            with tempfile.TemporaryDirectory(prefix="bench-onnx-") as home:
                bundle, seconds, apart = _bundled(table, family, Path(home) / "bundle")
                for form in ("native", "onnx"):
                    line: dict[str, Any] = {
                        "model": family,
                        "columns": f"{numbers}+{len(cards)}",
                        "form": form,
                    }
                    line |= _measured(bundle, form)
                    own = form == "native"
                    line |= {
                        "export_s": "" if own else round(seconds, 3),
                        "differs": "" if own else f"{apart:.0e}",
                    }
                    found.append(line)
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def _table(rows: int, numbers: int, cards: Sequence[int]) -> Any:
    """Numbers with gaps, and categories of a few frequent and many rare values."""
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(rows, numbers)), columns=[f"x{i}" for i in range(numbers)]
    )
    score = frame.iloc[:, :5].sum(axis=1).to_numpy()
    for j, card in enumerate(cards):
        codes = np.minimum(rng.geometric(min(0.9, 6 / card), rows), card)
        frame[f"c{j}"] = [f"v{code}" for code in codes]
        score = score + np.sin(codes * (j + 1.0))
    frame["x1"] = frame["x1"].mask(rng.random(rows) < 0.05)
    return frame.assign(y=(score + rng.normal(size=rows) > 0).astype(int))


def _bundled(table: Any, family: str, folder: Path) -> tuple[Path, float, float]:
    """(bundle, seconds that the ONNX form took, largest difference of a probability)."""
    from models import bundle
    from models.onnx import export
    from models.schema import Column, Schema
    from models.training import fit_bundle

    names = [str(name) for name in table.columns if name != "y"]
    columns = tuple(Column(name, "number" if name[0] == "x" else "category") for name in names)
    real, taken = export.export, []

    def timed(*given: Any) -> Any:
        began = time.perf_counter()
        try:
            return real(*given)
        finally:
            taken.append(time.perf_counter() - began)

    export.export = timed
    try:
        for _ in range(2):  # the first one imports onnx and ONNX Runtime
            fit_bundle(
                table, Schema(columns, "y", (0, 1)), {"family": family}, folder=folder, seed=0
            )
    finally:
        export.export = real
    note = bundle.Predictor.load(folder).info["onnx"]
    if note["runtime"] != "onnx":
        raise RuntimeError(f"{family} has no ONNX form: {note['reason']}")
    return folder, taken[-1], note["parity"]["difference"]


def _measured(bundle: Path, form: str) -> dict[str, Any]:
    """Figures from a process that does nothing else."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).absolute()), str(bundle), form],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def child(bundle: str, form: str) -> dict[str, float]:
    """What this process takes to load the bundle and answer from it."""
    began = time.perf_counter()
    from models.bundle import Predictor

    predictor = Predictor.load(bundle, native=form == "native")
    loaded = time.perf_counter() - began
    predictor.self_check()
    assert predictor.runtime == form
    figures = {"load_s": round(loaded, 2)}
    for n, label in ((1, "1"), (BATCH, str(BATCH))):
        columns = {name: (values * n)[:n] for name, values in predictor.example.items()}
        encoded = predictor.encoder.transform(columns)
        for what, call in (
            ("encode", lambda columns=columns: predictor.encoder.transform(columns)),
            ("answer", lambda encoded=encoded: predictor.predict_encoded(encoded)),
        ):
            figures[f"{what}_{label}_us"] = round(_microseconds(call), 1)
    figures["rss_mb"] = round(_resident())
    return figures


def _microseconds(call: Callable[[], object], *, turns: int = 9, seconds: float = 0.03) -> float:
    """CPU time of a call: the best of some turns, since other processes share the machine."""
    call()
    began = time.thread_time()
    call()
    count = max(1, int(seconds / max(time.thread_time() - began, 1e-6)))
    best = float("inf")
    for _ in range(turns):
        began = time.thread_time()
        for _ in range(count):
            call()
        best = min(best, (time.thread_time() - began) / count)
    return 1e6 * best


def _resident() -> float:
    """Megabytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.stdout.write(json.dumps(child(*sys.argv[1:3])))
