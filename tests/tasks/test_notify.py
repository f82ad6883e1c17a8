"""Telling people, over real HTTP and SMTP: one sentence, once, and never at the cost of a flow."""

from __future__ import annotations

import logging
import shutil
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from types import SimpleNamespace

import pytest

from monitoring import notices
from monitoring.records import Label
from tasks import conditions, events, notify, places, telling
from tasks.config import ConfigFault, load
from tasks.config_notify import WORDS, Notify
from tests.receivers import http_receiver

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PROMOTED = {"version": "7", "why": "log loss is < 0.4 & lower by 0.02"}


@pytest.fixture
def inbox():
    with http_receiver() as made:
        yield made


@pytest.fixture
def config(tiny_config):
    return load(tiny_config)


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """As in a process that knows no Prefect server: there is nobody to hand an event to."""
    monkeypatch.setattr(events, "_handed_over", lambda *_: False)


def telling_of(config, *entries):
    return config.model_copy(update={"notify": [Notify.model_validate(e) for e in entries]})


def test_a_webhook_and_slack_are_told_once_in_one_sentence(config, inbox, monkeypatch):
    monkeypatch.setenv("HOOK", inbox.url)
    monkeypatch.setenv("SLACK", inbox.url + "/slack")
    monkeypatch.setattr(telling, "link", lambda *_: "http://page/runs/1")
    config = telling_of(
        config,
        {"on": ["promoted", "decision"], "to": {"webhook": "HOOK"}},
        {"on": ["promoted"], "to": {"slack": "SLACK"}},
        {"on": ["refused"], "to": {"webhook": "HOOK"}},
    )
    began = time.time()
    for _ in range(2):  # a process that died after it had told comes again
        events.emit(config, "everfit.promoted", PROMOTED, key="w7")
    events.emit(config, "everfit.decision.keep", {"why": "healthy"}, key="w8")
    (came, path, told), (_, _, slack) = inbox.posts
    said = "tiny: version 7 is the champion now: log loss is < 0.4 & lower by 0.02"
    assert (path, told["event"], told["message"]) == ("/hook", "everfit.promoted", said)
    assert (told["model"], told["payload"]["version"]) == ("tiny", "7")
    escaped = said.replace("&", "&amp;").replace("<", "&lt;")
    assert slack == {"text": f"{escaped} <http://page/runs/1|look>"}
    assert came - began < 5


def test_a_receiver_that_fails_costs_a_warning_without_its_secret(
    config, inbox, monkeypatch, caplog
):
    inbox.status = 500
    monkeypatch.setenv("HOOK", inbox.url + "?token=very-secret")
    entry = {"on": list(WORDS), "to": {"webhook": "HOOK"}}
    config = telling_of(config, entry, {**entry, "to": {"slack": "UNSET"}})
    with caplog.at_level(logging.WARNING):
        events.emit(config, "everfit.promoted", PROMOTED, key="w7")
    assert len(inbox.posts) == 2  # it was tried twice
    assert "HOOK answered 500" in caplog.text
    assert "UNSET, which is not set" in caplog.text
    assert "very-secret" not in caplog.text
    inbox.status = 200
    events.emit(config, "everfit.promoted", PROMOTED, key="w7")  # it was not told yet
    assert len(inbox.posts) == 3
    monkeypatch.setenv("HOOK", "file:///etc/passwd")
    with pytest.raises(notify.NotDelivered, match="must begin with https://"):
        notify.deliver(config.notify[0].to, "everfit.promoted", PROMOTED)


def test_what_automations_tell_is_not_told_twice_unless_the_server_is_gone(
    config, inbox, monkeypatch
):
    monkeypatch.setenv("HOOK", inbox.url)
    config = telling_of(config, {"on": ["promoted"], "to": {"webhook": "HOOK"}})
    server = [notify.channel(config.notify[0])]
    monkeypatch.setattr(notify, "told_by_server", lambda _: server)
    monkeypatch.setattr(events, "_handed_over", lambda *_: True)
    events.emit(config, "everfit.promoted", PROMOTED)
    assert inbox.posts == []
    monkeypatch.setattr(events, "_handed_over", lambda *_: False)  # the server does not answer
    events.emit(config, "everfit.promoted", PROMOTED)
    assert len(inbox.posts) == 1
    server.clear()  # of a plain `everfit watch`
    monkeypatch.setattr(events, "_handed_over", lambda *_: True)
    events.emit(config, "everfit.promoted", PROMOTED)
    assert len(inbox.posts) == 2


