"""Following the champion: only a version that answers its own example ever replaces one."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.serving.app import create_app
from deployments.serving.follower import Follower
from deployments.serving.metrics import Metrics
from deployments.serving.slots import Slots
from models.errors import BundleFault, RegistryFault


@pytest.fixture
def alias(serving_alias):
    return serving_alias()


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def follow(alias, tmp_path, now):
    """A new follower, as after a start of the process, on the same folder."""

    def make():
        follower = Follower(
            Slots(),
            Metrics(),
            tmp_path,
            registry=lambda: alias,
            load=alias.load,
            clock=lambda: now[0],
        )
        return follower, follower._slots

    return make


def test_it_takes_the_champion_and_then_only_looks(follow, alias):
    follower, slots = follow()
    assert follower.step()
    assert slots.current.release.version == "1"
    assert not follower.step()
    assert alias.downloads == ["1"]


def test_a_promotion_is_followed_and_so_is_a_roll_back(follow, alias, serving_double):
    follower, slots = follow()
    follower.step()
    alias.models["2"] = serving_double(bias=1.0)
    alias.version = "2"
    assert follower.step()
    assert slots.current.release.version == "2"
    alias.version = "1"
    assert follower.step()
    assert slots.current.release.version == "1"
    assert slots.swaps == 3


@pytest.mark.parametrize("fault", [BundleFault("altered"), ValueError("broken"), MemoryError()])
def test_a_version_that_fails_its_example_never_replaces(follow, alias, serving_double, now, fault):
    follower, slots = follow()
    follower.step()
    alias.models["2"] = serving_double(fault=fault)
    alias.version = "2"
    assert not follower.step()
    assert slots.current.release.version == "1"
    assert slots.failure.version == "2"
    assert slots.failure.reason == type(fault).__name__
    text = follower._metrics.text().decode()
    assert 'everfit_load_failures_total{version="2"} 1.0' in text
    assert 'everfit_serving_version{version="1"} 1.0' in text


def test_a_version_that_hangs_while_it_is_loaded_is_given_up(alias, tmp_path, serving_double, now):
    """Left behind for an hour; what serves goes on, and other versions are followed."""
    held = threading.Event()
    hangs = serving_double()
    hangs.self_check = lambda: held.wait(20)
    slots = Slots()
    follower = Follower(
        slots,
        Metrics(),
        tmp_path,
        registry=lambda: alias,
        load=alias.load,
        load_seconds=0.3,
        clock=lambda: now[0],
    )
    follower.step()
    alias.models |= {"2": hangs, "3": serving_double()}
    alias.version = "2"
    for now[0] in (1.0, 400.0, 3_500.0):
        assert not follower.step()
    assert alias.downloads.count("2") == 1
    assert (slots.current.release.version, slots.failure.reason) == ("1", "TakesTooLong")
    alias.version = "3"
    assert follower.step()
    held.set()
    assert slots.current.release.version == "3"


def test_a_failed_version_is_not_tried_in_a_tight_loop(follow, alias, serving_double, now):
    follower, slots = follow()
    follower.step()
    alias.models["2"] = serving_double(fault=BundleFault("altered"))
    alias.version = "2"
    tries = []
    for second in range(100):
        now[0] = float(second)
        follower.step()
        tries.append(alias.downloads.count("2"))
    assert tries[0] == 1
    assert tries[4] == 1
    assert tries[6] == 2
    assert tries[-1] == 5  # at 0, 5, 15, 35 and 75 s
    alias.models["2"].fault = None
    now[0] += 1000
    assert follower.step()
    assert slots.current.release.version == "2"
    assert slots.failure is None


def test_a_champion_after_a_failed_one_is_taken_at_once(follow, alias, serving_double):
    follower, slots = follow()
    follower.step()
    alias.models |= {"2": serving_double(fault=BundleFault("altered")), "3": serving_double()}
    alias.version = "2"
    follower.step()
    alias.version = "3"
    assert follower.step()
    assert slots.current.release.version == "3"


def test_a_registry_that_is_down_or_emptied_stops_nothing(follow, alias):
    follower, slots = follow()
    follower.step()
    alias.fault = RegistryFault("no answer")
    for _ in range(12):
        assert not follower.step()
    assert follower._pause() == 30.0  # it is asked less and less often
    alias.fault = None
    alias.version = None
    assert not follower.step()
    assert follower._pause() == 1.0
    assert slots.current.release.version == "1"


def test_a_first_look_without_a_champion_says_how_to_make_one(follow, alias, caplog):
    alias.version = None
    follower, _ = follow()
    with caplog.at_level("INFO"):
        assert not follower.step()
    assert "no champion yet: `everfit train`" in caplog.text


def test_a_registry_that_cannot_be_opened_is_tried_again(alias, tmp_path):
    answers = [RegistryFault("not there yet"), alias]

    def open_registry():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    follower = Follower(Slots(), Metrics(), tmp_path, registry=open_registry, load=alias.load)
    assert not follower.step()
    assert follower.step()


def test_a_start_with_the_registry_down_serves_what_served_last(follow, alias, serving_double):
    alias.models["2"] = serving_double()
    alias.version = "2"
    follower, _ = follow()
    follower.step()
    alias.fault = RegistryFault("no answer")
    restarted, slots = follow()
    assert restarted.step()
    assert slots.current.release.version == "2"
    assert slots.current.release.window_id == "window-1"
    alias.models["2"].fault = BundleFault("altered on disk")
    damaged, empty = follow()
    assert not damaged.step()
    assert empty.current is None


def test_a_first_start_with_the_registry_down_waits(follow, alias):
    alias.fault = RegistryFault("no answer")
    follower, slots = follow()
    assert not follower.step()
    assert slots.current is None


def test_the_old_version_is_freed(follow, alias, serving_double):
    follower, slots = follow()
    follower.step()
    old = weakref.ref(slots.current)
    alias.models["2"] = serving_double()
    alias.version = "2"
    follower.step()
    gc.collect()
    assert old() is None


def test_swaps_under_load_fail_no_request(serving, serving_config, alias, serving_double):
    """Each answer is wholly one version's: its probabilities and the version it names agree."""
    alias.models = {str(v): serving_double(bias=float(v)) for v in range(1, 31)}
    row = {"hour": 7, "wind": 1.0, "carrier": "UA"}
    columns = {name: [value] for name, value in row.items()}
    right = {v: m.predict_proba(columns)[0, 1] for v, m in alias.models.items()}
    app = create_app(serving_config(), registry=lambda: alias, load=alias.load)
    with serving(app) as client, ThreadPoolExecutor(4) as pool:
        done = []

        def ask(_):
            while not done:
                answer = client.post("/invocations", json={"dataframe_records": [row]})
                answers.append((answer.status_code, answer.json()))

        answers = []
        jobs = [pool.submit(ask, i) for i in range(4)]
        for version in range(2, 31):
            alias.version = str(version)
            while client.get("/v2/health/ready").json()["model_version"] != str(version):
                pass
        done.append(True)
        for job in jobs:
            job.result()
    assert {status for status, _ in answers} == {200}
    for _, body in answers:
        found = body["predictions"][0]["probability_late"]
        assert found == pytest.approx(right[body["model_version"]])
    assert len({body["model_version"] for _, body in answers}) > 15
