"""What a person is told while `everfit up` runs, and which ports the pages get."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from deployments.processes import StackFault
from deployments.up import asking, ports
from deployments.up.events import Event
from deployments.up.overview import changes
from deployments.up.screen import page

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)


def one(key: str, **known) -> dict[str, object]:
    return {
        "part": key, "state": "healthy", "ready": True, "detail": "", "since": 0.0, "restarts": 0,
        "pid": 7, "url": f"http://127.0.0.1/{key}", "page": f"http://127.0.0.1/{key}", "asks": "",
        "log": "", "external": False, "start_seconds": 3.0,
    } | known  # fmt: skip


STATE = {
    "phase": "running", "started": "2026-02-01T10:00:00+00:00", "home": "/srv/runs/up", "pid": 1,
    "parts": [
        one("prefect"),
        one("server", ready=False, detail="no model is loaded"),
        one("mlflow", state="restarting", detail="ended by signal 9", restarts=2),
    ],
    "models": [
        {
            "name": "churn", "config": "churn.yaml", "champion": "3", "fault": "",
            "rollout": {"version": "4", "stage": "canary for 0.05 of the callers",
                        "since": "2026-02-01T09:00:00+00:00"},
            "approval": {"version": "4", "said": "version 4 waits for a person's approval"},
            "retrain": {"window_id": "w7", "stage": "trials",
                        "since": "2026-02-01T11:59:00+00:00"},
            "decision": {"time": "2026-02-01T06:00:00+00:00", "action": "retrain", "rule": "drift",
                         "reasons": ["wind moved", "twice in a row", "and more"]},
            "next_check": "2026-02-02T06:00:00+00:00",
            "running": [{"flow": "retrain", "run": "blue-fox", "since": None}],
        },
        {"name": "fresh", "config": "fresh.yaml", "champion": None, "fault": ""},
    ],
}  # fmt: skip


def test_the_screen_says_where_things_are_how_they_are_and_what_comes_next():
    out = Console(file=io.StringIO(), width=140, legacy_windows=False)
    out.print(page(STATE, [Event(NOW, "mlflow", "it ended")], NOW))
    text = " ".join(out.file.getvalue().split())  # type: ignore[attr-defined]
    for said in (
        "running since 2026-02-01 10:00 UTC (2 h 0 min)",
        "prefect http://127.0.0.1/prefect healthy",
        "server http://127.0.0.1/server waits no model is loaded",
        "restarting ended by signal 9 started anew 2 times",
        "churn champion version 3",
        "version 4 is canary for 0.05 of the callers since 2026-02-01 09:00 UTC",
        "approval version 4 waits for a person's approval: `everfit approve` or",
        "window w7, since 2026-02-01 11:59 UTC: trials",
        "2026-02-01 06:00 UTC decided: retrain (drift): wind moved; twice in a row",
        "next check 2026-02-02 06:00 UTC, in 18 h 0 min",
        "fresh champion none yet: `everfit train fresh.yaml` in another terminal",
        "2026-02-01 12:00:00 mlflow: it ended",
    ):
        assert said in text, text


def test_only_what_has_changed_is_told():
    before = STATE["models"][0]
    assert changes(before, before) == []
    assert changes({}, {"champion": None, "fault": ""}) == ["no champion yet"]
    told = changes(before, before | {"champion": "4", "rollout": None, "retrain": None})
    assert told == [
        "version 4 is the champion, before it was version 3",
        "the roll-out is over",
        "the retrain is over",
    ]
    assert changes(before, {"fault": "disk"}) == ["its stores cannot be read: disk"]
    assert changes({"fault": "disk"}, {"fault": "disk"}) == []


def test_a_record_is_not_believed_against_what_answers():
    well, ill = one("prefect") | {"answers": True}, one("prefect") | {"answers": False}
    assert asking.told(well) == "healthy"
    assert asking.told(ill) == "no answer"
    assert asking.told(STATE["parts"][1] | {"answers": True}) == "waits"
    assert asking.told(STATE["parts"][2] | {"answers": False}) == "restarting"
    assert asking.silent({"at": "2026-01-01T00:00:00+00:00"}) > 15


def test_a_terminal_that_looks_into_other_stores_is_told_so(monkeypatch):
    url = "postgresql://me@db/everfit_mlflow"
    known = {"silent": 0.0, "parts": [], "exports": {"EVERFIT_REGISTRY_URL": url}}
    assert f"export EVERFIT_REGISTRY_URL={url}" in "\n".join(asking.lines(known))
    monkeypatch.setenv("EVERFIT_REGISTRY_URL", url)
    assert "export" not in "\n".join(asking.lines(known))


def test_ports_are_the_flags_then_those_of_last_time_then_the_usual():
    taken = {5000, 4242}

    def choose(wanted, before, barred=frozenset()):
        return ports.choose(
            wanted,
            before,
            barred,
            is_free=lambda p: p not in taken,
            any_free=iter(range(9000, 9999)).__next__,
        )

    assert choose({"prefect": None, "mlflow": None}, {}) == ({"prefect": 4200, "mlflow": 9000}, [])
    assert choose({"prefect": None}, {"prefect": 4300})[0] == {"prefect": 4300}
    chosen, told = choose({"prefect": None}, {"prefect": 4242})
    assert chosen == {"prefect": 4200}
    assert told == ["port 4242, where prefect was, is taken: it is at 4200 now"]
    assert choose({"prefect": None, "mlflow": 4200}, {})[0] == {"prefect": 9000, "mlflow": 4200}
    assert choose({"prefect": None}, {}, frozenset({4200}))[0] == {"prefect": 9000}
    both, _ = choose({"mlflow of a": None, "mlflow of b": None}, {"mlflow of b": 5001})
    assert both == {"mlflow of a": 9000, "mlflow of b": 5001}
    with pytest.raises(StackFault, match=r"port 4242 for prefect is taken.*--prefect-port"):
        choose({"prefect": 4242}, {})
