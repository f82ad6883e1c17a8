"""What a server is told is told once; runs that wait too long, twice or in vain are set right."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest

from deployments import lost, register
from deployments.definitions import Model
from monitoring.claims import process_owner
from tasks import backlog, once
from tasks.config import load

pytestmark = pytest.mark.prefect


@pytest.fixture
async def client():
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        yield client


async def registered(client, path, name):
    model = Model(load(path).model_copy(update={"name": name}), path)
    await register.pool(client, name, retrains=2)
    return model, await register.model(client, model, name)


async def test_what_is_registered_again_stays_as_it_is(client, tiny_config):
    model, ids = await registered(client, tiny_config, "twice")
    automation = await client.read_automations_by_name("everfit retrain twice")
    watch = await client.read_deployment(ids["watch"])
    await client.update_deployment_schedule(watch.id, watch.schedules[0].id, active=False)
    assert (await registered(client, tiny_config, "twice"))[1] == ids
    after = await client.read_deployment(ids["watch"])
    assert not after.schedules[0].active  # somebody has paused it: it stays paused
    assert after.parameters["config"]["file"] == str(tiny_config)
    assert await client.read_automations_by_name("everfit retrain twice") == automation
    assert automation[0].trigger.for_each == {"prefect.resource.id"}
    queues = {q.name: q for q in await client.read_work_queues(work_pool_name="twice")}
    assert queues["retrain"].concurrency_limit == 2
    assert queues["watch"].priority < queues["retrain"].priority
    await register.pool(client, "twice", retrains=1)
    assert (
        await client.read_work_queue_by_name("retrain", work_pool_name="twice")
    ).concurrency_limit == 1
    schedule = model.config.schedule.model_copy(update={"cron": "*/7 * * * *"})
    changed = Model(model.config.model_copy(update={"schedule": schedule}), model.file)
    assert await register.model(client, changed, "twice") == ids
    now = await client.read_deployment(ids["watch"])
    assert (now.schedules[0].schedule.cron, now.schedules[0].active) == ("*/7 * * * *", True)


async def test_after_a_day_without_anybody_one_check_covers_the_gap(client, tiny_config):
    _, ids = await registered(client, tiny_config, "late")
    now = datetime.now(UTC)
    watch = await client.read_deployment(ids["watch"])
    hourly = {"schedule": {"cron": "0 * * * *", "timezone": "UTC"}}
    path = f"/deployments/{watch.id}/schedules/{watch.schedules[0].id}"
    await client.request("PATCH", path, json=hourly)
    day = {"start_time": (now - timedelta(days=1)).isoformat(), "end_time": now.isoformat()}
    await client.request("POST", f"/deployments/{watch.id}/schedule", json={**day, "min_runs": 24})
    stale = await backlog.overdue(client, [watch.id], now)
    assert len(stale) == 24
    assert await backlog.clear(client, list(ids.values()), now) == 23
    (left,) = await backlog.overdue(client, [watch.id], now)
    assert left.id == max(stale, key=lambda run: run.expected_start_time).id
    gone = await client.read_flow_run(stale[0].id)
    assert gone.state.is_cancelled()
    assert "a later one covers it" in gone.state.message
    assert await backlog.clear(client, list(ids.values()), now) == 0


async def test_of_two_runs_for_one_window_the_second_is_left_out(client, tiny_config):
    _, ids = await registered(client, tiny_config, "doubled")

    async def asked(**parameters):
        return await client.create_flow_run_from_deployment(ids["retrain"], parameters=parameters)

    first = await asked(window_id="w1", why="a check", attempt=0)
    second = await asked(window_id="w1", why="a check", attempt=0)
    again, other = await asked(window_id="w1", attempt=1), await asked(window_id="w2")
    assert await once.clear(client, [ids["retrain"]]) == 1
    ended = await client.read_flow_run(second.id)
    assert ended.state.is_cancelled()
    assert str(first.id) in ended.state.message
    for run in (first, again, other):
        assert (await client.read_flow_run(run.id)).state.is_scheduled()


async def test_a_run_whose_process_is_gone_is_set_right_and_a_living_one_left(client, tiny_config):
    from prefect.states import Running

    _, ids = await registered(client, tiny_config, "gone")
    dead = f"everfit-{socket.gethostname()}:{2**22 - 1}:1@x"

    async def begun(flow, worker, window):
        given = {"window_id": window} if flow == "retrain" else {}
        run = await client.create_flow_run_from_deployment(ids[flow], parameters=given)
        await client.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
        await client.set_flow_run_state(run.id, Running(), force=True)
        return run.id

    retrain, check = await begun("retrain", dead, "w1"), await begun("watch", dead, "")
    mine = await begun("retrain", lost.worker_name(), "w2")
    foreign = await begun("retrain", f"everfit-elsewhere:{process_owner()}", "w3")
    found = await lost.set_right(client, list(ids.values()), [ids["retrain"]])
    assert {run.id for run in found} == {retrain, check}
    states = [(await client.read_flow_run(r)).state.name for r in (retrain, check, mine, foreign)]
    assert states == ["AwaitingRetry", "Crashed", "Running", "Running"]
