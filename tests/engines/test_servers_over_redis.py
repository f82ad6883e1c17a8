"""Two Prefect API servers on one PostgreSQL and one Redis: what one hears is acted on once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import environment
from deployments.processes import free_port
from deployments.stack import prefect_command
from tests.engines.redis_server import Redis

pytestmark = pytest.mark.timeout(400)

MODEL = "everfit.model.tiny"
NAME = "everfit.decision.retrain"


@pytest.fixture
def servers(database: Callable[[], str], redis: Redis, tmp_path: Path) -> Iterator[list[str]]:
    """The addresses of two API servers."""
    url = database().replace("postgresql:", "postgresql+asyncpg:")
    with ExitStack() as stack:
        found = []
        for name in ("a", "b"):
            server = prefect_command(tmp_path / name, free_port(), url)
            env = {**(server.env or {}), **environment.messages_over(redis.url)}
            stack.enter_context(replace(server, env=env).running())
            found.append(f"{server.url}/api")
        yield found


def ask(method: str, url: str, body: Any = None) -> Any:
    answer = httpx.request(method, url, json=body, timeout=60)
    assert answer.is_success, f"{url}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


def event(window: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": NAME,
        "resource": {"prefect.resource.id": MODEL},
        "payload": {"window_id": window},
    }


def test_an_event_sent_to_either_server_triggers_once(servers: list[str]) -> None:
    one, other = servers
    flow = ask("POST", f"{one}/flows/", {"name": "retrain"})
    wanted = {"name": "tiny", "flow_id": flow["id"], "enforce_parameter_schema": False}
    deployment = ask("POST", f"{one}/deployments/", wanted)
    ask(
        "POST",
        f"{one}/automations/",
        {
            "name": "everfit tiny: retrain",
            "trigger": {
                "type": "event",
                "posture": "Reactive",
                "expect": [NAME],
                "match": {"prefect.resource.id": MODEL},
                "for_each": ["prefect.resource.id", "payload.window_id"],
                "threshold": 1,
                "within": 0,
            },
            "actions": [
                {
                    "type": "run-deployment",
                    "source": "selected",
                    "deployment_id": deployment["id"],
                    "parameters": {"window_id": "{{ event.payload.window_id }}"},
                }
            ],
        },
    )
    time.sleep(3)  # the other server hears of the automation

    def runs(at: str) -> list[str]:
        asked = {"deployments": {"id": {"any_": [deployment["id"]]}}, "limit": 100}
        found = ask("POST", f"{at}/flow_runs/filter", asked)
        return sorted(run["parameters"]["window_id"] for run in found)

    sent = [event(f"w{number}") for number in range(6)]
    for number, each in enumerate(sent):
        ask("POST", f"{servers[number % 2]}/events", [each])
    ask("POST", f"{one}/events", [sent[0]])  # sent again, to the same server and to the other
    ask("POST", f"{other}/events", [sent[0], sent[1]])
    wanted_runs = [f"w{number}" for number in range(6)]
    deadline = time.monotonic() + 90
    while len(runs(other)) < 6 and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(5)  # for a second one to come, if it would
    assert runs(one) == runs(other) == wanted_runs
