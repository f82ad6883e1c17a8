"""`everfit export`: a registered version becomes a folder, proven on the rows that were asked."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments import cli
from monitoring.records import Prediction
from tasks import exporting, lineage, places
from tasks.config import load
from tests import registry_parts as parts

CONFIG = """\
name: flights
data:
  source: flights.csv
  target: late
  columns: {wind: number, carrier: category}
  classes: [on time, late]
train: {families: [logistic]}
"""


def run(*arguments: object):
    return CliRunner().invoke(cli.main, ["export", *map(str, arguments)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A config whose registry has versions 1 and 2, of which 1 is the champion."""
    parts.rows().to_csv(tmp_path / "flights.csv", index=False)
    place = tmp_path / "flights.yaml"
    place.write_text(CONFIG, encoding="utf-8")
    config = load(place)
    parts.tables(config.folder)
    registry = places.registry(config)
    first, _ = (parts.register(registry, number) for number in (0, 1))
    parts.promote(registry, first, None)
    return place


def asked(path: Path, rows: int) -> None:
    now = datetime(2024, 5, 1, tzinfo=UTC)
    with places.telemetry(load(path)) as store:
        store.record(
            Prediction(
                id=f"p{n}",
                time=now + timedelta(minutes=n),
                version="1",
                features={"wind": n / 7, "carrier": ("EV", None, "new")[n % 3]},
                probabilities=(0.5, 0.5),
                latency_ms=1.0,
            )
            for n in range(rows)
        )


def test_the_champion_is_exported_and_proven_on_what_was_asked(path: Path, tmp_path: Path) -> None:
    asked(path, 50)
    done = run(path, tmp_path / "edge")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("version 1 of flights (logistic) as onnx in ")
    assert "asked for 50 recorded rows and 50 beside them, in batches of 1, 2, 33" in done.output
    script = subprocess.run(
        [sys.executable, "-I", tmp_path / "edge" / "predict.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    info = json.loads((tmp_path / "edge" / "edge.json").read_text(encoding="utf-8"))
    assert json.loads(script.stdout) == info["answers"]
    assert run(path, tmp_path / "edge", "--version", 2).output.startswith("version 2 of flights")


def test_what_is_never_stored_is_in_no_example(path: Path, tmp_path: Path) -> None:
    path.write_text(f"{CONFIG}telemetry: {{never_store: [carrier]}}\n", encoding="utf-8")
    done = run(path, tmp_path / "edge")
    assert done.exit_code == 0, done.output
    info = json.loads((tmp_path / "edge" / "edge.json").read_text(encoding="utf-8"))
    assert [row["carrier"] for row in info["example"]] == [None, None, None]
    assert any(row["wind"] is not None for row in info["example"])


def test_rows_that_were_not_stored_are_not_proven_on(path: Path) -> None:
    config = load(path)
    release = places.registry(config).champion()
    assert exporting.recorded(config, release) == []
    asked(path, 4)
    rows = exporting.recorded(config, release)
    assert [row["carrier"] for row in rows] == ["EV", None, "new", "EV"]
    wider = config.model_copy(
        update={"data": config.data.model_copy(update={"columns": {"gust": "number"}})}
    )
    assert exporting.recorded(wider, release) == []


def test_a_version_whose_rows_were_kept_without_a_column_is_proven_on_the_others(
    path: Path, tmp_path: Path
) -> None:
    kept = tmp_path / lineage.REFERENCE
    parts.rows(30).drop(columns="carrier").to_parquet(kept)
    registry = places.registry(load(path))
    release = registry.version(parts.register(registry, 2, files={lineage.REFERENCE: kept}))
    assert exporting.recorded(load(path), release) == []  # the column may be stored
    config = load(path, telemetry__never_store=["carrier"])
    rows = exporting.recorded(config, release)
    assert len(rows) == 30
    assert {row["carrier"] for row in rows} == {None}
    assert rows[0]["wind"] is not None


def test_what_cannot_be_exported_says_why(path: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--version", "9"], "has no version '9'"),
        (["--to", "int8"], "no layer of 256 or more weights"),
        (["--tolerance", "0"], "may differ by 0 in a probability, got "),
    ):
        done = run(path, tmp_path / "edge", *arguments)
        assert done.exit_code == 1
        assert message in done.output
        assert not (tmp_path / "edge").exists()
