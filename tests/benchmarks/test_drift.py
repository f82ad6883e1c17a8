"""The drift benchmarks' own code at tiny sizes, without any peer."""

from __future__ import annotations

import json
from concurrent.futures import Future

import numpy as np
import pytest
from click.testing import CliRunner

from deployments import cli
from tests.benchmarks.drift import counts, level, methods, power, samples, sketch, speed, timed
from tests.benchmarks.drift.stream import MOVED, Stream, hourly_means
from tests.benchmarks.drift.watcher import Plan, sample, watch
from tests.benchmarks.peers import environment


@pytest.fixture(autouse=True)
def no_peers(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "none"))


def bench(*words):
    return CliRunner().invoke(cli.main, ["bench", "drift", *map(str, words)])


@pytest.mark.parametrize("test", [sketch.sketch_test, sketch.binned_test, sketch.loop_test])
def test_what_is_compared_with_sees_a_change_and_has_a_level(test):
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(60, 2, 100, 4))
    assert test(draws[0, 0], draws[0, 1] + 1, 99) == pytest.approx(0.01)
    quiet = np.array([test(x, y, 19) for x, y in draws])
    assert 0.3 < quiet.mean() < 0.7
    assert quiet.min() > 0


def test_the_sketch_is_the_mmd_of_its_definition():
    """Its blocks change nothing: rows beyond one block give the p-value of the plain sum."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(700, 2)), rng.normal(size=(700, 2)) * 1.05
    assert sketch.sketch_test(x, y, 99) == sketch.sketch_test(x.astype(np.float32), y, 99)
    assert sketch.sketch_test(x, x, 99) == 1.0


@pytest.mark.parametrize("case", samples.CASES, ids=lambda case: case.name)
def test_every_change_is_only_in_the_current_rows(case):
    x, y = case.draw(np.random.default_rng(0), 4_000, 4_000)
    assert x.shape == y.shape == (4_000, case.columns)
    assert not np.isnan(x).any()
    numbers = x[:, :-1] if case.category else x
    assert np.abs(numbers.mean(0)).max() < 0.1
    assert not np.array_equal(np.nanmean(y, 0), np.nanmean(x, 0))
    plain_x, plain_y = samples.plain(x, y, case.category)
    assert plain_x.shape[1] == plain_y.shape[1]
    assert np.isfinite(plain_y).all()
    assert methods.columns_ks(x[:50], y[:50] + 3, case.category, 0, 0) < 1e-3


def test_heavy_tails_keep_the_variance():
    case = next(c for c in samples.CASES if "tails" in c.name)
    _, y = case.draw(np.random.default_rng(0), 2, 200_000)
    assert y.var() == pytest.approx(1, abs=0.15)


def test_textbook_tests_keep_their_level():
    found = level.run(tests=("Hotelling T²", "KS, Bonferroni"), repetitions=400, rows=60)
    assert [row["test"] for row in found] == ["Hotelling T²", "KS, Bonferroni"]
    low, high = counts.chance(0.05, 400)
    assert low <= 400 * found[0]["at 0.05"] <= high
    assert all("too many" not in row["note"] for row in found)


def test_a_test_that_always_rejects_is_told(monkeypatch):
    monkeypatch.setitem(methods.TEXTBOOK, "KS, Bonferroni", lambda *a: 1e-9)
    (row,) = level.run(tests=("KS, Bonferroni",), repetitions=50, rows=20)
    assert row["at 0.001"] == 1.0
    assert "too many at 0.001: 50 of 50" in row["note"]


def test_peers_that_are_missing_say_how_to_get_them():
    (row,) = level.run(tests=("alibi MMD",), repetitions=20)
    assert row["note"] == "not installed: everfit bench peers alibi"
    (row,) = power.run(
        tests=("KS, Bonferroni", "frouros MMD"), cases=samples.CASES[:1], repetitions=10
    )
    assert row["frouros MMD"].startswith("not installed")
    assert 0 <= row["KS, Bonferroni"] <= 1


def test_power_says_how_far_the_first_test_falls_short():
    (row,) = power.run(
        tests=("KS, Bonferroni", "Hotelling T²"), cases=samples.CASES[:1], repetitions=60
    )
    assert row["short"] == pytest.approx(max(0, row["Hotelling T²"] - row["KS, Bonferroni"]))
    assert row["short"] > 0.1


def test_speed_has_a_row_for_every_test(monkeypatch):
    def here(test, **job):
        return timed.answer({"test": test, "repeats": 1, "threads": 1, **job})

    monkeypatch.setattr(speed, "timed", here)
    found = speed.run(
        sizes=((200, 50),),
        large=((3_000, 4),),
        tests=("everfit mmd_test", "sketch", "plain loop", speed.BINNED, "alibi MMD"),
        repeats=1,
    )
    by = {row["test"]: row for row in found}
    assert 0 < by["sketch"]["seconds"] < 30
    assert 0 < by["sketch"]["share of limit"] < 2
    assert by["plain loop"]["note"] == "scaled from 20 permutations"
    assert by["sketch, binned features"]["rows a side"] == 3_000
    assert by["alibi MMD"]["note"].startswith("not installed")


def test_a_measurement_that_fails_is_told():
    assert "fault" in timed.timed("sketch", rows=0, columns=1, permutations=9)


def test_a_stream_keeps_its_rows_until_it_changes():
    stream = Stream(3, per_hour=50, phi=0.6)
    before, after = stream.rows(200), stream.rows(200, change=1.0, at=100)
    assert np.array_equal(before[:5_000], after[:5_000])
    assert (after - before)[5_000:, :MOVED] == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(before[:, MOVED:], after[:, MOVED:])
    assert np.corrcoef(before[1:, 5], before[:-1, 5])[0, 1] == pytest.approx(0.6, abs=0.03)
    assert before.var() == pytest.approx(1, abs=0.1)
    errors = stream.errors(after, 1.0, 100)
    assert errors[5_000:].mean() > 2 * errors[:5_000].mean()
    assert hourly_means(Stream(0).rows(50), 100).std() == pytest.approx(1, abs=0.15)


def test_a_window_is_sampled_by_whole_blocks():
    rows = np.arange(2_000)[:, None]
    rng = np.random.default_rng(0)
    chosen, blocks = sample(rows, 10, 500, rng)
    assert len(chosen) == len(blocks) == 500
    for block in np.unique(blocks):
        one = chosen[blocks == block, 0]
        assert one[0] % 10 == 0
        assert np.array_equal(one, np.arange(one[0], one[0] + 10))
    assert len(sample(rows[:100], 1, 500, rng)[0]) == 100


def test_a_replayed_year_counts_alarms_and_delays(monkeypatch):
    from tests.benchmarks.drift import watcher

    asked = []

    def fires(plan, reference, window, level, rng):
        asked.append((len(window), level))
        return (level if window[:, :MOVED].mean() > 0.2 else 0.04), 100

    monkeypatch.setattr(watcher, "_test", fires)
    quiet = watch(Plan(hours=48), 0)
    assert quiet["alarms"] == 0
    assert quiet["naive"] == 48
    assert quiet["tests"] == len(asked) > 48 + 14
    assert {size for size, _ in asked} == {100, 2_400, 16_800}
    assert sum(level for _, level in asked) < 0.01 * 48 / 8_760 * 1.6
    moved = watch(Plan(hours=48), 0, change=1.0, until_alarm=True)
    assert moved["first"] == moved["naive_first"] == 1
    assert moved["window"] == "1:00:00"


def test_the_year_is_a_table(tmp_path, monkeypatch):
    from tests.benchmarks.drift import year

    monkeypatch.setattr(year, "_all", lambda pool, jobs, name, kept, say: [
        {"alarms": i, "naive": 9, "tests": 4, "permutations": 400, "seconds": 0.1,
         "first": None if i else 3, "naive_first": 1} for i, _ in enumerate(jobs)
    ])  # fmt: skip
    out = tmp_path / "year.json"
    result = bench("year", "--years", 2, "--episodes", 3, "--rows", "autocorrelated", "--json", out)
    assert result.exit_code == 0, result.output
    ((name, rows),) = json.loads(out.read_text()).items()
    assert "autocorrelated" in name
    by = {row["monitor"]: row for row in rows}
    assert by["everfit"]["alarms a year"] == 0.5
    assert by["everfit"]["years with any"] == 1
    assert by["everfit"]["hours to 0.25 sigma"] == "missed, 2 of 3"
    assert "everfit without blocks" in by
    assert by["always fires"]["alarms a year"] == 8_760
    assert by["river's detectors"]["note"].startswith("not installed")


def test_a_year_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    """Every finished year is kept at once; a torn last line is computed again, nothing else is."""
    from tests.benchmarks.drift import watcher, year

    class Here:
        def submit(self, *words, **more):
            asked.append(words[2])
            future = Future()
            future.set_result(words[0](*words[1:], **more))
            return future

        __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

    asked: list[int] = []
    monkeypatch.setattr(year, "_pool", lambda processes: Here())
    monkeypatch.setattr(watcher, "_test", lambda plan, r, w, level, rng: (level, 1))
    words = ("year", "--hours", 3, "--rows", "independent", "--episodes", 1, "--no-peers")
    kept = tmp_path / "kept" / "years.jsonl"
    first = bench(*words, "--years", 2, "--results", kept)
    assert first.exit_code == 0, first.output
    assert sorted(asked) == [0, 1] + 3 * [100_000]
    assert bench(*words, "--years", 2, "--results", kept).output.count("everfit: year") == 0
    assert len(asked) == 5
    kept.write_text(kept.read_text().rstrip("\n")[:-9])
    again = bench(*words, "--years", 3, "--results", kept)
    assert again.exit_code == 0, again.output
    assert sorted(asked[5:]) == [2, 100_000]
    table = bench(*words, "--years", 200, "--results", kept, "--tabulate")
    assert table.exit_code == 0, table.output
    assert len(asked) == 7
    assert bench(*words, "--tabulate").exit_code == 2


def test_the_commands_print_and_write(tmp_path, monkeypatch):
    monkeypatch.setattr(level, "TESTS", ("KS, Bonferroni",))
    out = tmp_path / "level.json"
    result = bench("level", "--repetitions", 20, "--rows", 30, "--json", out, "--no-peers")
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())[0]["test"] == "KS, Bonferroni"
    assert bench("speed", "--up-to", 3).exit_code == 2
    wrong = bench("level", "--only", "nothing like it")
    assert wrong.exit_code == 2
    assert "KS, Bonferroni" in wrong.output
    assert bench("levels").exit_code == 2


@pytest.fixture
def reviews(monkeypatch):
    """Two corpora of made-up words, in the place of the files."""
    from tests.benchmarks.drift import text_years, texts

    def corpus(name):
        rng = np.random.default_rng(len(name))
        codes = rng.integers(2, size=600)
        said = [f"{name}{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(6)]
        drawn = rng.choice(said, size=(600, 12))
        return np.array([" ".join(row) for row in drawn], dtype=object), codes

    for module in (texts, text_years):
        monkeypatch.setattr(module, "corpus", corpus)


def test_witnesses_of_texts_are_counted(reviews):
    from tests.benchmarks.drift import texts

    found = bench("text", "--repetitions", 12, "--power", 0, "--rows", 60, "--permutations", 99,
                  "--only", "vocab", "--only", "lacks", "--years", 0, "--episodes", 0)  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "nothing changes" in found.output
    common = {"slow": 1, "rows": 150, "permutations": 99, "seed": 0, "say": lambda text: None}
    rows = texts.power(tests=("everfit vocabulary",), repetitions=3, at=0.01, **common)
    by = {row["change"]: row["everfit vocabulary"] for row in rows}
    assert by["20 % about films"] > 0.5
    assert by["praise in 70 % of the texts, not 50 %"] == 0


def test_days_of_texts_are_watched_by_the_budget(reviews):
    from tests.benchmarks.drift.text_years import Plan, watch

    plan = Plan(days=1, per_day=200, reference=300)
    quiet = watch(plan, 0)
    assert (quiet["mmd"], quiet["both"], quiet["checks"]) == (0, 0, 1)
    assert watch(plan, 0, share=0.6, until=True)["first both"] == 1
