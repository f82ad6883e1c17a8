"""Warm processes: what a job does to its process stays there."""

from __future__ import annotations

import time

import pytest

from deployments.rounds.pool import Limits, Pool

HERE = "tests.deployments.rounds_jobs"


@pytest.fixture
def ran(monkeypatch):
    def run(jobs, **options):
        limits = Limits(**{"seconds": 30.0, **options.pop("limits", {})})
        made = Pool(f"{HERE}:work", options.pop("size", 1), (HERE,), limits=limits, **options)
        return list(made.run(iter(jobs)))

    return run


def test_a_job_that_kills_its_process_harms_no_other(ran):
    done = ran([{"do": "pid"}, {"do": "fail"}, {"do": "pid"}, {"do": "die"}, {"do": "pid"}])
    first, failed, second, died, third = done
    assert first.result == second.result != third.result  # warm until it died, then a new one
    assert failed.fault == "ValueError: no good"
    assert not failed.crashed
    assert died.crashed
    assert died.fault == "ended its process (SIGKILL)"
    assert died.told == "about to die"  # what was said before outlives the process
    assert died.result is None


def test_a_job_that_hangs_is_ended_and_those_beside_it_go_on(ran):
    began = time.monotonic()
    jobs = [{"do": "hang"}, *({"do": "pid"} for _ in range(3))]
    done = ran(jobs, size=2, limits={"seconds": 1.0})
    assert time.monotonic() - began < 10
    hung = next(d for d in done if d.job["do"] == "hang")
    assert hung.crashed
    assert hung.fault == "took longer than 1 s"
    assert [bool(d.result) for d in done if d is not hung] == [True] * 3


def test_a_process_ends_after_its_jobs_or_when_it_has_grown(ran):
    pids = [d.result for d in ran([{"do": "pid"}] * 5, limits={"jobs": 2})]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    grown = ran([{"do": "pid"}, {"do": "grow", "mb": 80}, {"do": "pid"}], limits={"memory_mb": 70})
    assert grown[1].memory_mb > 70
    assert grown[0].result != grown[2].result


def test_what_is_around_is_entered_once_in_each_process(ran):
    done = ran([{"do": "entered"}] * 3, around=f"{HERE}:around", limits={"jobs": 2})
    assert [d.result for d in done] == [1, 1, 1]


def test_a_process_that_cannot_start_is_a_fault_at_once(ran):
    with pytest.raises(RuntimeError, match=r"ended: exit 1.*memory"):
        ran([{"do": "pid"}], around=f"{HERE}:missing")


def test_without_a_job_no_process_is_started(ran, monkeypatch):
    monkeypatch.setattr(Pool, "_started", lambda *a: pytest.fail("started one"))
    assert ran([]) == []
