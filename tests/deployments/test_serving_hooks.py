"""Webhooks as MLflow's own code signs and sends them, and everything that is not one."""

from __future__ import annotations

import json
import time

import pytest
import requests
from mlflow.entities.webhook import Webhook, WebhookEvent
from mlflow.webhooks import delivery

from deployments.serving import hooks
from deployments.serving.app import create_app
from deployments.serving.errors import RequestFault
from deployments.serving.hooks import Hooks, signature
from tasks.config import ConfigFault

KEY = "0123456789abcdef"
NOW = 1_700_000_000.0
BODY = json.dumps({"entity": "model_version_alias", "data": {"name": "tiny"}}).encode()


def signed(body=BODY, key=KEY, moment=NOW, delivery_id="d-1"):
    moment = str(int(moment))
    return {
        "x-mlflow-delivery-id": delivery_id,
        "x-mlflow-timestamp": moment,
        "x-mlflow-signature": signature(key, delivery_id, moment, body),
    }


@pytest.fixture
def woken():
    return []


@pytest.fixture
def receiver(woken):
    return Hooks(KEY, "tiny", lambda: woken.append(1), clock=lambda: NOW)


def test_the_signature_is_mlflows():
    theirs = delivery._generate_hmac_signature(KEY, "d-1", "1700000000", BODY.decode())
    assert signature(KEY, "d-1", "1700000000", BODY) == theirs


def test_a_delivery_counts_once_and_for_its_own_model(receiver, woken):
    assert receiver.receive(signed(), BODY) == {"result": "woken"}
    assert receiver.receive(signed(), BODY) == {"result": "duplicate"}
    other = json.dumps({"data": {"name": "another"}}).encode()
    assert receiver.receive(signed(other, delivery_id="d-2"), other) == {"result": "ignored"}
    assert receiver.receive(signed(delivery_id="d-3"), BODY) == {"result": "woken"}
    assert len(woken) == 2


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (signed(key="another secret..."), BODY),
        (signed(), BODY + b" "),
        (signed() | {"x-mlflow-delivery-id": "d-2"}, BODY),
        (signed() | {"x-mlflow-timestamp": str(int(NOW) + 1)}, BODY),
        (signed() | {"x-mlflow-signature": "v1,\u00e9"}, BODY),
        (signed(moment=NOW - 301), BODY),
        (signed(moment=NOW + 301), BODY),
        (signed(delivery_id=""), BODY),
    ],
)
def test_what_mlflow_has_not_signed_lately_is_refused(receiver, woken, headers, body):
    with pytest.raises(RequestFault) as fault:
        receiver.receive(headers, body)
    assert fault.value.status == 401
    assert not woken
    assert KEY.encode() not in fault.value.body()


def test_a_signed_body_that_is_no_event_is_the_senders_fault(receiver):
    for body in (b"[]", b"{", b""):
        with pytest.raises(RequestFault) as fault:
            receiver.receive(signed(body), body)
        assert fault.value.status == 400
    assert receiver.receive(signed(b"{}", delivery_id="d-4"), b"{}") == {"result": "ignored"}


def test_mlflows_own_delivery_wakes_every_worker_within_a_second(
    serving, serving_config, serving_alias, monkeypatch
):
    monkeypatch.setenv("EVERFIT_WEBHOOK_SECRET", KEY)
    for name, value in (("ALLOWED_SCHEMES", "http"), ("ALLOW_PRIVATE_IPS", "true")):
        monkeypatch.setenv(f"MLFLOW_WEBHOOK_{name}", value)
        monkeypatch.setenv(f"_MLFLOW_WEBHOOK_{name}", value)
    config = serving_config()
    config = config.model_copy(
        update={"serving": config.serving.model_copy(update={"poll_seconds": 600.0})}
    )
    one, other = serving_alias(), serving_alias()
    apps = [create_app(config, registry=lambda a=a: a, load=a.load) for a in (one, other)]
    with serving(apps[0]) as client, serving(apps[1]):
        asked = one.asked, other.asked
        event = WebhookEvent.from_str("model_version_alias.created")
        webhook = Webhook(
            "w-1", "everfit", str(client.base_url.join(hooks.PATH)), [event], 0, 0, secret=KEY
        )
        payload = {"name": "tiny", "alias": "champion", "version": "2"}
        started = time.monotonic()
        with requests.Session() as session:
            session.trust_env = False
            answer = delivery._send_webhook_request(webhook, payload, event, session)
        assert (answer.status_code, answer.json()) == (200, {"result": "woken"})
        while one.asked == asked[0] or other.asked == asked[1]:
            assert time.monotonic() - started < 5
            time.sleep(0.01)
        assert time.monotonic() - started < 1
        assert client.post(hooks.PATH, content=b"x" * (hooks.LIMIT + 1)).status_code == 413


def test_without_a_secret_there_is_no_such_path_and_a_short_one_is_refused(
    serving, serving_config, serving_alias, monkeypatch
):
    alias, config = serving_alias(), serving_config()
    with serving(create_app(config, registry=lambda: alias, load=alias.load)) as client:
        assert client.post(hooks.PATH, content=BODY, headers=signed()).status_code == 404
    monkeypatch.setenv("EVERFIT_WEBHOOK_SECRET", "short")
    with pytest.raises(ConfigFault, match="EVERFIT_WEBHOOK_SECRET"):
        create_app(config, registry=lambda: alias, load=alias.load)
