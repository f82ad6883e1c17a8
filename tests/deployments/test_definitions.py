"""prefect.yaml is the one place where deployments are defined; it says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deployments import definitions
from deployments.definitions import Model, distinct
from deployments.register import PRIORITIES
from tasks.config import ConfigFault, load


@pytest.fixture
def model(tiny_config):
    return Model(load(tiny_config), tiny_config)


def test_each_flow_has_its_queue_its_schedule_and_the_config(model):
    found = definitions.definitions(model)
    assert list(found) == ["watch", "advance", "reconcile", "report", "retrain"]
    assert len({one["work_pool"]["work_queue_name"] for one in found.values()}) == len(found)
    for flow, one in found.items():
        assert one["work_pool"]["work_queue_name"] in PRIORITIES
        assert one["parameters"]["config"]["file"] == str(model.file)
        assert one["tags"] == ["everfit", "everfit.model.tiny"]
        assert one["entrypoint"].startswith("flows."), "a module's name, never a file's"
        assert one["entrypoint"].endswith(f".{flow}")
    assert PRIORITIES["watch"] < min(p for queue, p in PRIORITIES.items() if queue != "watch")
    assert PRIORITIES["retrain"] == max(PRIORITIES.values())
    assert found["watch"]["schedules"][0]["cron"] == model.config.schedule.cron
    trigger = found["retrain"]["triggers"][0]
    assert trigger["match"]["prefect.resource.id"] == "everfit.model.tiny"
    assert trigger["for_each"] == ["prefect.resource.id"]
    assert trigger["parameters"]["attempt"]["__prefect_kind"] == "json"


def test_a_schedule_of_never_is_not_active_and_a_change_is_another_version(tiny_config, model):
    before = definitions.definitions(model)
    schedule = load(tiny_config).schedule.model_copy(update={"report": "never"})
    changed = Model(model.config.model_copy(update={"schedule": schedule}), model.file)
    after = definitions.definitions(changed)
    assert before["report"]["schedules"][0]["active"]
    assert not after["report"]["schedules"][0]["active"]
    assert before["report"]["version"] != after["report"]["version"]
    assert before["retrain"]["version"] == after["retrain"]["version"]
    assert definitions.definitions(model, act=False)["watch"]["parameters"]["act"] is False


def test_everything_that_the_file_leaves_open_is_filled_in(model):
    text = definitions.FILE.read_text(encoding="utf-8")
    places = definitions.environment(model)
    assert set(definitions._PLACE.findall(text)) == set(places)
    assert "$EVERFIT" not in yaml.safe_dump(list(definitions.definitions(model).values()))


def test_two_models_of_one_name_are_refused(model):
    other = Model(model.config, Path("elsewhere.yaml"))
    with pytest.raises(ConfigFault, match=r"name of its own, got 'tiny' in .*: rename one"):
        distinct([model, other])
