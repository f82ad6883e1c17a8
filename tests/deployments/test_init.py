"""`init` writes a config that `check` finds sound; `check` finds what is wrong with any other."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import pytest
import yaml

from deployments.check import check
from deployments.init import write_config
from models.errors import DataFault
from tasks.config import ConfigFault, load


@pytest.fixture
def table(tmp_path, small_frame):
    small_frame.insert(0, "flight_id", np.arange(len(small_frame)))
    path = tmp_path / "flights.csv"
    small_frame.to_csv(path, index=False)
    return path


@pytest.fixture
def edited(tmp_path, table):
    """A function that writes the inferred config with some of its values changed."""
    path, _ = write_config("late", table, "late", "due", output=tmp_path / "late.yaml")
    raw = yaml.safe_load(path.read_text())

    def edit(**sections):
        for name, value in sections.items():
            raw[name] = {**(raw.get(name) or {}), **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(raw))
        return path

    return edit


@pytest.mark.parametrize("time", ["due", None])
def test_what_init_writes_is_sound_and_says_what_it_found(tmp_path, table, time):
    path, notes = write_config("late", table, "late", time, output=tmp_path / "deep" / "late.yaml")
    report = check(path)
    assert report.faults == ()
    assert "is sound" in str(report)
    assert "600 rows" in str(report)
    assert any(note.startswith("flight_id: left out") for note in notes)
    config = load(path)
    assert config.data.columns == {
        "carrier": "category",
        "hour": "number",
        "wind": "number",
        "visibility": "number",
    }
    assert config.data.time == time
    assert not config.data.source.is_relative_to(path.parent)
    assert yaml.safe_load(path.read_text())["data"]["source"] == "../flights.csv"
    assert config.folder == path.parent / "runs" / "late"
    # a fifth of 600 rows can be held back, so the gate asks for no more than that
    assert config.gate.minimum_rows <= config.gate.rows <= 120


def test_every_section_is_there_and_every_line_of_it_explained(tmp_path, table):
    path, _ = write_config("late", table, "late", "due", output=tmp_path / "late.yaml")
    text = path.read_text()
    sections = ("data", "train", "monitor", "policy", "gate", "rollout", "serving", "schedule")
    for section in sections:
        assert f"\n{section}:" in text
    for shown in ("# hgb.learning_rate: {low: 0.01,", "# trainer: mine:trainer", "label_delay: 0s"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 100
    assert 70 <= len(text.splitlines()) <= 220


def test_a_key_that_is_commented_out_shows_its_default(tmp_path, table):
    path, _ = write_config("late", table, "late", "due", output=tmp_path / "late.yaml")
    text = path.read_text()
    config = load(path)
    for section in ("monitor", "policy", "gate", "rollout", "serving", "telemetry", "engines"):
        given = getattr(config, section)
        names = {field.name for field in fields(given)} if is_dataclass(given) else set(dict(given))
        body = text.split(f"\n{section}:")[1].split("\n\n")[0]
        shown = {
            key: yaml.safe_load(value.split("  #")[0].strip() or "null")
            for key, value in re.findall(r"^  # (\w+):(?: (.*))?$", body, re.M)
        }
        written = set(yaml.safe_load(text)[section] or ())
        assert names <= shown.keys() | written, section  # every option is told
        uncommented = yaml.safe_load(text)
        uncommented[section] = {**(uncommented[section] or {}), **shown}
        other = tmp_path / f"{section}.yaml"
        other.write_text(yaml.safe_dump(uncommented))
        assert getattr(load(other), section) == given


def test_a_commented_range_is_valid_when_uncommented(tmp_path, table):
    path, _ = write_config("late", table, "late", "due", output=tmp_path / "late.yaml")
    text = (
        path.read_text()
        .replace("    # logistic.", "    logistic.")
        .replace("    # hgb.", "    hgb.")
    )
    path.write_text(text)
    assert check(path).faults == ()
    assert len(load(path).train.space) == 7


def test_the_rarer_of_two_classes_comes_last(tmp_path, small_frame):
    for rare, common in ((0, 1), (1, 0), ("no", "yes"), (True, False)):
        values = np.where(np.arange(len(small_frame)) % 4 == 0, rare, common)
        small_frame["answer"] = values
        small_frame.to_csv(tmp_path / "t.csv", index=False)
        path, _ = write_config(
            "m", tmp_path / "t.csv", "answer", output=tmp_path / "m.yaml", force=True
        )
        assert load(path).data.classes == [common, rare]
        assert check(path).faults == ()


def test_three_classes_and_parquet(tmp_path, small_frame):
    small_frame["answer"] = np.array(["a", "b", "c"])[np.arange(len(small_frame)) % 3]
    small_frame.to_parquet(tmp_path / "t.parquet")
    path, _ = write_config("m", tmp_path / "t.parquet", "answer", "due", output=tmp_path / "m.yaml")
    assert load(path).data.classes == ["a", "b", "c"]
    assert check(path).faults == ()


def test_nothing_is_overwritten_without_force(tmp_path, table):
    path = tmp_path / "late.yaml"
    path.write_text("precious")
    with pytest.raises(ConfigFault, match=r"late\.yaml is there already: .*--force"):
        write_config("late", table, "late", output=path)
    assert path.read_text() == "precious"
    write_config("late", table, "late", output=path, force=True)
    assert check(path).faults == ()


def test_what_cannot_be_learnt_from_is_refused_and_nothing_written(tmp_path, table, small_frame):
    path = tmp_path / "x.yaml"
    with pytest.raises(ConfigFault, match="lower-case"):
        write_config("My Model", table, "late", output=path)
    with pytest.raises(DataFault, match="did you mean 'late'"):
        write_config("x", table, "lat", output=path)
    with pytest.raises(DataFault, match="no such file"):
        write_config("x", tmp_path / "gone.csv", "late", output=path)
    with pytest.raises(DataFault, match="quantity"):
        write_config("x", table, "wind", output=path)
    with pytest.raises(DataFault, match="must hold dates"):
        write_config("x", table, "late", "wind", output=path)
    small_frame.head(40).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(DataFault, match="40 labelled rows are too few"):
        write_config("x", tmp_path / "few.csv", "late", output=path)
    assert not path.exists()


def test_a_file_for_hundreds_of_rows_suits_hundreds_of_rows(tmp_path, make_frame):
    for rows in (70, 150, 700):
        make_frame(rows).to_csv(tmp_path / "t.csv", index=False)
        path, _ = write_config(
            "m", tmp_path / "t.csv", "late", "due", output=tmp_path / "m.yaml", force=True
        )
        assert check(path).faults == (), rows


def test_check_names_faults_of_file_and_data_and_training_together(edited):
    path = edited(
        data={
            "target": "lat",
            "columns": {"carrier": "number", "hours": "number", "wind": "number"},
        },
        train={
            "families": ["hgb", "forrest"],
            "trainer": "nowhere:trainer",
            "space": {"hgb.learning_rat": {"low": 0.1}},
        },
        gate={"rowz": 3},
    )
    told = "\n".join(check(path).faults)
    assert "gate.rowz: there is no such key: did you mean 'rows'?" in told
    assert "data.target: flights.csv has no column 'lat': did you mean 'late'?" in told
    assert "data.columns.hours: flights.csv has no column 'hours': did you mean 'hour'?" in told
    assert "data.columns.carrier: " in told
    assert "train.families: there is no family 'forrest': did you mean 'forest'?" in told
    assert "train.trainer: " in told
    assert "data.columns.wind" not in told


def test_check_looks_at_the_search_space(edited):
    path = edited(
        train={
            "families": ["hgb"],
            "space": {
                "hgb.learning_rat": {"low": 0.1},
                "hgb.max_iter": {"low": 500, "high": 50},
                "hgb.max_leaf_nodes": {"low": 8},
            },
        }
    )
    faults = check(path).faults
    assert [fault.partition(": ")[0] for fault in faults] == [
        "train.space.hgb.learning_rat",
        "train.space.hgb.max_iter",
    ]


def test_check_looks_at_classes_times_and_rows(edited, tmp_path, small_frame):
    small_frame["due"] = small_frame["due"].astype(str)
    small_frame.loc[3, "due"] = "yesterday"
    small_frame.head(120).to_csv(tmp_path / "flights.csv", index=False)
    path = edited(data={"classes": ["on time", "early"]}, gate={"rows": 100, "minimum_rows": 90})
    told = "\n".join(check(path).faults)
    assert "data.time: the time column 'due' must hold ISO 8601 times, got 'yesterday'" in told
    assert "data.classes: 'late' also holds late" in told
    assert "data.classes: no row of 'late' is ['early']" in told
    assert "gate.minimum_rows: the gate can hold back 24 of 120 labelled rows" in told
    small_frame.head(30).to_csv(tmp_path / "flights.csv", index=False)
    assert any("50 are needed: bring more rows" in fault for fault in check(path).faults)


def test_check_names_classes_as_the_config_does(edited, tmp_path, small_frame):
    """Numbers beside gaps are read as 1.0."""
    small_frame["late"] = (small_frame["late"] == "late").astype(float)
    small_frame.loc[550:, "late"] = None
    small_frame.to_csv(tmp_path / "flights.csv", index=False)
    report = check(edited(data={"classes": [0, 1]}))
    assert "600 rows, 550 labelled" in str(report)
    assert re.search(r"learns late \([01] \d\d%, [01] \d\d%\) from", str(report))


def test_check_says_where_blocks_are_too_few_for_the_drift_test(edited):
    """600 rows, one a quarter of an hour: seven days, of which a day's window meets two."""
    path = edited(monitor={"block": "1d"})
    report = check(path)
    assert report.faults == ()
    told = " ".join(str(report).split())
    assert (
        "monitor.block: a window of 1d holds 2 blocks of 1d at most, and the reference 7, so no p "
        "is below 0.028; drift counts at p <= 1.4e-05, so the test never sees it there: " in told
    )
    assert "blocks are enough, so lengthen the window to" in told
    found = re.search(r"lengthen the window to (\w+), or shorten the block to (\w+)", told)
    assert found is not None
    for monitor in ({"window": found[1]}, {"block": found[2]}):
        assert "monitor.block: a window of 1d" not in str(check(edited(monitor=monitor)))
    hourly = {"schedule": {"cron": "0 * * * *"}, "monitor": {"block": "1d", "window": "1d"}}
    assert "drift counts at p <= 1.7e-06" in str(check(edited(**hourly)))  # of three hours
    loose = check(edited(policy={"drift_p_value": 0.4}, monitor={"block": "1d"}))
    assert "monitor.block" not in str(loose)


