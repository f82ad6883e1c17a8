"""Drift of text columns: what sees it, what it says, and what it must never say."""

import json
import logging
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring import causes, policy
from monitoring.drift import mmd_signal
from monitoring.evidence import Evidence, Settings
from monitoring.explain import Told, page
from monitoring.explain import text as as_text
from monitoring.measure import measure
from monitoring.records import Kind, Window, to_dict
from monitoring.rules import Rules
from monitoring.shift import shift_test
from monitoring.text.points import placed, points
from monitoring.text.readable import cloud, readable
from monitoring.text.signal import sentences, vocabulary_signal
from monitoring.text.vocabulary import compare
from monitoring.text.words import words
from monitoring.wording import say

NOW = datetime(2026, 1, 8, tzinfo=UTC)


def mails(rows, rng, fresh="", share=0.0, topics=(0.5, 0.5)):
    """Texts of some 30 words of two topics; `fresh` stands at the end of a `share` of them."""
    common = [f"w{'abcdefghij'[i % 10]}{chr(97 + i // 10)}" for i in range(200)]
    weights = 1 / np.arange(1, 201)
    found = []
    for topic in rng.choice(2, size=rows, p=topics):
        drawn = rng.choice(200, size=rng.integers(15, 45), p=weights / weights.sum())
        own = rng.integers(0, 40, size=6)
        said = [common[i] for i in drawn] + [f"topic{'xy'[topic]}{chr(97 + i % 26)}" for i in own]
        found.append(" ".join(said))
    for i in np.flatnonzero(rng.random(rows) < share):
        found[i] = f"{found[i]} {fresh}"
    return found


def frame(rows=300, seed=0, start=NOW - timedelta(days=1), **options):
    rng = np.random.default_rng(seed)
    times = pd.to_datetime(start) + pd.to_timedelta(np.sort(rng.uniform(0, 24, rows)), unit="h")
    return pd.DataFrame({"body": mails(rows, rng, **options), "time": times})


REFERENCE = frame(600, seed=1, start=NOW - timedelta(days=30))
NOVEL = "Verzoging quellbert 0800-5550199"


@pytest.fixture(scope="module")
def moved():
    return frame(seed=5, fresh=NOVEL, share=0.4)


def test_words_are_read_alike_in_every_script():
    wide = "\uff26\uff52\uff45\uff45 don\u2019t \u00c9T\u00c9 x_y 12.50"
    assert words(wide) == ["free", "don't", "\u00e9t\u00e9", "x", "y", "0", "0"]
    assert words("\u4eca\u65e5 \u0e44\u0e17\u0e22") == list("\u4eca\u65e5\u0e44\u0e17\u0e22")
    assert words("") == words(" _ \n") == []


def test_points_know_neither_order_nor_side():
    """What makes the level exact: shuffled over both sides, rows keep their places to the digit."""
    rng = np.random.default_rng(0)
    texts = [*mails(120, rng), "twice the same", "twice the same", ""]
    order = rng.permutation(len(texts))
    here, there = points(texts), points([texts[i] for i in order])
    assert np.array_equal(here[order], there)
    assert np.array_equal(here[-3], here[-2])
    assert here.shape == (123, 20)
    assert np.ptp(here[:, :4], axis=0).min() > 0.1


@pytest.mark.parametrize("texts", [[""] * 9, ["same words here"] * 60, ["a", "b", "c d"], []])
def test_points_of_texts_that_say_nothing(texts):
    found = points(texts)
    assert found.shape[0] == len(texts)
    assert np.isfinite(found).all()


def test_the_level_of_both_witnesses_is_kept():
    """Where nothing changed the shift test's p-values are uniform, and the vocabulary is quiet."""
    p_values, breaches = [], 0
    for seed in range(40):
        rng = np.random.default_rng([seed, 2])
        x, y, kinds = placed(
            pd.DataFrame({"body": mails(60, rng)}),
            pd.DataFrame({"body": mails(60, rng)}),
            {"body": "text"},
        )
        found = shift_test(x, y, permutations=39, seed=seed, kinds=kinds, explain=False)
        p_values.append(found.p_value)
        breaches += compare(mails(60, rng), mails(60, rng), seed=seed).p_value <= 0.01
    rejected = (np.array(p_values)[:, None] <= [0.05, 0.1, 0.5]).mean(axis=0)
    assert rejected == pytest.approx([0.05, 0.1, 0.5], abs=0.15)
    assert breaches <= 3


def test_new_words_are_seen_and_named(moved):
    signal = vocabulary_signal(REFERENCE, moved, ["body"])
    assert signal.breached is True
    assert signal.low < signal.value < signal.high
    assert signal.detail["effect"] == pytest.approx(0.4, abs=0.1)
    found = signal.detail["columns"]["body"]
    assert found["unseen_before"] < 0.01 < found["unseen_now"]
    assert {"quellbert", "verzoging"} <= {term["word"] for term in found["terms"]}
    assert all(term["before"] == 0 and 0.3 < term["now"] < 0.5 for term in found["terms"][:2])
    told = sentences(signal.detail)
    assert any("more texts with" in line and "'quellbert' 0 % -> " in line for line in told)
    json.dumps(to_dict(signal), allow_nan=False)
    assert not {"quellbert", "verzoging"} & set(say(signal).lower().split())


