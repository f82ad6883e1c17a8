"""A lasting Prefect server tells people by its own blocks and automations, and how soon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from deployments import environment
from deployments.stack import prefect_command
from tasks.config import load
from tests.receivers import http_receiver

SECRET = "/T0PS3CRET"

# In a process of its own, as under `everfit up`: register, then say what happened.
SAYS = """
import asyncio, json, sys, time
from deployments import environment
environment.prepare()
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from deployments import notifications
from tasks import events
from tasks.config import load

config = load(sys.argv[1])

async def register():
    async with get_client() as client:
        first = await notifications.ensure(client, config)
        known = {one.id for one in await client.read_automations()}
        assert await notifications.ensure(client, config) == first
        assert {one.id for one in await client.read_automations()} == known  # left alone
        return first

assert len(asyncio.run(register())) == 2
sent = {}
time.sleep(float(sys.argv[2]))
for number in range(5):
    sent[str(number)] = time.time()
    said = {"version": str(number), "why": 'better & "quicker" <by 0.02>'}
    assert events.emit(config, "everfit.promoted", said, key=f"w{number}")
    time.sleep(0.3)
other = config.model_copy(update={"name": "another", "notify": []})  # nobody of its own
assert events.emit(other, "everfit.promoted", {"version": "9", "why": "not of this model"})
assert events.emit(config, "everfit.decision.keep", {"why": "nobody is told"})
EventsWorker.drain_all(timeout=20)
print(json.dumps(sent))
"""


def test_automations_tell_each_event_once_within_seconds(tiny_config, free_port):
    with http_receiver() as inbox:
        os.environ.update(HOOK=inbox.url + SECRET, SLACK=inbox.url + "/slack")
        text = "notify:\n- {on: [promoted], to: {webhook: HOOK}}\n"
        text += "- {on: [promoted, decision], to: {slack: SLACK}}\n"
        tiny_config.write_text(tiny_config.read_text() + text, encoding="utf-8")
        config = load(tiny_config)
        try:
            server = prefect_command(environment.prefect_home(config.folder), free_port)
            with server.running():
                url = f"{server.url}/api"
                done = subprocess.run(
                    [sys.executable, "-c", SAYS, str(tiny_config), "3"],
                    env=environment.child(PREFECT_API_URL=url, PYTHONPATH=os.getcwd()),
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
                assert done.returncode == 0, done.stderr[-2_000:]
                sent = json.loads(done.stdout.splitlines()[-1])
                inbox.wait(10, 60)
                time.sleep(2)  # whatever else would come
        finally:
            del os.environ["HOOK"], os.environ["SLACK"]
    hooks = [(came, body) for came, path, body in inbox.posts if path == "/hook" + SECRET]
    slack = [body for _, path, body in inbox.posts if path == "/hook/slack"]
    assert len(hooks) == len(slack) == 5  # once each, by the server alone
    waits = sorted(came - sent[body["payload"]["version"]] for came, body in hooks)
    assert {body["model"] for _, body in hooks} == {"tiny"}
    why = 'better & "quicker" <by 0.02>'
    said = "tiny: version 3 is the champion now: "
    assert said + why in [body["message"] for _, body in hooks]
    texts = [body["text"] for body in slack]
    escaped = 'better &amp; "quicker" &lt;by 0.02&gt;'
    assert any(text.startswith(said + escaped) and text.endswith("|look>") for text in texts)
    written = [path for path in config.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]  # encrypted
    sys.stdout.write(f"event to delivery, seconds: {' '.join(f'{wait:.2f}' for wait in waits)}\n")
    assert waits[-1] < 30
