"""`everfit size`: what is foretold of a configuration, how sure that is, and what a rate needs."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from deployments import cli
from models import families
from models.performance.seen import ROWS
from models.records import Trial
from monitoring.digest import facts
from tasks import digest, foretelling, lineage, places
from tasks.config import load
from tasks.journal import TRIALS
from tasks.records import Tuned
from tests import registry_parts as parts

CONFIGURED = {"family": "logistic", "logistic.C": 1.0, "logistic.class_weight": "none"}

FRONT = tuple(
    {"number": n, "params": params, "metrics": {"log_loss": 0.4 + n, "size_mb": 0.01}}
    for n, params in enumerate(({"family": "hgb"}, CONFIGURED))
)


def trials(seed: int, count: int = 14) -> list[Trial]:
    """A logistic regression costs the same whatever its penalty; a tree costs its size."""
    space = families.space(["logistic", "hgb"])
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        params = space.decode(rng.random(len(space))) if number else CONFIGURED
        noise = float(np.exp(0.02 * rng.normal()))
        cost = 0.01 if params["family"] == "logistic" else 1e-3 * params["hgb.max_iter"]
        figures = {"latency_ms": cost * noise, "predict_cpu_ms": cost * noise, "size_mb": cost}
        figures |= {"log_loss": 0.4, "fit_cpu_s": 10 * cost * noise, ROWS: 500.0}
        found.append(Trial(number, params, "complete", 0.4, 12 * cost * noise, 0, figures))
    return found


@pytest.fixture
def sized(tiny_config, tmp_path):
    """The tiny config after two retrains, of which the second was refused."""
    text = tiny_config.read_text(encoding="utf-8")
    tiny_config.write_text(text.replace("[logistic]", "[logistic, hgb]"), encoding="utf-8")
    config = load(tiny_config)
    parts.tables(config.folder)
    registry = places.registry(config)
    candidate = parts.candidates()[1]
    for number, window in enumerate(("first", "second")):
        folder = tmp_path / window
        folder.mkdir()
        rows = "".join(json.dumps(asdict(trial)) + "\n" for trial in trials(number))
        (folder / TRIALS).write_text(rows, encoding="utf-8")
        verdict = parts.verdict(passed=number == 0)
        made = lineage.write(
            folder / lineage.LINEAGE,
            window,
            parts.NOW,
            tuned=Tuned(dict(CONFIGURED), 0.4, 14, 0, 1.0, "spent", chosen="a rule", front=FRONT),
            candidate=candidate,
            verdict=verdict,
            opponent=None,
        )
        told = foretelling.write(
            config, folder, foretelling.Before.of(config, window), trials(number)
        )
        files = {TRIALS: folder / TRIALS, lineage.LINEAGE: made, foretelling.FILE: told}
        release = registry.register(
            Path(candidate.bundle), candidate, verdict, window_id=window, files=files,
            now=parts.NOW,
        )  # fmt: skip
        if number == 0:
            registry.promote(
                release.version, expected=None, decision_id="d", who="w", why="y", now=parts.NOW
            )
    return tiny_config


def size(*args):
    return CliRunner().invoke(cli.main, ["size", *map(str, args)])


def test_the_champion_is_foretold_timed_and_sized(sized):
    found = size(sized, "--rate", 5_000)
    assert found.exit_code == 0, found.output
    assert "tiny: learnt from 28 trials of 2 searches" in found.output  # the refused one's too
    (r2,) = re.findall(r"latency_ms: R2 (\S+), median error \d+% on 28", found.output)
    assert float(r2) > 0.9
    assert "log_loss: median error 0 on 28 held-out" in found.output  # nothing varies there
    assert "the champion, version 1:" in found.output
    assert re.search(r"its trial 0\.0\d+, now 0\.", found.output)  # beside what its trial measured
    assert "5,000 requests a second:" in found.output
    assert "a search: 2 trials of" in found.output


def test_another_configuration_is_foretold_and_a_rate_in_workers(sized):
    found = size(sized, "--set", "hgb.max_iter=200", "--set", "family=hgb", "--rate", 20, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.output)
    assert told["version"] is None
    assert told["params"]["hgb.max_iter"] == 200
    assert told["measured"] == told["tried"] == {}
    latency = told["foretold"]["latency_ms"]
    assert latency["value"] == pytest.approx(0.2, rel=0.1)
    assert latency["low"] < 0.2 < latency["high"]
    serving = told["serving"]
    cpu = told["foretold"]["predict_cpu_ms"]["high"] + 0.03
    assert serving["cores"] == pytest.approx(20 * cpu / 1_000)
    assert serving["workers"] == 1
    much = json.loads(
        size(sized, "--set", "family=hgb", "--rate", 50_000, "--rows", 5_000, "--json").output
    )
    assert much["serving"]["workers"] >= much["serving"]["cores"] / 0.7 > 1
    few = json.loads(size(sized, "--set", "family=hgb", "--json").output)
    ratio = much["foretold"]["fit_cpu_s"]["value"] / few["foretold"]["fit_cpu_s"]["value"]
    assert ratio == pytest.approx(10.0, rel=0.2)  # ten times the rows


def test_a_search_is_foretold_before_it_and_told_of_after_it(sized, tmp_path):
    config = load(sized)
    before = foretelling.Before.of(config, "third")
    assert {one.search for one in before.past} == {"first", "second"}
    again = foretelling.Before.of(config, "second")  # a search that goes on is not its own past
    assert {one.search for one in again.past} == {"first"}
    slow = {**families.defaults(["hgb"])[0], "hgb.max_iter": 300}
    assert before.seconds(slow) == pytest.approx(12 * 0.3, rel=0.3)
    assert before.seconds({"family": "mlp"}) is None
    path = foretelling.write(config, tmp_path, before, trials(7, 9))
    told, left_out = foretelling.read(path)
    assert {one.target: one.trials for one in told}["latency_ms"] == 9
    assert {one.target: one.trials for one in left_out}["latency_ms"] == 37
    figures = foretelling.metrics(path)
    assert figures["predictor.latency_ms.trials"] == 9  # what was told beforehand counts most
    assert figures["predictor.latency_ms.error"] < 0.1
    assert figures["predictor.latency_ms.r2"] > 0.9
    assert "predictor.log_loss.r2" not in figures  # nothing varies
    row = next(row for row in foretelling.rows(path) if row["figure"] == "latency_ms")
    assert row["held out"] == "told before the search"
    assert row["by"].startswith(("hgb ", "logistic "))
    nothing = foretelling.write(config, tmp_path, foretelling.Before([], _nothing(), "x"), [])
    assert foretelling.metrics(nothing) == {}


def _nothing():
    return foretelling.Performance([], ("latency_ms",))


def test_the_digest_is_told_the_front_and_how_well_it_was_foretold(sized):
    config = load(sized)
    second = places.registry(config).version("2")
    made = digest._made(config, second, champion=False)
    assert made.front == facts.Front(
        ("log_loss", "size_mb"), ((0.4, 0.01), (1.4, 0.01)), 1, "a rule"
    )
    assert [said.split(":")[0] for said in made.foretold] == ["log_loss", "latency_ms", "fit_cpu_s"]
    assert made.foretold[1].endswith("on 14 held-out trials")  # told before they ran


def test_a_fault_says_what_to_do(sized):
    for given, says in (
        ("trees=9", "'trees' is no parameter of the config's space"),
        ("family=oak", "'family': "),
        ("hgb.max_iter=99", "does not count beside family=logistic"),
        ("logistic.C=-1", "'logistic.C': "),
        ("C", "it is NAME=VALUE, got 'C'"),
    ):
        found = size(sized, "--set", given)
        assert found.exit_code in (1, 2)
        assert says in found.output


def test_before_the_first_search_nothing_is_known(tiny_config):
    parts.tables(load(tiny_config).folder)
    found = size(tiny_config)
    assert found.exit_code == 1
    assert "run `everfit train` first" in found.output