def test_check_names_a_missing_data_file_beside_other_faults(edited):
    path = edited(data={"source": "gone.csv", "label_delay": "soon"}, serving={"port": -1})
    told = "\n".join(check(path).faults)
    assert "data.label_delay" in told
    assert "data.source: no such file" in told
    assert "serving.port" in told


TRAINER = """\
from sklearn.neighbors import KNeighborsClassifier
from models.space import Int, Space

class Nearest:
    space = Space((Int("neighbours", 1, 50, log=True),))

    def fit(self, X, y, params, seed):
        return KNeighborsClassifier(n_neighbors=params["neighbours"]).fit(X, y)

trainer = Nearest()
"""


def test_a_trainer_of_ones_own_is_found_beside_the_config(edited, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine_for_check.py").write_text(TRAINER)
    (tmp_path / "broken_for_check.py").write_text("import nothing_of_this_name\n")
    assert check(edited(train={"trainer": "mine_for_check:trainer"})).faults == ()
    for trainer, rule in {
        "mine_for_check:trainr": "trainr",
        "mine_for_check": "module:attribute",
        "broken_for_check:trainer": "nothing_of_this_name",
        "mine_for_check:Int": "a trainer has `space`",
    }.items():
        (fault,) = check(edited(train={"trainer": trainer})).faults
        assert fault.startswith("train.trainer: ")
        assert rule in fault
    (fault,) = check(edited(train={"families": ["custom"], "trainer": None})).faults
    assert fault.startswith("train.trainer: the family 'custom' is your own")


@pytest.fixture
def mails(tmp_path):
    """300 short mails with a subject, a number and a category."""
    rng = np.random.default_rng(0)
    spam = np.arange(300) % 3 == 0
    words = {
        True: ["free", "money", "win", "a", "prize", "now", "call"],
        False: ["see", "you", "at", "the", "meeting"],
    }
    texts = [" ".join(rng.choice(words[bool(s)], 12)) for s in spam]
    frame = pd.DataFrame({"body": texts, "links": rng.integers(0, 9, 300)})
    frame["form"] = np.where(spam, "html", "plain")
    frame["form"] = np.where(rng.random(300) < 0.3, "html", frame["form"])
    frame["spam"] = np.where(spam, "yes", "no")
    frame.to_csv(tmp_path / "mails.csv", index=False)
    return tmp_path / "mails.csv"


def test_free_text_makes_a_task_of_text(tmp_path, mails):
    path, notes = write_config("mails", mails, "spam", output=tmp_path / "mails.yaml")
    assert notes == []
    config, report = load(path), check(path)
    assert report.faults == ()
    assert "from 1 number, 1 category and 1 text" in str(report)
    assert config.task == "text"
    assert config.data.columns == {"body": "text", "links": "number", "form": "category"}
    text = path.read_text()
    assert "\ntask: text  " in text
    assert "# tfidf." in text
    assert "# hgb." not in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 220
    path.write_text(text.replace("    # tfidf.", "    tfidf."))
    assert check(path).faults == ()


def test_check_says_what_becomes_of_texts(tmp_path, mails):
    path, _ = write_config("mails", mails, "spam", output=tmp_path / "mails.yaml")
    raw = yaml.safe_load(path.read_text())
    raw["train"]["families"] = ["tfidf", "hgb"]
    raw["serving"]["maximum_text"] = 30
    raw["telemetry"] = {"never_store": ["body", "links", "form"]}
    path.write_text(yaml.safe_dump(raw))
    told = " ".join(str(check(path)).split())
    assert "hgb learns from the other columns alone, not from text" in told
    assert "300 of 300 texts in body have more than serving.maximum_text, 30 characters" in told
    assert "body is never stored: its drift cannot be watched" in told
    raw["monitor"]["slices"] = ["body"]
    raw["telemetry"] = {}
    path.write_text(yaml.safe_dump(raw))
    assert "slices are of number or category columns, got body of text" in str(check(path))
    raw["data"]["columns"] = {"links": "text"}
    path.write_text(yaml.safe_dump(raw))
    assert "column 'links' holds text, got " in str(check(path))


def test_check_says_where_a_probation_proves_nothing(edited):
    slow = {"block": "7d", "window": "70d"}
    told = " ".join(str(check(edited(monitor=slow))).split())
    assert "monitor.block: the policy's probation of 14d has 2.0 stretches of 7d" in told
    assert "set policy.probation to 35d or more, or shorten the block" in told
    for other in ({"policy": {"probation": "35d"}}, {"policy": {"probation": None}}):
        assert "stretches" not in str(check(edited(monitor=slow, **other)))
    assert "stretches" not in str(check(edited(monitor={"block": "1d"})))
