"""`everfit transfer`: domains of a table and of texts, with labels and without, and its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from deployments.cli import main
from models.registry import Registry
from tasks import lineage, places
from tasks.config import load
from tasks.records import Tuned
from tests import registry_parts as parts

CONFIG = """\
name: trips
data:
  source: trips.csv
  target: late
  columns: {hour: number, wind: number, carrier: category}
  classes: [on time, late]
train:
  families: [logistic]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 900
    coast = np.arange(n) >= 450
    wind = rng.gamma(3.0, 3.0, n) + 8 * coast
    hour = rng.integers(5, 23, n)
    late = rng.random(n) < 1 / (1 + np.exp(-(0.25 * (hour - 14) + 0.3 * (wind - 12))))
    pd.DataFrame(
        {
            "place": np.where(coast, "coast", "inland"),
            "hour": hour,
            "wind": wind.round(2),
            "carrier": rng.choice(["AA", "UA"], n),
            "late": np.where(late, "late", "on time"),
        }
    ).to_csv(tmp_path / "trips.csv", index=False)
    (tmp_path / "trips.yaml").write_text(CONFIG)
    return tmp_path / "trips.yaml"


def run(*args: object):
    return CliRunner().invoke(main, ["transfer", *map(str, args)])


def test_a_labelled_target_is_measured_adapted_to_and_shown(config, tmp_path) -> None:
    out = tmp_path / "out"
    found = run(config, "--source", "inland", "--target", "coast", "--out", out, "--way", "weights")
    assert found.exit_code == 0, found.output
    assert "450 source rows (450 labelled), 450 target rows (450 labelled), values of place" in (
        found.output
    )
    assert "adapted by weights" in found.output
    assert "of the target's labels" in found.output
    assert "advice: " in found.output
    record = json.loads((out / "transfer.json").read_text())
    assert record["apart"]["mmd_p"] == 0.001
    assert record["apart"]["tell"][0][0] == "wind"
    assert record["off"] == pytest.approx(
        record["foretold"]["accuracy"]["value"] - record["target"]["value"]
    )
    assert record["drop"]["value"] == pytest.approx(
        record["source"]["value"] - record["target"]["value"]
    )
    assert (out / "transfer.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "transfer.html").read_text()
    assert "trips: from inland to coast" in page
    assert "data:image/png;base64," in page
    assert not (config.parent / "runs").exists()  # no registry, no store: nothing was changed


def test_a_file_without_labels_is_foretold_alone(config, tmp_path) -> None:
    frame = pd.read_csv(tmp_path / "trips.csv")
    frame[frame["place"] == "coast"].drop(columns=["late"]).to_csv(
        tmp_path / "new.csv", index=False
    )
    new = tmp_path / "new.csv"
    args = (config, "--source", "inland", "--target", new, "--way", "weights", "--json")
    found = run(*args, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    record = json.loads(found.stdout)
    assert record["sides"] == ["inland", "new.csv"]
    assert record["labelled"] == [450, 0]
    assert record["target"] is record["off"] is record["drop"] is None
    assert record["foretold"]["accuracy"]["low"] < record["foretold"]["accuracy"]["high"]
    assert "cannot be seen without labels" in record["blind"]


def test_a_few_labels_measure_and_teach_nothing(config, tmp_path) -> None:
    frame = pd.read_csv(tmp_path / "trips.csv")
    frame = frame[frame["place"] == "coast"]
    frame.loc[frame.index[55:], "late"] = None
    frame.to_csv(tmp_path / "new.csv", index=False)
    args = (config, "--source", "inland", "--target", tmp_path / "new.csv", "--way", "self")
    found = run(*args, "--json", "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    record = json.loads(found.stdout)
    assert record["labelled"] == [450, 55]
    assert record["own"] is None  # it would have learnt the rows that it is scored on
    assert record["target"]["high"] - record["target"]["low"] > 0.15  # of 55 rows
    assert record["adapted"][0]["gain"]["low"] < record["adapted"][0]["gain"]["high"]


def test_texts_are_told_apart_by_their_words(tmp_path) -> None:
    rng = np.random.default_rng(0)
    words = {"films": ["plot", "scene", "actor"], "phones": ["battery", "screen", "signal"]}
    rows = []
    for kind, own in words.items():
        for i in range(150):
            mood = ["good", "great"] if i % 2 else ["bad", "awful"]
            text = [*rng.choice(own, 3), *rng.choice(mood, 1), *rng.choice(["it", "was"], 1)]
            rows.append({"kind": kind, "body": " ".join(text), "liked": int(i % 2)})
    pd.DataFrame(rows).to_csv(tmp_path / "reviews.csv", index=False)
    (tmp_path / "reviews.yaml").write_text(
        "name: reviews\ntask: text\n"
        "data: {source: reviews.csv, target: liked, columns: {body: text}, classes: [0, 1]}\n"
        "train: {families: [tfidf]}\n"
    )
    found = run(
        tmp_path / "reviews.yaml", "--source", "films", "--target", "phones", "--way", "self",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert set(record["telling"][0]) == set(words["films"])
    assert record["apart"]["a_distance"] > 1.8
    assert record["target"]["value"] > 0.9  # moods are said alike in both
    assert record["advice"]["action"] == "serve"


def test_the_champion_s_parameters_are_what_is_studied(tmp_path) -> None:
    """Its way to adapt is left out: the study tries each way against the plain model."""
    rows = parts.rows(400).assign(place=np.repeat(["inland", "coast"], 200))
    rows.to_csv(tmp_path / "flights.csv", index=False)
    (tmp_path / "flights.yaml").write_text(
        "name: flights\ndata: {source: flights.csv, target: late, classes: [on time, late], "
        "columns: {wind: number, carrier: category}}\ntrain: {families: [hgb]}\n"
    )
    config = load(tmp_path / "flights.yaml")
    parts.tables(config.folder)
    registry = places.registry(config)
    first, second = (champion(registry, tmp_path, number) for number in (0, 1))
    parts.promote(registry, first, None)
    parts.promote(registry, second, first)
    args = (tmp_path / "flights.yaml", "--source", "inland", "--target", "coast", "--way", "coral")
    found = run(*args, "--json", "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    record = json.loads(found.stdout)
    assert record["params_from"] == f"the champion's, v{second}"
    plain = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}
    assert record["params"] == plain
    coral = {"logistic.adapt": "coral", "logistic.adapt_strength": 0.5}
    assert record["adapted"][0]["params"] == {**plain, **coral}
    page = (tmp_path / "out" / "transfer.html").read_text()
    assert f"parameters: the champion&#39;s, v{second} (logistic)" in page
    assert registry.champion().version == second  # nothing was changed


def champion(registry: Registry, folder: Path, number: int) -> str:
    """Register bundle `number` with a lineage, as a retrain that chose to adapt does."""
    made = parts.candidates()[number]
    way = {"logistic.adapt": "weights", "logistic.adapt_strength": 0.7}
    candidate = replace(made, params={**made.params, **way})
    tuned = Tuned(candidate.params, loss=0.4, trials=1, failed=0, seconds=1.0, stopped="")
    note = lineage.write(
        folder / f"lineage{number}.json", f"w{number}", parts.NOW,
        tuned=tuned, candidate=candidate, verdict=parts.verdict(), opponent=None,
    )  # fmt: skip
    return parts.register(registry, number, files={lineage.LINEAGE: note})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--source", "inland", "--target", "cost"), "name the column with --by, one of place"),
        (("--source", "inland", "--target", "cost", "--by", "place"), "did you mean 'coast'?"),
        (("--source", "inland", "--target", "coast", "--by", "plac"), "did you mean 'place'?"),
        (("--source", "inland", "--target", "new.csv"), "no such file"),
    ],
)
def test_domains_that_are_not_there_are_faults_with_a_remedy(config, args, message) -> None:
    found = run(config, *args)
    assert found.exit_code == 1
    assert message in found.output
