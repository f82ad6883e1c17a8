"""Fit the pipelines' table: `python -m tests.benchmarks.tuner.build_pipelines [DATASET ...]`.

Deterministic, and resumable: what is fitted of a data set and a family lies in --work, and is not
fitted again. The table is written once every data set is there. One thread is meant, so set
OMP_NUM_THREADS=1; it takes about 20 minutes.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from models.records import Params, Scalar
from tests.benchmarks.tuner.pipelines import NAMES, TABLE, Key, digest, key, walked
from tests.benchmarks.tuner.pipelines_data import ROWS, Table, prepared, table
from tests.benchmarks.tuner.pipelines_fits import fits, log_loss
from tests.benchmarks.tuner.pipelines_space import FAMILIES, SPACE, own

WORK = Path("runs/bench/pipelines")
CHEAP = ("bayes", "lda", "knn", "tree", "logistic", "extra", "forest", "svm", "boosting", "mlp")
DATASETS = tuple(name.partition("-")[2] for name in NAMES)


def preparations(family: str) -> list[dict[str, Scalar]]:
    """Every preprocessing of a family, as the parameters that choose it."""
    names = {p.name for p in own(family)}
    found: dict[Key, dict[str, Scalar]] = {}
    for params in SPACE.configurations():
        if params["family"] == family:
            outer = {k: v for k, v in params.items() if k not in names}
            found[key(outer)] = outer
    return list(found.values())


def scores(family: str, data: Table, outer: Params) -> list[tuple[dict[str, Scalar], float]]:
    """Own parameters and loss of a family's whole grid after one preprocessing."""
    train, judge = prepared(data, outer)
    return [(own, log_loss(data.truth, p)) for own, p in fits(family, train, data.y, judge)]


def fit_family(family: str, data: Table) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places in the space's order and losses of one family's configurations.

    Preprocessings that leave the same inputs (of a table without numbers, every scaling does) are
    fitted once.
    """
    places, _ = walked(SPACE)
    known: dict[str, list[tuple[dict[str, Scalar], float]]] = {}
    at: list[int] = []
    losses: list[float] = []
    for outer in preparations(family):
        same = _seen(prepared(data, outer))
        if same not in known:
            known[same] = scores(family, data, outer)
        for own_params, loss in known[same]:
            at.append(places[key({**outer, **own_params})])
            losses.append(loss)
    return np.array(at), np.array(losses, dtype=np.float32)


def _seen(inputs: tuple[NDArray[np.float64], NDArray[np.float64]]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in inputs)).hexdigest()


def write(work: Path, out: Path) -> None:
    """The table of what lies in `work`: every data set, every configuration."""
    places, _ = walked(SPACE)
    columns: dict[str, NDArray[np.float32]] = {}
    for name in DATASETS:
        losses = np.full(len(places), np.nan, dtype=np.float32)
        filled = np.zeros(len(places), dtype=bool)
        for family in FAMILIES:
            with np.load(part(work, name, family)) as file:
                losses[file["at"]], filled[file["at"]] = file["losses"], True
        assert filled.all(), f"{name}: {(~filled).sum()} configurations were not fitted"
        columns[name] = losses
    np.savez_compressed(out, space=np.array(digest(SPACE)), **columns)


def part(work: Path, name: str, family: str) -> Path:
    return work / digest(SPACE) / f"{name}-{family}.npz"


@click.command(help=__doc__)
@click.argument("datasets", nargs=-1, type=click.Choice(tuple(ROWS)))
@click.option("--work", default=WORK, show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=TABLE, type=click.Path(path_type=Path, dir_okay=False))
def main(datasets: tuple[str, ...], work: Path, out: Path) -> None:
    warnings.filterwarnings("ignore")  # of fits that did not converge: their score says it
    for family in CHEAP:
        for name in datasets or DATASETS:
            path = part(work, name, family)
            if path.exists():
                continue
            began = time.process_time()
            at, losses = fit_family(family, table(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".part.npz")
            np.savez(fresh, at=at, losses=losses)
            fresh.replace(path)
            click.echo(
                f"{name} {family}: {len(at)} configurations, best {np.nanmin(losses):.4f}, median "
                f"{np.nanmedian(losses):.4f}, {np.isnan(losses).sum()} failed, "
                f"{time.process_time() - began:.0f} s"
            )
    if all(part(work, name, family).exists() for name in DATASETS for family in FAMILIES):
        write(work, out)
        click.echo(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
