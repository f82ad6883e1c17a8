"""Two retrains of one model race, in processes of their own and under one Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from deployments import environment
from deployments.stack import prefect_command
from tasks import places
from tasks.config import load
from tests import registry_parts as parts

# Its own claim is taken from each by a pretence: as if both had been told that the other is dead.
RACER = """
import asyncio, json, sys
from datetime import UTC, datetime
from deployments import environment
environment.prepare()
from flows.rollout import rollout
from tasks import places, release
from tasks.config import load
from tasks.lineage import Lineage
from tests import registry_parts as parts

version, path = sys.argv[1:]
config = load(path)
now = datetime.now(UTC)
challenger = places.registry(config).version(version)
made = Lineage(challenger.window_id, now, 300, None, {}, {}, parts.verdict(), "1", 1, 1.0)
promote = release.promote.fn

def together(*args, **named):
    print("ready", flush=True)  # both have seen that version 1 is champion still
    sys.stdin.readline()
    return promote(*args, **named)

release.promote.fn = together
verdict = asyncio.run(rollout(config, challenger, made, "it is better", now))
print(json.dumps([verdict.passed, verdict.reason]))
"""


@pytest.mark.timeout(240)
def test_one_is_champion_and_the_other_ends_as_refused(tiny_config, free_port):
    config = load(tiny_config)
    parts.tables(config.folder)
    registry = places.registry(config)
    for number in range(3):
        parts.register(registry, number, window_id=f"w{number + 1}")
    parts.promote(registry, "1", None)
    with ExitStack() as stack:
        server = prefect_command(environment.prefect_home(config.folder), free_port)
        stack.enter_context(server.running())
        url = f"{server.url}/api"
        racers = []
        for version in ("2", "3"):
            racer = subprocess.Popen(
                [sys.executable, "-c", RACER, version, str(tiny_config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment.child(PREFECT_API_URL=url, PYTHONPATH=os.getcwd()),
            )
            racers.append(stack.enter_context(racer))
            stack.callback(racer.kill)  # before it is waited for
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [json.loads(r.communicate(timeout=120)[0].splitlines()[-1]) for r in racers]
    assert sorted(passed for passed, _ in said) == [False, True]
    winner, loser = ("2", "3") if said[0][0] else ("3", "2")
    reason = next(why for passed, why in said if not passed)
    assert reason.startswith("it lost the race: the champion of tiny must still be 1; it is")
    assert registry.champion().version == winner
    assert registry.champion().tags["previous_champion"] == "1"
    assert registry.version(loser).tags["rejected_why"] == reason
    assert registry.challenger() is None
    assert registry.hand_moved() is None
