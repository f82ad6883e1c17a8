"""Rounds on a Prefect server: one deployment for each schedule, left alone when it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.definitions import Model
from deployments.rounds import register
from tasks.config import load


@pytest.mark.prefect
async def test_a_schedule_has_one_deployment_whatever_its_models(tiny_config):
    from prefect.client.orchestration import get_client

    from deployments.register import pool

    models = []
    for number in range(3):
        path = tiny_config.with_name(f"m{number}.yaml")
        cron = "0 6 * * *" if number else "*/10 * * * *"
        path.write_text(
            tiny_config.read_text().replace("name: tiny", f"name: m{number}")
            + f'schedule: {{cron: "{cron}"}}\n'
        )
        models.append(Model(load(path), path))
    async with get_client() as client:
        await pool(client, "rounds-test")
        made = await register.ensure(client, models, "rounds-test", act=False, workers=2)
        assert set(made) == {"every-10-every-every-every-every", "0-6-every-every-every"}
        daily = await client.read_deployment(made["0-6-every-every-every"])
        assert daily.entrypoint == "deployments.rounds.flow.round_of_checks"
        assert daily.schedules[0].schedule.cron == daily.parameters["cron"] == "0 6 * * *"
        assert (daily.parameters["act"], daily.parameters["workers"]) == (False, 2)
        assert daily.work_queue_name == "watch"
        assert daily.concurrency_options.collision_strategy.value == "CANCEL_NEW"
        listed = Path(daily.parameters["configs"][0].removeprefix("@"))
        assert listed.read_text().split() == [str(m.file) for m in models[1:]]
        assert await register.ensure(client, models, "rounds-test", act=False, workers=2) == made
        again = await client.read_deployment(made["0-6-every-every-every"])
        assert again.updated == daily.updated  # what is as it should be is left alone
        await register.ensure(client, models, "rounds-test", act=True, workers=2)
        assert (await client.read_deployment(daily.id)).parameters["act"] is True
        for one in made.values():
            await client.delete_deployment(one)
