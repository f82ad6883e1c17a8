"""A config is read whole, or refused whole: every fault with its place and its remedy."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tasks.config import Config, ConfigFault, load

FAULTY = """\
name: My Model
data:
  source: nope.csv
  target: y
  columns: {a: numbr}
  classes: [1]
  label_delay: soon
train:
  family: [hgb]
  families: []
  trials: many
  objective: logloss
monitor:
  thresholds:
    - {metric: acuracy, below: 0.9}
    - {metric: accuracy}
    - {metric: accuracy, blow: 3}
policy: {cooldwn: 3d, memory: 1}
gate: {rowz: 5, confidence: 7}
serving: {port: 99999}
schedule: {cron: daily}
"""


def changed(path: Path, **sections: object) -> Path:
    raw = yaml.safe_load(path.read_text())
    for name, value in sections.items():
        raw[name] = {**raw.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(raw))
    return path


def test_paths_are_relative_to_the_file(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    config = load(tiny_config)
    assert config.data.source == tmp_path / "flights.csv"
    assert config.folder == tmp_path / "runs" / "tiny"
    assert config.store_url == f"sqlite:///{tmp_path}/runs/tiny/telemetry.db"
    assert config.artifacts.is_relative_to(config.folder)


def test_overrides_win_and_none_leaves_the_file_alone(tiny_config, tmp_path):
    port = load(tiny_config).serving.port
    config = load(tiny_config, serving__port=None, serving__workers=3, runs=str(tmp_path / "x"))
    assert (config.serving.port, config.serving.workers) == (port, 3)
    assert config.folder == tmp_path / "x"
    assert load(tiny_config, schedule__cron="5 4 * * 1").schedule.cron == "5 4 * * 1"
    with pytest.raises(ConfigFault, match=r"serving\.port: .* equal to 1, got 0"):
        load(tiny_config, serving__port=0)


def test_every_fault_is_told_at_once_with_its_place_and_remedy(tmp_path):
    path = tmp_path / "faulty.yaml"
    path.write_text(FAULTY)
    with pytest.raises(ConfigFault) as caught:
        load(path)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path} has {len(lines)} faults:"
    told = {line.strip().partition(": ")[0]: line for line in lines}
    for place, remedy in {
        "name": "for instance my-model",
        "data.columns.a": "did you mean 'number'?",
        "data.classes": "name more",
        "data.label_delay": "got 'soon': write it as 7d",
        "train.family": "did you mean 'families'?",
        "train.families": "name more",
        "train.trials": "write a whole number",
        "train.objective": "did you mean 'log_loss'?",
        "monitor.thresholds.0.metric": "did you mean 'accuracy'?",
        "monitor.thresholds.1": "add one",
        "monitor.thresholds.2.blow": "did you mean 'below'?",
        "policy.cooldwn": "did you mean 'cooldown'?",
        "policy": "memory is at least `confirmations`, got 1",
        "gate.rowz": "did you mean 'rows'?",
        "gate": "confidence",
        "serving.port": "choose a value in this range",
        "schedule.cron": "'0 6 * * *'",
    }.items():
        assert remedy in told.pop(place), place
    assert not told, "no fault is told that is none"


def test_a_missing_section_is_named(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("name: short\ndata: {source: a.csv}\n")
    with pytest.raises(ConfigFault) as caught:
        load(path)
    for place in ("data.target", "data.columns", "data.classes", "train"):
        assert f"  {place}: it must be given: add it" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("name: [", "not readable YAML"),
        ("name: a\nname: b\n", "the key 'name' stands twice"),
        ("serving: {port: 1, port: 2}\n", "the key 'port' stands twice"),
        ("- a\n- b\n", "must hold `key: value` lines at the top, got list"),
        ("", "must hold `key: value` lines at the top, got NoneType"),
    ],
)
def test_what_is_no_config_is_refused(tmp_path, text, rule):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigFault, match=rule):
        load(path)


def test_files_that_are_not_there_are_named(tiny_config, tmp_path):
    with pytest.raises(ConfigFault, match=r"no config file at .*gone\.yaml: write one with"):
        load(tmp_path / "gone.yaml")
    (tmp_path / "flights.csv").unlink()
    with pytest.raises(ConfigFault, match=r"data\.source: no such file: .*flights\.csv: correct"):
        load(tiny_config)


def test_a_binary_file_is_not_yaml(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigFault, match="not readable YAML"):
        load(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1.5h", timedelta(hours=1.5)),
        ("2w", timedelta(weeks=2)),
        ("P3D", timedelta(days=3)),
    ],
)
def test_durations_are_read_everywhere_and_written_back(tiny_config, text, value):
    config = load(
        changed(
            tiny_config,
            data={"label_delay": text},
            policy={"cooldown": text, "maximum_age": None},
            monitor={"window": text},
        )
    )
    assert config.data.label_delay == config.monitor.window == config.policy.cooldown == value
    assert config.policy.maximum_age is None
    again = Config.model_validate(config.model_dump(mode="json"))
    assert again == config


def test_a_section_of_comments_has_its_defaults(tiny_config):
    text = tiny_config.read_text() + "schedule:\n  # cron: 0 7 * * *\n"
    tiny_config.write_text(text.replace("  trials: 2", "  space:\n  trials: 2"))
    config = load(tiny_config)
    assert config.schedule.cron == "0 6 * * *"
    assert config.train.space == {}


def test_the_target_and_the_time_are_no_inputs(tiny_config):
    columns = {"carrier": "category", "late": "category"}
    with pytest.raises(ConfigFault, match="'late' is the target or the time: remove it"):
        load(changed(tiny_config, data={"columns": columns}))


def test_a_gate_that_would_refuse_everything_is_refused(tiny_config):
    with pytest.raises(ConfigFault, match=r"gate\.minimum_rows must not exceed gate\.rows"):
        load(changed(tiny_config, gate={"rows": 100, "minimum_rows": 101}))


def test_a_trainer_beside_the_file_can_be_imported(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    load(tiny_config)
    assert str(tmp_path) not in sys.path
    load(changed(tiny_config, train={"trainer": "mine:trainer"}))
    assert sys.path[-1] == str(tmp_path)


def test_configs_cannot_be_changed(tiny_config):
    config = load(tiny_config)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"


def test_the_tuner_is_one_word(tiny_config):
    assert load(tiny_config).train.tuner == "controller"
    assert load(tiny_config, train__tuner="cma-es").train.tuner == "cma-es"
    with pytest.raises(
        ConfigFault, match=r"tuner: it is one of 'controller', .* did you mean 'tpe'\?"
    ):
        load(tiny_config, train__tuner="tpee")


def test_durations_of_the_policy_are_told_by_key_beside_its_other_faults(tiny_config):
    wrong = {"cooldown": "3 days", "label_silence": "x", "rule_sett": 1, "slices": "alert"}
    with pytest.raises(ConfigFault) as fault:
        load(changed(tiny_config, policy=wrong))
    said = str(fault.value)
    assert "policy.cooldown: a duration is a number and one of s, m, h, d, w, got '3 days'" in said
    assert "policy.label_silence: a duration is" in said
    assert "policy.rule_sett: there is no such key: did you mean 'rule_set'?" in said
    assert "policy.slices: it is one of 'watch' or 'retrain', got 'alert'" in said


@pytest.mark.parametrize(
    "given", [{"window": "0d"}, {"longer_windows": ["7d", "0s"]}, {"block": "0d"},
              {"performance_window": "0m"}, {"performance_block": "0d"}],
)  # fmt: skip
def test_a_stretch_of_time_is_longer_than_nothing(tiny_config, given):
    (key,) = given
    with pytest.raises(ConfigFault, match=rf"monitor\.{key}: a stretch of time is longer than"):
        load(changed(tiny_config, monitor=given))


def test_performance_has_blocks_to_resample(tiny_config):
    monitor = {"performance_window": "7d", "performance_block": "3d"}
    assert load(changed(tiny_config, monitor=monitor)).monitor.performance_block is not None
    with pytest.raises(ConfigFault, match=r"got 7d and monitor\.performance_block 5d"):
        load(changed(tiny_config, monitor={**monitor, "performance_block": "5d"}))


def test_the_gates_block_is_a_duration_that_needs_times(tiny_config):
    assert load(tiny_config).gate.block is None
    timed = yaml.safe_load(tiny_config.read_text())["data"].get("time")
    given = changed(tiny_config, data={"time": timed or "seen_at"}, gate={"block": "36h"})
    config = load(given)
    assert config.gate.block == timedelta(hours=36)
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert Config.model_validate_json(config.model_dump_json()) == config
    for block, rule in (
        ("soon", "write it as 7d"),
        ("0s", "gate.block is out of its range"),
    ):
        with pytest.raises(ConfigFault, match=rule):
            load(changed(tiny_config, gate={"block": block}))
    untimed = changed(tiny_config, data={"time": None}, gate={"block": "1d"})
    with pytest.raises(ConfigFault, match=r"gate\.block groups rows by their time, got 1d"):
        load(untimed)


def test_objectives_are_checked_with_the_rest_and_read_as_one_goal(tiny_config):
    config = load(tiny_config, train__weights={"micro": 0.02}, train__limits={"size_mb": 5.0})
    assert str(config.train.goal) == "log_loss + 0.02 micro with size_mb <= 5"
    assert config.train.pick is None
    rule = "best accuracy with latency_ms <= 20"
    config = load(tiny_config, train__pareto=rule, train__limits={"size_mb": 5.0})
    assert str(config.train.pick) == rule + " and size_mb <= 5"
    assert config.train.goal.metric == "accuracy"
    with pytest.raises(ConfigFault) as caught:
        load(
            tiny_config,
            train__weights={"speed": 1.0},
            train__limits={"latency_ms": -1.0},
            train__pareto="fast",
        )
    lines = str(caught.value).splitlines()
    assert "3 faults" in lines[0]
    assert "train.weights: a metric is one of" in lines[1]
    assert "got 'speed'" in lines[1]
    assert "train.limits: a limit is a finite number above 0, got latency_ms: -1.0" in lines[2]
    assert "train.pareto: a pick rule is 'best METRIC'" in lines[3]


def test_models_are_made_smaller_where_effort_counts_or_it_is_asked_for(tiny_config):
    from tasks.searchers import searcher

    def choices(**changes):
        config = load(tiny_config, train__families=["mlp"], **changes)
        return searcher(config, None)[0].space["mlp.compress"].choices

    assert choices() == choices(train__compress="never", train__pareto="best accuracy") == ("none",)
    every = ("none", "sparse", "units", "student")
    for asked in (
        {"train__compress": "always"},
        {"train__weights": {"size_mb": 0.01}},
        {"train__limits": {"latency_ms": 5}},
        {"train__pareto": "best accuracy with size_mb <= 1"},
        {"train__space": {"mlp.sparsity": {"low": 0.8}}},
    ):
        assert choices(**asked) == every, asked


def test_a_rollout_is_read_with_its_stages(tiny_config):
    stages = [
        {"mode": "shadow", "minimum": "90s", "requests": 50},
        {"share": 0.25, "maximum": "6h"},
    ]
    path = changed(
        tiny_config, rollout={"stages": stages, "bake": "2h", "guards": {"metric": None}}
    )
    plan = load(path).rollout
    shadow, canary = plan.stages
    assert (shadow.mode, shadow.minimum, shadow.requests) == ("shadow", timedelta(seconds=90), 50)
    assert (canary.mode, canary.share, canary.maximum) == ("canary", 0.25, timedelta(hours=6))
    assert plan.bake == timedelta(hours=2)
    assert "metric" not in plan.guards.watched()
    assert [
        s.share for s in load(changed(tiny_config, rollout={"stages": "standard"})).rollout.stages
    ] == [0, 0.05, 0.25, 0.5]
    bad = {
        "stages": [{"mode": "shadow", "minimum": "soon"}, {"share": 0.1, "sahre": 1}],
        "guards": {"latency_p59_ratio": 2},
    }
    with pytest.raises(ConfigFault) as fault:
        load(changed(tiny_config, rollout=bad))
    said = str(fault.value)
    assert "rollout.stages.0.minimum: a duration is" in said
    assert (
        "rollout.guards.latency_p59_ratio: there is no such key: did you mean 'latency_p95_ratio'?"
        in said
    )
    assert "rollout.stages.1.sahre: there is no such key" in said
    with pytest.raises(ConfigFault, match="shares grow from stage to stage, got"):
        load(
            changed(tiny_config, rollout={"stages": [{"share": 0.5}, {"share": 0.1}], "guards": {}})
        )


def test_text_is_a_task_of_its_own(tiny_config):
    def faults(**sections: object) -> str:
        with pytest.raises(ConfigFault) as fault:
            load(changed(tiny_config, **sections))
        return str(fault.value)

    assert "got task: text and 0 columns of text" in faults(task="text")
    columns = {"columns": {"remark": "text"}}
    assert "got task: table and 1 columns of text" in faults(task="table", data=columns)
    raw = yaml.safe_load(tiny_config.read_text())
    tables = {"task": "text", "data": {**raw["data"], "columns": {"remark": "text"}}}
    tiny_config.write_text(yaml.safe_dump({**raw, **tables}))
    assert "data.columns (text), got " in faults()
