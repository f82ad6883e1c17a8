"""Two versions in one server: shadow, canary, a warm way back, and what is left on disk."""

from __future__ import annotations

import gc
import os
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.serving import bundles, routing
from deployments.serving.app import create_app
from deployments.serving.follower import Follower
from deployments.serving.metrics import Metrics
from deployments.serving.rows import Rows
from deployments.serving.slots import Slots
from models.bundle import Predictor
from models.errors import BundleFault, RegistryFault
from models.registry_stages import Staged
from monitoring import shadows
from monitoring.telemetry import TelemetryStore
from tasks import undo
from tests import registry_parts as parts

AT = datetime(2024, 5, 1, tzinfo=UTC).isoformat()
ROW = {"hour": 7, "wind": 1.0, "carrier": "UA"}


def stage(mode, share=0.0, opponent="1", step=0):
    return Staged(mode, step, share, AT, AT, opponent, "w2")


def note(folder, version="2"):
    undo.write(folder, undo.Undo(version, "d", "it errs", "tests", AT))


@pytest.fixture
def alias(serving_alias, serving_double):
    """Version 1 is champion, version 2 is there and says "on time" where 1 says "late"."""
    alias = serving_alias()
    alias.models["2"] = serving_double(bias=-9.0)
    alias.models["3"] = serving_double(bias=9.0)
    return alias


@pytest.fixture
def follow(alias, tmp_path):
    def make():
        follower = Follower(Slots(), Metrics(), tmp_path, registry=lambda: alias, load=alias.load)
        return follower, follower._slots

    return make


