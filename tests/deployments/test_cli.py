"""Every command explains itself, and every fault is one message and a non-zero exit."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from deployments import cli
from deployments.commands import base, bench, status

HEAVY = ("torch", "mlflow", "prefect", "pandas", "sklearn", "evidently", "numpy", "pydantic")


def run(*args: object):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


def test_help_imports_nothing_heavy():
    probe = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from deployments.cli import main\n"
        "result = CliRunner().invoke(main, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    loaded = set(done.stdout.split())
    assert "click" in loaded
    assert not loaded & set(HEAVY)


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "deployments", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Usage: everfit [OPTIONS] COMMAND")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name} ")
    assert "--debug" in result.output
    assert cli.main.get_command(None, name).short_help in run("--help").output


NO_CONFIG = ("demo", "init", "drill", "bench")
MORE = dict.fromkeys(("approve", "reject"), ("7", "--why", "it is right"))
MORE["transfer"] = ("--source", "books", "--target", "films")
MORE["export"] = ("bundle",)


@pytest.mark.parametrize("name", [n for n in cli.COMMANDS if n not in NO_CONFIG])
def test_a_missing_config_is_one_message(name, tmp_path):
    result = run(name, tmp_path / "gone.yaml", *MORE.get(name, ()))
    assert result.exit_code == 1
    assert "no config file at" in result.output
    assert "everfit init" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "hint"), [("trian", "did you mean 'train'?"), ("zzz", "`everfit --help` lists them")]
)
def test_an_unknown_command_is_a_usage_fault(name, hint):
    result = run(name)
    assert result.exit_code == 2
    assert f"there is no command {name!r}: {hint}" in result.output


def test_init_then_check_then_a_fault(tmp_path, small_frame, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_frame.to_csv("flights.csv", index=False)
    first = run("init", "late", "--data", "flights.csv", "--target", "late", "--time", "due")
    assert first.exit_code == 0, first.output
    assert "wrote late.yaml" in first.output
    assert run("check", "late.yaml").exit_code == 0
    again = run("init", "late", "--data", "flights.csv", "--target", "late")
    assert again.exit_code == 1
    assert "--force" in again.output
    Path("late.yaml").write_text(Path("late.yaml").read_text().replace("hgb]", "hbg]"))
    bad = run("check", "late.yaml")
    assert bad.exit_code == 1
    assert "did you mean 'hgb'?" in bad.output


def test_debug_shows_where_a_fault_came_from(tmp_path):
    result = run("status", tmp_path / "gone.yaml", "--debug")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ConfigFault"


def test_a_directory_in_place_of_a_file_is_no_traceback(tmp_path):
    result = run("check", tmp_path)
    assert result.exit_code == 1
    assert "is not readable YAML" in result.output


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(28, "No space left on device", "mlflow.db"), "mlflow.db: No space left on device"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (KeyError("x"), "unexpected KeyError: 'x' (run again with --debug to see where)"),
    ],
)
def test_faults_are_explained(fault, said):
    assert base.explain(fault) == said


def test_the_projects_own_faults_speak_for_themselves():
    from models.errors import RegistryFault
    from monitoring.errors import StoreFault

    assert base.explain(RegistryFault("rule: remedy")) == "rule: remedy"
    assert base.explain(StoreFault("rule: remedy")) == "rule: remedy"


def test_times_are_iso_and_utc():
    assert base.moment(None) is None
    noon = datetime(2013, 2, 1, 12, tzinfo=UTC)
    for text in ("2013-02-01T12:00:00", "2013-02-01T12:00:00Z", "2013-02-01T13:00:00+01:00"):
        assert base.moment(text) == noon


def test_a_time_that_is_none_is_a_usage_fault(tiny_config):
    result = run("watch", tiny_config, "--now", "yesterday")
    assert result.exit_code == 2
    assert "a time is ISO 8601, got 'yesterday'" in result.output


STATE = {
    "name": "late",
    "champion": {
        "version": "3",
        "age_days": 2.04,
        "rows": 12_000,
        "metrics": {"log_loss": 0.50123},
    },
    "challenger": None,
    "decisions": [
        {
            "window_id": "w",
            "time": "2013-02-01T06:00:00+00:00",
            "action": "retrain",
            "rule": "drift confirmed",
            "reasons": ["mmd p = 0.001"],
        }
    ],
    "labels": {
        "since": "2013-01-25T06:00:00",
        "predictions": 100,
        "labelled": 80,
        "coverage": 0.8,
        "recorded_share": 0.25,
    },
    "server": {"url": "http://127.0.0.1:1", "running": True, "version": "3", "reason": ""},
}


def test_the_status_reads_well(tiny_config, monkeypatch):
    monkeypatch.setattr("tasks.status.status", lambda config: STATE)
    text = run("status", tiny_config).output
    assert "(80%), a sample: 0.25 of all are recorded" in text
    assert "champion   version 3, 2.0 days old, 12,000 rows, log_loss 0.5012" in text
    assert "challenger none" in text
    assert "80 of 100 predictions since 2013-01-25T06:00 (80%)" in text
    assert "http://127.0.0.1:1 answers with version 3" in text
    assert "2013-02-01T06:00  retrain (drift confirmed)\n      mmd p = 0.001" in text
    assert json.loads(run("status", tiny_config, "--json").output) == STATE
    quiet = STATE | {
        "decisions": [],
        "labels": STATE["labels"] | {"coverage": None},
        "server": STATE["server"] | {"running": False},
    }
    text = "\n".join(status.lines(quiet))
    assert "no prediction since" in text
    assert "does not run" in text
    assert "none yet" in text


def test_the_status_tells_the_first_reasons_of_each_decision():
    many = {**STATE["decisions"][0], "reasons": [f"reason {i}" for i in range(7)]}
    text = "\n".join(status.lines({**STATE, "decisions": [many]}))
    assert "reason 2\n      and 4 more\n  all of it: everfit explain" in text
    assert "reason 3" not in text


BENCH = '''"""How fast nothing is."""

def run(json_path=None, rounds=1, label="x"):
    return [{"name": label, "seconds": 0.123456 * rounds, "note": None}]
'''


def test_benchmarks_are_found_run_and_written(tmp_path, monkeypatch):
    (tmp_path / "bench_nothing.py").write_text(BENCH)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    assert "nothing         How fast nothing is." in run("bench").output
    out = tmp_path / "table.json"
    result = run("bench", "nothing", "--json", out, "--set", "rounds=2", "--set", "label=y")
    assert result.exit_code == 0, result.output
    assert "0.2469" in result.output
    assert json.loads(out.read_text()) == [{"name": "y", "seconds": 0.246912, "note": None}]
    wrong = run("bench", "nothin")
    assert wrong.exit_code == 2
    assert "did you mean 'nothing'?" in wrong.output
    assert run("bench", "nothing", "--set", "rounds").exit_code == 2


OWN = '''
"""A benchmark with arguments of its own."""
import click


@click.group()
def command():
    pass


@command.command()
@click.option("--rounds", type=int)
@click.argument("what")
def power(rounds, what):
    click.echo(f"{what} {rounds + 1}")


@command.command()
def broken():
    raise ValueError("out of luck")
'''


def test_a_benchmark_may_take_arguments_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "bench_mine.py").write_text(OWN)
    (tmp_path / "bench_nothing.py").write_text(BENCH)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    result = run("bench", "mine", "power", "--rounds", 2, "shift")
    assert result.exit_code == 0, result.output
    assert result.output == "shift 3\n"
    assert "--rounds" in run("bench", "mine", "power", "--help").output
    assert run("bench", "mine", "power", "--set", "a=1").exit_code == 2
    for listing in (run("bench"), run("bench", "--help")):
        assert "A benchmark with arguments of its own." in listing.output
    broken = run("bench", "mine", "broken")
    assert broken.exit_code == 1
    assert "out of luck" in broken.output
    assert "Traceback" not in broken.output


def test_ui_needs_something_to_show(tiny_config):
    result = run("ui", tiny_config, "--no-open")
    assert result.exit_code == 1
    assert "everfit train" in result.output


def test_flags_reach_the_demo(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(
        "deployments.demo.run.demo", lambda name, **options: seen.update(options, name=name)
    )
    out = tmp_path / "table.json"
    result = run("demo", "--weeks", 2, "--json", out, "--runs", tmp_path, "--port", 8101, "--quick")
    assert result.exit_code == 0, result.output
    assert seen == {
        "name": "flights",
        "weeks": 2,
        "json_path": out,
        "runs": tmp_path,
        "port": 8101,
        "prefect_port": None,
        "seed": 0,
        "quick": True,
    }
    assert run("demo", "--weeks", 0).exit_code == 2
    assert run("demo", "spam").exit_code == 0
    assert seen["name"] == "spam"
    assert run("demo", "weather").exit_code == 2


def test_flags_reach_the_server(monkeypatch, tiny_config, tmp_path):
    seen = []
    monkeypatch.setattr("deployments.serving.run.serve", lambda *a, **k: seen.append((a, k)))
    assert run("serve", tiny_config, "--port", 8102, "--runs", tmp_path / "r").exit_code == 0
    assert seen == [((tiny_config, None, 8102, None), {"runs": tmp_path / "r"})]


def test_what_a_retrain_came_to_is_said(monkeypatch, tiny_config, tmp_path):
    """The command hands the config, the window and the reason to the flow."""
    import contextlib

    calls = []

    async def retrain(config, window_id, **options):
        calls.append((config.name, config.folder, window_id, options["why"]))
        return SimpleNamespace(
            version="2",
            passed=window_id != "first",
            reason="better by 0.01",
            window_id=window_id,
            trials=4,
            seconds=1.5,
            warm=True,
            stage="version 2 is shadow" if window_id == "w7" else "",
        )

    monkeypatch.setattr("deployments.stack.prefect_server", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr("flows.retrain.retrain", retrain)
    result = run("retrain", tiny_config, "--window", "w1", "--why", "new rows", "--runs", tmp_path)
    assert result.exit_code == 0, result.output
    assert "version 2 is the champion: better by 0.01" in result.output
    assert "4 trials, 1.5 s, started from memory" in result.output
    going = run("retrain", tiny_config, "--window", "w7")
    assert "version 2 passed its gate, and is on its way: better by 0.01" in going.output
    refused = run("train", tiny_config)
    assert refused.exit_code == 1
    assert "the gate refused it, so there is no champion yet" in refused.output
    assert calls == [
        ("tiny", tmp_path, "w1", "new rows"),
        ("tiny", tiny_config.parent / "runs" / "tiny", "w7", "asked for by hand"),
        ("tiny", tiny_config.parent / "runs" / "tiny", "first", "first training"),
    ]
