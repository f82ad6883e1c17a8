"""How peers are installed and asked; what stands for a peer here is this interpreter."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from click.testing import CliRunner

from deployments import cli
from tests.benchmarks.peers import environment, meter

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
place = Path(sys.argv[1])
job = json.loads((place / "job.json").read_text())
if job["task"] == "fail":
    raise ValueError("no such rows")
(place / "answer.json").write_text(json.dumps(float(np.load(place / "x.npy").sum())))
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """An environment 'mine' whose interpreter is this one, and a script `sums` for it."""
    place = tmp_path / "envs" / "mine"
    (place / "bin").mkdir(parents=True)
    wrapper = place / "bin" / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    (place / "complete").touch()
    (tmp_path / "sums.py").write_text(SCRIPT)
    monkeypatch.setattr(environment, "HERE", tmp_path)
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "envs"))
    return place


def test_a_peer_answers_through_files(peer):
    assert environment.ask("mine", "sums", {"task": "sum"}, {"x": np.ones((3, 2))}) == 6.0
    with pytest.raises(environment.PeerFault, match="no such rows"):
        environment.ask("mine", "sums", {"task": "fail"})


def test_a_half_made_environment_is_not_installed(peer):
    (peer / "complete").unlink()
    assert environment.ask("mine", "sums", {"task": "sum"}) is None
    assert environment.missing("mine") == "not installed: everfit bench peers mine"


def test_torch_comes_from_disk_where_a_wheel_lies_there(tmp_path):
    assert environment.torch_from("") == ["--torch-backend", "cpu"]
    assert environment.torch_from(str(tmp_path)) == ["--torch-backend", "cpu"]
    (tmp_path / "torch-2.13.0+cpu-cp311.whl").touch()
    assert environment.torch_from(f"/nowhere {tmp_path}") == ["--find-links", str(tmp_path)]


def test_environments_are_made_once_with_pinned_requirements(tmp_path, monkeypatch):
    ran: list[list[str]] = []
    monkeypatch.setattr(environment, "_run", ran.append)
    monkeypatch.setenv("PIP_FIND_LINKS", "")

    def install(*words):
        result = CliRunner().invoke(cli.main, ["bench", "peers", *words, "--into", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return result.output

    for name in environment.NAMES:
        (tmp_path / name).mkdir()
    assert f"{environment.VARIABLE}={tmp_path}" in install()
    assert {"alibi", "nannyml", "streams"} <= set(environment.NAMES)
    assert len(ran) >= 2 * len(environment.NAMES)
    ran.clear()
    install("alibi")
    assert not ran
    (tmp_path / "alibi" / "complete").write_text("older pins")
    install("alibi")
    assert ran[-1][-2:] == ["-r", str(environment.HERE / "alibi.txt")]
    assert "cpu" in ran[-1]


def test_an_unknown_environment_names_those_there_are(tmp_path):
    words = ["bench", "peers", "alibbi", "--into", str(tmp_path)]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 1
    assert "alibi, nannyml, serve_bento, " in result.output


def test_every_requirement_has_a_version_and_none_is_everfits():
    import tomllib

    for name in environment.NAMES:
        lines = (environment.HERE / f"{name}.txt").read_text().splitlines()
        wanted = [line.partition("#")[0].strip() for line in lines]
        assert all("==" in line or "<" in line for line in wanted if line)
    text = (environment.HERE.parents[2] / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(line for lines in extras for line in lines)]
    assert not [line for line in named if "alibi" in line]


def test_the_meter_sees_memory_that_is_gone_again():
    def spend() -> None:
        np.ones(8_000_000).sum()

    seconds, cpu, extra = meter.measure(spend, repeats=2)
    assert 0 < cpu <= seconds + 0.1 < 5
    assert 40 < extra < 200
