"""What happened is told as events: once, small, and never at the cost of a flow."""

from __future__ import annotations

import logging
import math

import pytest
from prefect import flow

from tasks import events
from tasks.config import load


async def received(**wanted):
    """The events of a resource that the server has, once it has any."""
    import asyncio

    from prefect.client.orchestration import get_client
    from prefect.events.filters import EventFilter

    seen = EventFilter(**wanted)
    async with get_client() as client:
        for _ in range(100):
            answer = await client.request(
                "POST", "/events/filter", json={"filter": seen.model_dump(mode="json")}
            )
            if found := answer.json()["events"]:
                return found
            await asyncio.sleep(0.1)
    raise AssertionError("no event came")


@pytest.mark.prefect
async def test_an_event_reaches_the_server_with_its_model_once(tiny_config):
    config = load(tiny_config).model_copy(update={"name": "told-once"})

    @flow(name="teller")
    async def teller():
        for _ in range(2):
            assert events.again(config, "w1", 1, "it broke off")
        assert events.emit(config, "everfit.promoted", {"version": "2", "low": math.nan})

    await teller()
    from prefect.events.worker import EventsWorker

    await EventsWorker.instance().drain()
    found = await received(resource={"id": [events.resource_id("told-once")]})
    told = {event["event"]: event for event in found}
    assert sorted(event["event"] for event in found) == [
        "everfit.promoted",
        "everfit.retrain.again",
    ]
    payload = told["everfit.promoted"]["payload"]
    assert payload.pop("link").startswith("http://")
    assert payload == {
        "model": "told-once",
        "version": "2",
        "low": None,
        "message": "told-once: version 2 is the champion now: no reason was given",
    }
    again = told["everfit.retrain.again"]
    assert again["payload"]["attempt"] == 1
    assert again["resource"][events.ASKS] == events.RETRAIN
    assert events.ASKS not in told["everfit.promoted"]["resource"]


def test_a_fault_of_prefect_is_a_warning_and_no_more(tiny_config, monkeypatch, caplog):
    def down(*_args, **_options):
        raise ConnectionError("nobody is there")

    monkeypatch.setattr("prefect.events.emit_event", down)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with caplog.at_level(logging.WARNING):
        assert not events.emit(load(tiny_config), "everfit.refused", {})
    assert "everfit.refused of tiny was not told to Prefect" in caplog.text


def test_what_is_no_event_is_refused(tiny_config):
    config = load(tiny_config)
    with pytest.raises(ValueError, match=r"an event is one of .* got 'everfit\.guessed'"):
        events.emit(config, "everfit.guessed", {})
    with pytest.raises(ValueError, match="at most 32000 characters"):
        events.emit(config, "everfit.refused", {"why": "x" * 40_000})