def test_mixed_topics_move_without_a_new_word():
    current = frame(seed=6, topics=(0.85, 0.15))
    signal = vocabulary_signal(REFERENCE, current, ["body"])
    assert signal.breached is True
    assert signal.detail["columns"]["body"]["unseen_p_value"] > 0.01
    assert signal.detail["effect"] > 0.1
    assert mmd_signal(REFERENCE, current, {"body": "text"}).breached is True


def test_the_form_is_seen_where_words_stay():
    cut = frame(seed=7).assign(body=lambda f: f["body"].str.upper())
    signal = vocabulary_signal(REFERENCE, cut, ["body"])
    assert signal.breached is True
    told = " ".join(sentences(signal.detail))
    assert "body: median share of capitals 0 % -> 79 %" in told, told


def test_numbers_and_rare_words_are_never_named(moved):
    """A word that fewer than ten texts hold may be a person's; a figure is only ever a zero."""
    signal = vocabulary_signal(REFERENCE, moved, ["body"])
    named = {term["word"] for term in signal.detail["columns"]["body"]["terms"]}
    assert "0" in named
    assert not any(character in word for word in named for character in "123456789")
    few = moved.head(200).assign(body=moved["body"].head(200).str.replace("quellbert", ""))
    few.loc[few.index[:9], "body"] += " geheimnis" * 3
    told = vocabulary_signal(REFERENCE.head(200), few, ["body"]).detail["columns"]["body"]
    assert "geheimnis" not in json.dumps(told)


def test_no_word_is_named_where_none_may_be(moved):
    signal = vocabulary_signal(REFERENCE, moved, ["body"], name_words=False)
    assert signal.breached is True
    assert "quellbert" not in json.dumps(to_dict(signal))
    first, *rest = sentences(signal.detail)
    assert first == "body: words never seen 0 % -> 5 %"
    assert all("median length" in line or "median share" in line for line in rest)


def test_one_burst_is_no_new_world():
    """The same letter, sent many times in one hour, is one event by any test with times."""
    burst = frame(seed=8)
    hour = (burst["time"] >= burst["time"].iloc[100]) & (np.arange(len(burst)) < 130)
    burst.loc[hour, "body"] = burst["body"].iloc[100] + " quellbert" * 4
    without = burst.drop(columns="time")
    known = compare(list(REFERENCE["body"]), list(without["body"]))
    assert "quellbert" in {t.word for t in known.terms}
    signal = vocabulary_signal(REFERENCE, burst, ["body"])
    found = {t["word"]: t["burst"] for t in signal.detail["columns"]["body"]["terms"]}
    assert found["quellbert"] is True
    assert signal.detail["columns"]["body"]["moved"] == sum(not b for b in found.values())
    assert any("more texts in bursts with" in line for line in sentences(signal.detail))


@pytest.mark.parametrize(
    ("current", "texts", "reason"),
    [
        (frame(20), ["body"], "at least 200"),
        (frame(), [], "no column of text"),
        (frame().drop(columns="body"), ["body"], "lack ['body']"),
    ],
)
def test_what_cannot_be_read_is_no_word_for_no_drift(current, texts, reason):
    signal = vocabulary_signal(REFERENCE, current, texts)
    assert signal.breached is None
    assert reason in signal.reason


def test_missing_and_foreign_values_are_read():
    odd = frame(seed=9)
    odd["body"] = odd["body"].astype(object)
    odd.loc[::2, "body"] = None
    odd.loc[1::4, "body"] = 12.5
    for signal in (
        vocabulary_signal(REFERENCE, odd, ["body"]),
        mmd_signal(REFERENCE, odd, {"body": "text"}),
    ):
        assert signal.breached is True


WINDOW = Window("w1", "mail", "1", NOW - timedelta(days=1), NOW, 300, 0)
TEXT = {"columns": {}, "texts": ["body"], "classes": [0, 1]}


def checked(current, **settings):
    return measure(
        WINDOW,
        Evidence(REFERENCE, current, current.head(0)),
        Settings(**{**TEXT, **settings}),
        NOW,
    )


def decided(signals, rules):
    state = policy.PolicyState.from_dict({})
    state = policy.after_retrain(state, True, NOW - timedelta(days=30))
    return policy.decide(signals, policy.observe(state, signals, NOW, rules), NOW, rules)


