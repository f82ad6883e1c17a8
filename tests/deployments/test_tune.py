"""`everfit tune`: what it says, what it leaves behind, and that it changes nothing else."""

from __future__ import annotations

import contextlib
import json

import pytest
from click.testing import CliRunner

from deployments.cli import main
from tasks.config import load

pytestmark = pytest.mark.prefect


@pytest.fixture
def command(monkeypatch):
    """The command under the tests' own Prefect server."""
    monkeypatch.setattr("deployments.stack.prefect_server", lambda *_: contextlib.nullcontext())

    def run(*args):
        return CliRunner().invoke(main, ["tune", *map(str, args)])

    return run


def artifact(key):
    """The latest of that key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    return max(found, key=lambda one: one.created)


def test_a_search_by_itself_is_shown_told_and_gone_on_with(command, tiny_config, tmp_path):
    out = tmp_path / "out"
    found = command(tiny_config, "--trials", 3, "--seed", 4, "--out", out)
    assert found.exit_code == 0, found.output
    assert "controller, started cold: 3 trials (0 failed)" in found.output
    assert "ended: all 3 trials spent" in found.output
    assert "*1. log_loss 0." in found.output
    assert f"picture  {out / 'tuning.png'}" in found.output
    assert f"trials   {out / 'trials.jsonl'}" in found.output
    assert (out / "tuning.png").read_bytes().startswith(b"\x89PNG")
    config = load(tiny_config)
    assert not (config.folder / "retrains").exists()  # no retrain, no version

    bar = artifact("tiny-tuning")
    assert bar.data == 100.0
    page = artifact("tiny-tuning-live")
    assert "| trials | 3 of 3, 0 failed |" in page.data
    assert "all 3 trials spent" in page.data
    assert "| seconds left |" in page.data
    assert "| expected further gain |" in page.data
    picture = artifact("tiny-tuning-picture")
    assert "](data:image/png;base64,iVBOR" in picture.data

    before = (out / "trials.jsonl").read_text(encoding="utf-8")
    more = command(tiny_config, "--trials", 5, "--seed", 4, "--out", out)
    assert more.exit_code == 0, more.output
    after = (out / "trials.jsonl").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert [json.loads(line)["number"] for line in after.splitlines()] == [0, 1, 2, 3, 4]


def test_limits_and_a_rule_are_told_with_their_figures(command, tiny_config, tmp_path):
    text = tiny_config.read_text(encoding="utf-8")
    rule = "train:\n  pareto: best accuracy with size_mb <= 5\n"
    tiny_config.write_text(text.replace("train:\n", rule), encoding="utf-8")
    found = command(tiny_config, "--trials", 2, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert "goal: accuracy with size_mb <= 5" in found.output
    assert "size_mb 0.0" in found.output
    assert "*: best accuracy with size_mb <= 5: " in found.output
    assert "the front: no other trial beats these" in found.output
    (row,) = [line for line in found.output.splitlines() if line.startswith("* accuracy")]
    assert row.endswith(", logistic")


def test_a_fault_says_what_to_do(command, tiny_config, tmp_path):
    found = command(tiny_config, "--trials", 0)
    assert found.exit_code == 2
    text = tiny_config.read_text(encoding="utf-8")
    tiny_config.write_text(text.replace("train:\n", "train:\n  limits: {speed: 3}\n"))
    found = command(tiny_config)
    assert found.exit_code == 1
    assert "train.limits: a metric is one of" in found.output
