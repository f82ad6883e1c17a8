"""The mails of the second demo: as they are packed, as a model meets them, how they were made."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from deployments.demo import mails, mails_build, run
from deployments.demo.client import Client
from deployments.demo.world import between
from models.errors import DataFault
from tasks.config import load

MAIL = b"""\
From admin@lists.example  Thu Aug 22 12:36:23 2002
Received: from mx.example ([10.0.0.1]) by home.example; Thu, 22 Aug 2002 08:36:16 -0400 (EDT)
Received: from a.example ([10.0.0.2]) by mx.example; Wed, 21 Aug 2002 01:00:00 +0000
From: Jo <jo@people.example>
Subject: =?iso-8859-1?q?caf=E9?= FREE
Date: Mon, 01 Jan 2020 00:00:00 +0000
%b
"""
HTML = b"""Content-Type: text/html; charset=utf-8

<html><style>p {color: red}</style><!-- hidden -->
<p>Write to&nbsp;jo@people.example <img src="http://x.example/i.gif"> or
<a href="http://x.example">see</a> it</p></html>"""


@pytest.fixture(scope="module")
def rows():
    return mails.load()


def test_the_packed_mails_are_small_and_in_order_of_arrival(rows):
    assert mails.FILE.stat().st_size < 2_000_000
    assert len(rows) == 6046
    assert rows["time"].is_monotonic_increasing
    assert rows["id"].is_unique
    assert set(rows["label"].dropna()) == {0, 1}
    texts = rows["subject"] + " " + rows["body"]
    assert texts.str.len().max() <= mails_build.SUBJECT + mails_build.BODY + 1
    assert not texts.str.contains(r"[\w.]@\w+\.\w", regex=True).any()  # nobody's address


def test_the_share_of_spam_and_the_words_really_change(rows):
    labelled = rows[rows["label"].notna()]
    share = labelled.groupby(labelled["time"].dt.strftime("%Y-%m"))["label"].mean()
    assert share["2002-06"] > 0.9
    assert 0.1 < share["2002-08"] < 0.3
    assert share["2002-10"] < 0.02
    replayed = between(rows, mails.START, mails.END)
    assert len(replayed) == 4_272
    known = set(" ".join(rows["body"][rows["time"] < mails.START]).split())

    def unknown(part):
        words = " ".join(part["body"]).split()
        return np.mean([word not in known for word in words])

    later = mails.START + timedelta(days=56)
    first_week = between(rows, mails.START, mails.START + timedelta(days=7))
    assert unknown(between(rows, later, mails.END)) > 1.1 * unknown(first_week)


def test_labels_come_later_by_the_hour_and_some_never(rows):
    lag = (rows["arrived"] - rows["time"]).dt.total_seconds() / 3600
    assert lag.min() >= 0
    assert lag.mean() == pytest.approx(mails.LABEL_HOURS, rel=0.05)
    assert rows["label"].isna().mean() == pytest.approx(mails.NEVER_SORTED, abs=0.01)
    assert (rows["arrived"].isna() == rows["label"].isna()).all()
    day = mails.START
    table = mails.WORLD.table(rows, day)
    known = (rows["time"] < day) & (rows["arrived"] <= day)
    assert len(table) == known.sum()
    assert set(table["label"]) == {"ham", "spam"}


@pytest.mark.parametrize("quick", [False, True])
def test_its_config_is_valid_and_names_every_input(rows, tmp_path, quick):
    path = run.write_inputs(mails.WORLD, rows, tmp_path, 8124, seed=3, quick=quick)
    config = load(path)
    assert tuple(config.data.columns) == mails.INPUTS
    assert config.texts == mails.TEXTS
    assert set(config.watched) == {*mails.CATEGORIES, *mails.NUMBERS}
    assert (config.serving.port, config.train.seed) == (8124, 3)
    assert pd.read_parquet(config.data.source)["time"].max() < pd.Timestamp(mails.START)


def test_the_client_sends_texts_and_tells_labels_by_their_names(rows):
    bodies = []

    def handler(request):
        bodies.append(json.loads(request.content))
        said = [{"label": "ham", "probability_ham": 0.7, "probability_spam": 0.3}] * 3
        return httpx.Response(200, json={"model_version": "2", "predictions": said})

    client = Client(mails.WORLD, "http://server", lambda start, end: 0)
    client._http = httpx.Client(base_url="http://server", transport=httpx.MockTransport(handler))
    three = rows[rows["label"].notna()].iloc[1500:1503]
    assert client.ask(three).positive.tolist() == [0.3] * 3
    client.tell(three)
    asked, told = bodies
    split = asked["dataframe_split"]
    at = split["columns"].index("body")
    assert [row[at] for row in split["data"]] == three["body"].tolist()
    wanted = ["spam" if y else "ham" for y in three["label"]]
    assert [label["label"] for label in told["labels"]] == wanted


def test_a_missing_file_is_named_with_its_remedy(tmp_path):
    with pytest.raises(DataFault, match=r"no such file: restore it"):
        mails.load(tmp_path / "mails.csv.gz")


def test_a_mail_arrives_when_the_readers_own_machine_says_so():
    row = mails_build.mail(MAIL % b"\nhello jo@people.example\n")
    assert row["arrived"] == "2002-08-22T12:36:16Z"  # not the sender's date
    assert row["subject"] == "café FREE"
    assert row["capitals"] == "0.50"
    assert (row["body"], row["form"], row["links"]) == ("hello (address)", "plain", "0")


def test_html_is_taken_off_and_counted():
    row = mails_build.mail(MAIL % HTML)
    assert row["body"] == "Write to (address) or see it"
    assert (row["form"], row["links"], row["pictures"]) == ("html", "2", "1")
    called_plain = mails_build.mail(MAIL % HTML.replace(b"text/html", b"text/plain"))
    assert called_plain["body"] == row["body"]


def test_the_same_package_gives_the_same_bytes(tmp_path):
    folder = tmp_path / "package" / "data" / "spam-1"
    folder.mkdir(parents=True)
    for number in (2, 1):
        name = f"{number:05d}.{number:032x}.txt"
        (folder / name).write_bytes(MAIL % b"\nhello\n")
    files = [tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"]
    assert [mails_build.write(tmp_path / "package", file) for file in files] == [2, 2]
    assert files[0].read_bytes() == files[1].read_bytes()
    head, first, *_ = gzip.decompress(files[0].read_bytes()).decode().splitlines()
    assert head.split(",") == list(mails_build.HEADER)
    assert first.endswith(",spam")