def test_mail_goes_by_a_real_server(config, monkeypatch, free_port):
    from aiosmtpd.controller import Controller

    came = []

    class Keep:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
            came.append(envelope)
            return "250 kept"

    controller = Controller(Keep(), hostname="127.0.0.1", port=free_port)
    controller.start()
    monkeypatch.setenv(notify.SMTP, f"smtp://127.0.0.1:{free_port}")
    monkeypatch.setenv(notify.SENDER, "loop@example.com")
    monkeypatch.setattr(telling, "link", lambda *_: "http://page/x")
    config = telling_of(
        config, {"on": ["approval needed"], "to": {"email": ["a@example.com", "b@example.com"]}}
    )
    asked = {"version": "7", "until": "2024-05-08T12:00:00+00:00", "why": "it gains 0.02"}
    try:
        events.emit(config, "everfit.approval.needed", asked, key="7")
    finally:
        controller.stop()
    (envelope,) = came
    assert envelope.rcpt_tos == ["a@example.com", "b@example.com"]
    mail = message_from_bytes(envelope.content, policy=default)
    assert mail["from"] == "loop@example.com"
    assert mail["subject"].startswith("[everfit] tiny: version 7 passed its gate and waits for a")
    text = mail.get_content()
    assert "until 2024-05-08T12:00: it gains 0.02; `everfit approve tiny 7 --why ...`" in text
    assert "http://page/x" in text
    with pytest.raises(notify.NotDelivered, match="EVERFIT_SMTP_URL: ConnectionRefusedError"):
        notify.deliver(config.notify[0].to, "everfit.approval.needed", asked)


def test_each_condition_is_told_once_while_it_lasts(config, inbox, monkeypatch):
    monkeypatch.setenv("HOOK", inbox.url)
    words = ["no labels", "watch late", "disk low"]
    config = telling_of(config, {"on": words, "to": {"webhook": "HOOK"}})
    free = [400.0]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(total=1e12, free=free[0] * 1e9, used=0)
    )
    look = conditions.look.fn
    with places.telemetry(config) as store:
        store.label([Label("a", "late", NOW)])
    assert look(config, NOW + DAY) == []
    (said,) = look(config, NOW + 8 * DAY)
    assert said == "no label has come for 8 days, at most 7 days are allowed"
    assert look(config, NOW + 9 * DAY) == []
    free[0] = 12.0
    (said,) = look(config, NOW + 9 * DAY)
    assert "has 12.0 GB free (1.2%), 50.0 GB are asked for" in said
    free[0] = 55.0  # a little more: the same episode
    assert look(config, NOW + 10 * DAY) == []
    with places.telemetry(config) as store:
        store.label([Label("b", "late", NOW + 10 * DAY)])
        assert notices.is_open(store.database, config.name, "disk.low")
    free[0] = 200.0
    assert look(config, NOW + 10 * DAY) == []
    assert len(look(config, NOW + 20 * DAY)) == 1  # the labels have stopped again: told again
    told = [body["event"] for body in inbox.wait(3)]
    assert told == ["everfit.labels.silent", "everfit.disk.low", "everfit.labels.silent"]
    with places.telemetry(config) as store:
        kept = notices.newest(store.database, config.name, ["labels.silent", "disk.low"])
    assert [(n["kind"], n["ended"] is None) for n in kept] == [
        ("labels.silent", False),
        ("disk.low", False),
        ("labels.silent", True),
    ]


@pytest.mark.parametrize(
    ("cron", "hours", "is_late"),
    [("0 6 * * *", 47, False), ("0 6 * * *", 49, True), ("*/5 * * * *", 0.15, False),
     ("*/5 * * * *", 0.2, True), ("0 6 * * 1", 24 * 13, False), ("0 6 * * 1", 24 * 15, True)],
)  # fmt: skip
def test_a_watch_is_late_after_twice_its_interval(cron, hours, is_late):
    checked = datetime(2024, 4, 29, 6, 0, 4, tzinfo=UTC)  # a Monday; the check took 4 s to begin
    found = conditions.late(cron, checked, checked + timedelta(hours=hours))
    assert (found.why is not None) == is_late


def test_every_event_for_people_has_a_sentence_and_every_word_an_event(config):
    for name in telling.TOLD:
        assert name in events.NAMES
        said = telling.sentence(name, {"model": "m", "version": "7", "why": "because " * 500})
        assert said.startswith("m: ")
        assert len(said) <= 1_000
    assert set(telling.TOLD.values()) == set(WORDS)


def test_a_secret_in_the_config_is_refused_and_not_shown(tiny_config):
    text = tiny_config.read_text()
    tiny_config.write_text(text + "notify:\n- {on: [promoted], to: {slack: 'https://h/T0P'}}\n")
    with pytest.raises(ConfigFault, match=r"notify\.0\.to\.slack: the URL is a secret") as fault:
        load(tiny_config)
    assert "T0P" not in str(fault.value)
    tiny_config.write_text(text + "notify:\n- {on: [promoted], to: {slack: EVERFIT_SLACK}}\n")
    assert str(load(tiny_config).notify[0].to) == "slack EVERFIT_SLACK"