def ask(client, key=None, **body):
    headers = {"x-request-key": key} if key else {}
    answer = client.post("/invocations", json={"dataframe_records": [ROW], **body}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(check, patience=10.0):
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_a_key_has_its_place_and_keeps_it_as_the_share_grows():
    keys = [f"caller-{number}" for number in range(4_000)]
    few = {key for key in keys if routing.takes(key, "7", 0.1)}
    more = {key for key in keys if routing.takes(key, "7", 0.5)}
    assert few < more
    assert abs(len(few) - 400) < 80
    assert abs(len(more) - 2_000) < 160
    other = {key for key in keys if routing.takes(key, "8", 0.1)}
    assert len(few & other) < 100  # each roll-out tries itself on other callers
    named = Rows({}, 2, ids=["a", "b"])
    assert routing.request_key("mine", named) == "mine"
    assert routing.request_key(None, named) == "a"
    unnamed = Rows({}, 2)
    key = routing.request_key(None, unnamed)
    assert unnamed.ids[0] == key
    assert len(set(unnamed.ids)) == 2  # what decided is recorded as the row's id
    assert routing.request_key("", Rows({}, 0)) == ""


def test_shadow_and_canary_over_http(serving, serving_config, alias):
    alias.trying, alias.stages["2"] = "2", stage("shadow")
    config = serving_config()
    app = create_app(config, registry=lambda: alias, load=alias.load)
    slots = app.state.service.slots
    with serving(app) as client:
        until(lambda: slots.challenger is not None)
        named = [ask(client, ids=[f"row-{number}"]) for number in range(20)]
        assert {body["model_version"] for body in named} == {"1"}  # a shadow answers nobody
        with TelemetryStore(config.store_url) as store:

            def pairs(kept=20):
                found = shadows.pairs(
                    store.database, "1", "2", datetime(2024, 1, 1, tzinfo=UTC),
                    config.data.classes, until=datetime.now(UTC),
                )  # fmt: skip
                return found if len(found.codes) >= kept else None

            until(pairs)
            assert (pairs().champion.argmax(axis=1) == 1).all()
            assert (pairs().challenger.argmax(axis=1) == 0).all()

            alias.stages["2"] = stage("canary", 0.3, step=1)
            until(lambda: slots.canary is not None)
            for number in range(40):
                key = f"caller-{number}"
                expected = "2" if routing.takes(key, "2", 0.3) else "1"
                assert {ask(client, key)["model_version"] for _ in range(2)} == {expected}
            seen = [ask(client) for _ in range(40)]  # without a key, by the id that is recorded
            assert {body["model_version"] for body in seen} == {"1", "2"}
            for body in seen:
                assert (body["model_version"] == "2") == routing.takes(body["ids"][0], "2", 0.3)
            until(lambda: pairs(130))  # the champion answers the canary's rows as well
        asked = {"inputs": [{"name": n, "shape": [1], "datatype": t, "data": [v]} for n, t, v in (
            ("hour", "FP64", 7.0), ("wind", "FP64", 1.0), ("carrier", "BYTES", "UA"))]}  # fmt: skip
        pinned = client.post("/v2/models/tiny/versions/2/infer", json=asked)
        assert pinned.json()["model_version"] == "2"
        about = client.get("/v2/models/tiny").json()
        assert about["versions"] == ["1"]
        assert about["parameters"]["beside"] == {
            "challenger": "2", "share": 0.3, "previous": None
        }  # fmt: skip

        def broken(*_):
            raise RuntimeError("the canary breaks")

        alias.models["2"].predict_rows = broken
        caller = next(k for k in map(str, range(99)) if routing.takes(k, "2", 0.3))
        assert ask(client, caller)["model_version"] == "1"  # the champion stands in
        text = client.get("/metrics").text
        assert 'everfit_canary_faults_total{version="2"} 1.0' in text
        assert client.post("/v2/models/tiny/versions/2/infer", json=asked).status_code == 500
    with TelemetryStore(config.store_url) as store:
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        counts = store.counts_between(hour.replace(hour=0), datetime.now(UTC))
        faults = [c for c in counts if c.route == "canary"]
        assert [(c.version, c.server_errors) for c in faults] == [("2", 1)]


def test_a_promoted_canary_is_not_loaded_again_and_the_way_back_is_warm(follow, alias):
    follower, slots = follow()
    alias.trying, alias.stages["2"] = "2", stage("canary", 0.5)
    follower.step()
    canary = slots.challenger
    assert (slots.current.release.version, slots.canary.slot) == ("1", canary)
    assert slots.beside is canary
    alias.version, alias.before, alias.trying = "2", "1", None
    old = slots.current
    assert follower.step()
    assert slots.current is canary
    assert slots.previous is old  # its stage is not noted yet: it bakes in a moment
    assert slots.canary is None
    alias.stages["2"] = stage("bake", step=1)
    follower.step()
    assert slots.beside is slots.previous is old
    asked = len(alias.downloads)
    alias.version, alias.before = "1", None  # rolled back
    assert follower.step()
    assert slots.current is old
    assert slots.previous is None
    assert len(alias.downloads) == asked  # neither fetched nor loaded
    alias.version, alias.before = "2", "1"
    alias.stages["2"] = stage("done", step=1)
    follower.step()
    assert slots.previous is None  # nothing is kept once it has baked


def test_a_challenger_of_another_champion_or_that_ends_stands_beside_nobody(follow, alias):
    follower, slots = follow()
    alias.trying, alias.stages["2"] = "2", stage("canary", 0.5, opponent="7")
    follower.step()
    assert slots.challenger is None
    alias.stages["2"] = stage("canary", 0.5)
    follower.step()
    assert slots.canary.share == 0.5
    alias.stages["2"] = stage("canary", 0.9, step=1)
    follower.step()
    assert slots.canary.share == 0.9
    alias.trying = None  # withdrawn
    follower.step()
    assert slots.challenger is slots.canary is slots.beside is None
    alias.models["3"].fault = BundleFault("altered")
    alias.trying, alias.stages["3"] = "3", stage("shadow")
    follower.step()
    assert slots.failure.version == "3"
    assert slots.current.release.version == "1"


def test_a_note_takes_the_champion_back_whatever_the_registry_says(follow, alias, tmp_path):
    follower, slots = follow()
    alias.version, alias.before, alias.stages["2"] = "2", "1", stage("bake")
    follower.step()
    alias.fault = RegistryFault("no answer")
    note(tmp_path, "7")  # about another version
    follower.step()
    assert slots.current.release.version == "2"
    note(tmp_path)
    assert follower.step()
    assert slots.current.release.version == "1"
    alias.fault = None
    assert not follower.step()  # the registry still says 2
    assert slots.current.release.version == "1"
    restarted, fresh = follow()
    restarted.step()
    assert fresh.current.release.version == "1"
    undo.clear(tmp_path, "d")  # given up: the registry is right
    assert follower.step()
    assert slots.current.release.version == "2"
    alias.before = None
    follower, slots = follow()
    note(tmp_path)
    follower.step()
    assert slots.current.release.version == "2"  # there is nothing to go back to


def test_the_way_back_takes_less_than_a_second(serving, serving_config, alias):
    alias.version, alias.before, alias.stages["2"] = "2", "1", stage("bake")
    config = serving_config(poll_seconds=30)
    app = create_app(config, registry=lambda: alias, load=alias.load)
    with serving(app) as client:
        until(lambda: app.state.service.slots.previous is not None)
        assert ask(client)["model_version"] == "2"
        began = time.monotonic()
        note(config.folder / "serving")
        until(lambda: ask(client)["model_version"] == "1", patience=1.0)
        assert time.monotonic() - began < 1.0


def test_a_version_that_cannot_answer_what_is_asked_does_not_take_over(follow, alias):
    from deployments.serving.rows import check

    follower, slots = follow()
    follower.step()
    rows = Rows({name: [value] for name, value in ROW.items()}, 1)
    slots.recent.append(check(rows, slots.current.columns, "due"))

    def broken(*_):
        raise ValueError("not this row")

    alias.models["2"].predict_rows = broken
    alias.version = "2"
    assert not follower.step()
    assert (slots.current.release.version, slots.failure.reason) == ("1", "ValueError")


def test_swaps_keep_no_memory(serving_alias, tmp_path):
    """Real bundles, fetched, verified, loaded, warmed and let go; `everfit bench swap` does it with
    a server under load."""
    candidates = parts.candidates()
    alias = serving_alias()
    follower = Follower(
        Slots(),
        Metrics(),
        tmp_path,
        registry=lambda: alias,
        load=lambda bundle, _digest: Predictor.load(candidates[int(bundle.name) - 1].bundle),
    )
    memory, made = [], []
    for number in range(40):
        alias.version = str(number % 2 + 1)
        assert follower.step()
        made.append(weakref.ref(follower._slots.current.model))
        memory.append(resident())
    gc.collect()
    assert [model() for model in made if model() is not None] == [follower._slots.current.model]
    assert memory[-1] < 1.05 * memory[15]
    follower.close()


def resident():
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_only_what_a_roll_back_can_want_stays_on_disk(tmp_path):
    for name in ("1", "2", "3", "11", "notes", ".3-killed", ".4-running"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text("{}")
    for name in ("last.json", "undo.json", "last.77.tmp"):
        (tmp_path / name).write_text("{}")
    long_ago = time.time() - 2 * bundles.ABANDONED
    for name in (".3-killed", "last.77.tmp"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert sorted(bundles.prune(tmp_path, {"1", "11"})) == ["2", "3"]
    left = sorted(place.name for place in tmp_path.iterdir())
    assert left == [".4-running", "1", "11", "last.json", "notes", "undo.json"]
    assert bundles.prune(tmp_path / "nowhere", set()) == []