def test_drift_of_text_retrains_and_is_explained(moved, caplog):
    caplog.set_level(logging.DEBUG)
    rules = Rules(confirmations=1, minimum_new_labels=0, minimum_growth=0)
    signals = checked(moved, rules=rules)
    by = {s.name: s for s in signals.items if s.kind is Kind.DRIFT}
    assert {name: s.breached for name, s in by.items()} == {
        "mmd": True,
        "vocabulary": True,
        "domain_classifier": True,
    }
    decision = decided(signals, rules)
    assert (decision.action.value, decision.rule) == ("retrain", "drift")
    assert any("words never seen" in reason for reason in decision.reasons)
    told = as_text(page(Told(decision)))
    assert "what moved" in told
    assert "'quellbert' 0 %" in told
    said = " ".join([*decision.reasons, *decision.alerts, *map(str, decision.nearly), caplog.text])
    assert "quellbert" not in said.lower()
    assert "5550199" not in told + said


def test_a_quiet_window_of_text_is_healthy():
    decision = decided(checked(frame(seed=11)), Rules())
    assert (decision.action.value, decision.rule) == ("keep", "healthy"), decision.reasons


def test_half_seen_or_faint_drift_of_text_waits(moved):
    rules = Rules(confirmations=1)
    half = checked(frame(seed=13, fresh="quellbert", share=0.08), rules=rules, explain="never")
    assert {s.name: s.breached for s in half.of(Kind.DRIFT)} == {"mmd": False, "vocabulary": True}
    decision = decided(half, rules)
    assert decision.rule == "watched"
    assert any("when vocabulary and mmd both see it" in reason for reason in decision.reasons)
    assert any("MMD p <= 0.001" in near.missing for near in decision.nearly)
    faint = Rules(confirmations=1, minimum_effect=0.9)
    signals = checked(moved, rules=faint, explain="never")
    assert any("it is faint" in reason for reason in decided(signals, faint).reasons)


def test_text_that_is_not_stored_is_not_watched_and_that_is_said(moved):
    signals = checked(moved.drop(columns="body"), texts=[], unstored=["body"])
    (silent,) = signals.of(Kind.DRIFT)
    assert silent.breached is None
    assert silent.reason == "body is not stored (telemetry.never_store), so it cannot be watched"
    assert any("body is not stored" in reason for reason in decided(signals, Rules()).reasons)


def test_a_table_beside_the_text_is_watched_too(moved):
    rng = np.random.default_rng(3)
    sides = [
        f.assign(size=rng.normal(0 if f is REFERENCE else 1.5, 1, len(f)))
        for f in (REFERENCE, frame(seed=12))
    ]
    signals = measure(
        WINDOW,
        Evidence(sides[0], sides[1], moved.head(0)),
        Settings(columns={"size": "number"}, texts=["body"], classes=[0, 1], explain="never"),
        NOW,
    )
    by = {s.name: s.breached for s in signals.of(Kind.DRIFT)}
    assert by == {"mmd": True, "evidently": True, "vocabulary": False}
    assert causes.words(signals, Rules())["drift"] is True


def test_texts_of_a_day_are_permuted_together():
    """Days that each speak of their own matter are alike as days, and different text by text."""

    def days(kinds, start, fresh=""):
        parts = []
        for day, kind in enumerate(kinds):
            own = (0.9, 0.1) if kind == "x" else (0.1, 0.9)
            part = frame(20, seed=[day, start.day], start=start + timedelta(days=day), topics=own)
            parts.append(part.assign(body=part["body"] + fresh))
        return pd.concat(parts, ignore_index=True)

    old, new = days("xy" * 12, NOW - timedelta(days=60)), days("xxxxxxxyxx", NOW)
    common = {"columns": {"body": "text"}, "p_value": 0.02, "minimum_rows": 100}
    assert mmd_signal(old, new, **common).breached is True
    assert mmd_signal(old, new, **common, block=timedelta(days=1)).breached is False
    loud = days("xxxxxxxyxx", NOW, " quellbert verzoging")
    assert mmd_signal(old, loud, **common, block=timedelta(days=1)).breached is True


def test_a_picture_places_texts_beside_the_table(moved):
    both = [f.assign(size=np.arange(len(f))) for f in (REFERENCE, moved)]
    x, y = cloud(*both, {"size": "number"}, ["body"], 0)
    assert (len(x), len(y)) == (600, 300)
    assert x.shape[1] == y.shape[1] == 42  # a number and its gaps, for each of 21 columns
    assert np.isfinite(x).all()


def test_a_page_shows_the_words_that_moved(moved):
    signal = vocabulary_signal(REFERENCE, moved, ["body"])
    before, now, kinds = readable(REFERENCE, moved, {}, ["body"], signal.detail)
    assert kinds["body length"] == "number"
    assert kinds["body has 'quellbert'"] == "category"
    share = (now["body has 'quellbert'"] == "yes").mean()
    assert share == pytest.approx(0.4, abs=0.1)
    assert (before["body has 'quellbert'"] == "no").all()
    assert list(now.columns) == list(kinds)
