"""The report and the pictures of a made replay: complete, self-contained, and honest."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from deployments.demo import axes, drawing, mails, picture, report
from deployments.demo import flights as fl
from deployments.demo.scoreboard import EVERFIT, FROZEN, WEEKLY, Scoreboard, headline
from deployments.demo.story import Check, Retrain, Story, check_of, write_json
from monitoring.records import Action, Decision, Kind, Signal, Signals, Window

START = fl.YEAR_STARTS + 28 * fl.DAY


def made_story(days=112, seed=4, retrains=((9, True), (30, False), (52, True), (87, True))):
    """A replay in which the world moves, with the retrains given as (day, passed)."""
    rng = np.random.default_rng(seed)
    board = Scoreboard(days)
    skill = 0.75
    for day in range(days):
        skill = 1.0 if (day, True) in retrains else skill - 0.004
        level = -1.3 + 0.7 * np.sin(day / 20) + rng.normal(scale=0.4)
        x = rng.normal(size=60) * 1.2
        y = (rng.random(60) < 1 / (1 + np.exp(-x - level))).astype(float)
        said = {FROZEN: x * 0.5 - 1.3, WEEKLY: x + 0.9 * level - 0.1, EVERFIT: skill * x + level}
        board.add(day, y, {name: 1 / (1 + np.exp(-odds)) for name, odds in said.items()})
    by_day = dict(retrains)
    checks, made = [], []
    for day in range(days):
        time = START + timedelta(days=day + 1)
        drift = 0.15 + 0.25 * abs(np.sin(day / 20)) + rng.normal(scale=0.06)
        acted = day in by_day
        window = f"flights-v{1 + len(made)}-{time:%Y%m%dT%H%M%SZ}"
        checks.append(
            Check(
                day=day,
                time=time,
                window_id=window,
                version=str(1 + len(made)),
                action="retrain" if acted else "keep",
                rule="confirmed drift" if acted else "quiet",
                reasons=(
                    ("MMD p = 0.001 < 0.005 on 3 of 3 windows", "2,310 new labels")
                    if acted
                    else ("no confirmed breach",)
                ),
                mmd=None if day % 31 == 5 else max(10 * drift - 1, 0.0),
                mmd_p_value=None if day % 31 == 5 else float(10 ** -min(3, drift * 7)),
                mmd_alarmed=bool(day % 31 != 5 and drift * 7 >= 2.3),
                drifted_share=float(np.clip(drift, 0, 1)),
                report=f"reports/{window}.html" if drift > 0.3 else None,
            )
        )
        if acted:
            made.append(
                Retrain(
                    number=len(made) + 1,
                    day=day,
                    time=time,
                    window_id=window,
                    rule="confirmed drift",
                    reasons=checks[-1].reasons,
                    passed=by_day[day],
                    verdict="gain 0.031 per row, interval 0.012 to 0.049, above 0"
                    if by_day[day]
                    else "interval -0.004 to 0.011 does not clear 0: the champion stays",
                    version=str(len(made) + 2),
                    seconds=6.4,
                    trials=6,
                    warm=True,
                    gain=0.031 if by_day[day] else 0.003,
                    low=0.012 if by_day[day] else -0.004,
                    high=0.049 if by_day[day] else 0.011,
                    gate_rows=2000,
                )
            )
    table = board.table(resamples=200)
    weekly = (days - 1) // 7
    return Story(
        world=fl.WORLD.name,
        words=fl.WORLD.words,
        texts=fl.WORLD.texts,
        start=START,
        days=days,
        first_rows=23886,
        first=fl.WORLD.first,
        requests=days * 19,
        rows=days * 62,
        unlabelled=days * 2,
        weeks=tuple(board.by_week()),
        checks=tuple(checks),
        retrains=tuple(made),
        table=table,
        weekly_retrains=weekly,
        training_seconds={FROZEN: 0.0, WEEKLY: 14.2, EVERFIT: 25.6},
        wall_seconds=212.0,
        p_value_limit=0.005,
        share_limit=0.5,
        gate_margin=0.0,
        window_days=1.0,
        headline=tuple(headline(table, len(made), weekly)),
    )


class Page(HTMLParser):
    """What the page refers to, what it names, and its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.text, self.loads = [], [], [], []
        self.open = []
        self.feed(text)
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in {"meta", "br"}:
            self.open.append(tag)
        if tag == "a":
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])
        self.loads += [v for k, v in attrs if k in {"src", "srcset"} or (tag == "link")]

    def handle_startendtag(self, tag, attrs):
        """SVG's own way to close."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)


@pytest.fixture(scope="module")
def story():
    return made_story()


def page_of(story, tmp_path):
    return Page(report.write(story, tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(story, tmp_path):
    text = report.write(story, tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not page.loads
    assert "url(" not in text
    assert not re.findall(r"https?://", text)
    assert len(page.ids) == len(set(page.ids))
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert inside
    assert set(inside) <= set(page.ids)


def test_every_decision_links_to_its_own_evidently_report_where_one_was_drawn(story, tmp_path):
    page = page_of(story, tmp_path)
    acted = [c for c in story.checks if c.action != "keep"]
    wanted = Counter(c.report for c in (*acted, *story.checks) if c.report)
    assert Counter(link for link in page.links if link.startswith("reports/")) == wanted
    assert any(c.report is None for c in story.checks)


def test_refusals_are_told_with_their_reason(story, tmp_path):
    page = page_of(story, tmp_path)
    refused = [r for r in story.retrains if not r.passed]
    assert page.words.count("Refused: the old model stays.") == len(refused) == 1
    assert refused[0].verdict in page.words
    assert "3 of 4 new models passed" in page.words
    assert page.words.count("from memory") >= len(story.retrains)


def test_results_of_all_three_and_the_headline_are_on_the_page(story, tmp_path):
    words = page_of(story, tmp_path).words
    for line in story.headline:
        assert line in words
    for figures in story.table.metrics.values():
        for value in figures.values():
            assert f"{value:.4f}" in words


def test_a_replay_without_retrains_says_so(tmp_path):
    page = page_of(made_story(14, retrains=()), tmp_path)
    assert "no rule found enough evidence" in page.words
    assert "each time it was to do nothing" in page.words
    assert not [i for i in page.ids if i.startswith("retrain-")]


def test_reasons_are_escaped(tmp_path):
    story = made_story(14, retrains=((9, True),))
    hostile = replace(story.retrains[0], reasons=('<script>alert("x")</script>',))
    text = report.write(replace(story, retrains=(hostile,)), tmp_path / "report.html").read_text(
        encoding="utf-8"
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_drawing_marks_each_retrain_at_its_day(story):
    svg = ElementTree.fromstring(drawing.draw(story))
    numbers = [a for a in svg.iter("a") if a.get("class", "").startswith("number")]
    assert [a.get("href") for a in numbers] == [f"#retrain-{r.number}" for r in story.retrains]
    lines = [e for e in svg.iter("line") if e.get("class", "").startswith("retrain")]
    inner = drawing.WIDTH - drawing.LEFT - drawing.RIGHT
    for retrain, line in zip(story.retrains, lines, strict=True):
        day = (float(line.get("x1")) - drawing.LEFT) / inner * story.days
        assert day == pytest.approx(retrain.day + 1, abs=0.1)
        assert ("refused" in line.get("class")) is not retrain.passed


def test_days_on_which_the_test_could_not_speak_have_no_mark(story):
    svg = ElementTree.fromstring(drawing.draw(story))
    marks = [g for g in svg.iter("g") if g.get("class") in {"calm", "alarmed"}]
    spoke = sum(c.mmd_p_value is not None for c in story.checks)
    assert spoke < story.days
    assert len(marks) == spoke + story.days


def test_of_texts_the_unseen_words_have_a_strip_and_those_that_moved_are_named(tmp_path):
    flat = made_story(14, retrains=((9, True),))
    checks = tuple(
        replace(c, unseen=0.02 + 0.01 * c.day, unseen_alarmed=c.day > 6, words=("body: <more> x",))
        for c in flat.checks[:-1]
    )
    told = replace(
        flat, texts=("body",), words=mails.WORLD.words, checks=(*checks, flat.checks[-1])
    )
    svg = drawing.draw(told)
    assert svg.count("of the words</title>") == 13
    assert axes.UNSEEN_TITLE in svg
    assert axes.UNSEEN_TITLE not in drawing.draw(flat)
    page = page_of(told, tmp_path)
    assert "body: <more> x" in page.words
    assert "Spam, kept out" in page.words
    assert "flight" not in page.words
    a, b = (picture.draw(s, tmp_path / "p.png").stat().st_size for s in (told, flat))
    assert a > b


def test_the_png_is_wide_enough_and_grows_with_the_list_of_retrains(story, tmp_path):
    def size(path):
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        return struct.unpack(">II", head[16:24])

    width, height = size(picture.draw(story, tmp_path / "a.png"))
    assert width == 1800
    _, without = size(picture.draw(made_story(14, retrains=()), tmp_path / "b.png"))
    assert height > without


def test_json_has_the_stable_keys_and_the_two_headline_ratios(story, tmp_path):
    path = write_json(story, tmp_path / "deep" / "table.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    assert set(table) == {
        "schema", "replayed", "table", "differences", "headline", "retrains", "weeks", "checks",
        "interval", "wall_seconds",
    }  # fmt: skip
    for name in ("frozen", "weekly", "everfit"):
        assert set(table["table"][name]) == {
            "log_loss", "roc_auc", "error", "retrains", "training_seconds",
        }  # fmt: skip
    loss = {name: row["log_loss"] for name, row in table["table"].items()}
    gain = (loss["frozen"] - loss["everfit"]) / (loss["frozen"] - loss["weekly"])
    assert table["headline"]["gain_share"] == pytest.approx(gain)
    assert table["headline"]["retrain_share"] == pytest.approx(4 / 15)
    assert len(table["differences"]) == 9


def test_a_check_takes_the_drift_figures_and_the_relative_report_from_the_decision(tmp_path):
    window = Window("w1", "flights", "3", START, START + fl.DAY, 900, 700)
    items = (
        Signal("mmd", Kind.DRIFT, True, value=0.02, p_value=0.004),
        Signal("evidently", Kind.DRIFT, False, value=0.25, p_value=None),
        Signal("log_loss", Kind.PERFORMANCE, False, value=0.5),
    )
    page = tmp_path / "demo" / "reports" / "w1.html"
    decision = Decision(
        "w1", START, Action.KEEP, "watched", ("one day",), Signals(window, items, str(page))
    )
    check = check_of(decision, 5, tmp_path / "demo")
    assert (check.mmd_alarmed, check.mmd_p_value, check.drifted_share) == (True, 0.004, 0.25)
    assert check.mmd == pytest.approx(2.398, abs=1e-3)
    assert check.report == "reports/w1.html"
    silent = (Signal("mmd", Kind.DRIFT, None, reason="12 rows, 300 are needed"),)
    decision = replace(decision, signals=Signals(window, silent))
    assert check_of(decision, 5, tmp_path).mmd_p_value is None
    assert check_of(decision, 5, tmp_path).report is None
