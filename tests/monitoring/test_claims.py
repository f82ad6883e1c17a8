"""Claims: one claimant per window, one retrain per model, and the dead are taken over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import IntegrityError

from monitoring.claims import Claim, Claims, owner_alive, process_owner, process_start
from monitoring.errors import StoreFault
from monitoring.tables import claim_beats
from monitoring.tables import claims as table
from monitoring.telemetry import TelemetryStore

NOW = datetime(2013, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ME = process_owner()
OTHER = process_owner("another run of this process")
FOREIGN = "some-other-host:1:1@0"


@pytest.fixture
def book(store_url: str) -> Iterator[Claims]:
    with Claims(store_url) as opened:
        yield opened


@pytest.fixture
def dead() -> str:
    """The owner string of a process that has ended."""
    code = "from monitoring.claims import process_owner as o; import sys; sys.stdout.write(o())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_a_window_is_claimed_once_and_its_result_is_remembered(book: Claims) -> None:
    first = book.claim("w1", ME, NOW, model="flights")
    assert first == Claim("new", "w1", "flights", "", ME, NOW, NOW, attempts=1, state="running")
    assert first.mine

    book.advance("w1", "tuned", NOW + HOUR, owner=ME)
    second = book.claim("w1", OTHER, NOW + HOUR, model="flights")
    assert (second.status, second.stage, second.owner, second.mine) == ("busy", "tuned", ME, False)
    assert second.updated == NOW + HOUR

    book.finish("w1", {"version": "2", "passed": True}, NOW + 2 * HOUR, owner=ME)
    third = book.claim("w1", OTHER, NOW + 3 * HOUR, model="flights")
    assert (third.status, third.result) == ("done", {"version": "2", "passed": True})
    assert not third.mine
    assert book.running("flights") is None


def test_one_retrain_of_a_model_at_a_time(book: Claims) -> None:
    book.claim("w1", ME, NOW, model="flights")

    busy = book.claim("w2", OTHER, NOW, model="flights")
    assert (busy.status, busy.window_id) == ("busy", "w1")
    assert book.get("w2") is None
    assert book.claim("x1", OTHER, NOW, model="mail").status == "new"
    running = book.running("flights")
    assert running is not None
    assert running.window_id == "w1"

    book.finish("w1", {}, NOW)
    assert book.claim("w2", OTHER, NOW, model="flights").status == "new"


def test_a_failed_claim_may_be_claimed_again(book: Claims) -> None:
    book.claim("w1", ME, NOW)
    book.advance("w1", "tuned", NOW)
    book.fail("w1", "OSError: disk full", NOW + HOUR)
    assert book.running() is None

    again = book.claim("w1", OTHER, NOW + 2 * HOUR)

    assert (again.status, again.stage, again.error) == ("resumed", "tuned", "OSError: disk full")
    assert (again.owner, again.started, again.attempts) == (OTHER, NOW + 2 * HOUR, 2)


def test_the_owner_itself_may_try_again(book: Claims) -> None:
    book.claim("w1", ME, NOW)
    again = book.claim("w1", ME, NOW + HOUR)
    assert (again.status, again.attempts) == ("resumed", 2)
    # Another window of the same owner is a second retrain all the same.
    assert book.claim("w2", ME, NOW + HOUR).status == "busy"


def test_a_dead_owner_is_taken_over(book: Claims, dead: str) -> None:
    assert owner_alive(dead) is False
    book.claim("w1", dead, NOW)
    book.advance("w1", "fitted", NOW, owner=dead)
    assert book.running() is None
    interrupted = book.interrupted()
    assert interrupted is not None
    assert (interrupted.window_id, interrupted.stage) == ("w1", "fitted")

    taken = book.claim("w1", ME, NOW + HOUR)

    assert (taken.status, taken.stage, taken.owner) == ("resumed", "fitted", ME)
    assert dead in taken.error
    assert book.interrupted() is None
    for change in (
        lambda: book.advance("w1", "registered", NOW, owner=dead),
        lambda: book.finish("w1", {"version": "9"}, NOW, owner=dead),
        lambda: book.fail("w1", "late", NOW, owner=dead),
    ):
        with pytest.raises(StoreFault, match="only the owner of a running claim"):
            change()
    found = book.get("w1")
    assert found is not None
    assert (found.status, found.stage, found.result) == ("busy", "fitted", None)


def test_a_dead_owner_blocks_no_other_window_and_its_own_stays_claimable(
    book: Claims, dead: str
) -> None:
    book.claim("w1", dead, NOW)
    assert book.claim("w2", ME, NOW).status == "new"
    book.finish("w2", {}, NOW)
    assert book.claim("w1", ME, NOW).status == "resumed"


def test_a_reused_process_id_is_not_the_owner(book: Claims) -> None:
    host, pid, _ = ME.split(":")
    book.claim("w1", f"{host}:{pid}:12345@0", NOW)  # our id, but started at another time
    assert book.claim("w1", ME, NOW).status == "resumed"


def test_a_killed_process_that_nobody_waited_for_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_start(child.pid) is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is a zombie
    assert process_start(child.pid) is None
    child.communicate()


def _silent_for(book: Claims, seconds: float | None) -> None:
    """Move the last beats into the past, by the database's clock; None: they never were."""
    with book.database.write() as connection:
        if seconds is None:
            connection.execute(delete(claim_beats))
        else:
            moment = book.database.clock() - int(seconds * 1e6)
            connection.execute(update(claim_beats).values(at=moment))


def test_an_owner_on_another_host_lives_as_long_as_it_beats(store_url: str) -> None:
    with Claims(store_url, lease=timedelta(minutes=2)) as book:
        book.claim("w1", FOREIGN, NOW)
        assert owner_alive(FOREIGN) is None
        year = NOW + 8_760 * HOUR  # a caller's clock that is wrong by a year takes nobody's window
        assert book.claim("w1", ME, year).status == "busy"
        _silent_for(book, 119)
        assert book.claim("w1", ME, year).status == "busy"
        _silent_for(book, 121)
        assert book.running(now=NOW) is None
        assert book.beat("w1", FOREIGN)  # it was only slow
        assert book.claim("w1", ME, NOW).status == "busy"
        _silent_for(book, 121)
        assert book.claim("w1", ME, NOW).status == "resumed"
        assert not book.beat("w1", FOREIGN)  # too late: it is told so, here and at its next step
        with pytest.raises(StoreFault, match="only the owner"):
            book.advance("w1", "register", NOW, owner=FOREIGN)


def test_an_owner_that_never_beat_lives_as_long_as_its_lease(store_url: str) -> None:
    with Claims(store_url, foreign_lease=6 * HOUR) as book:
        book.claim("w1", FOREIGN, NOW)
        _silent_for(book, None)  # by an everfit that knew no beats
        assert book.claim("w1", ME, NOW + 6 * HOUR).status == "busy"
        book.advance("w1", "tuned", NOW + 5 * HOUR, owner=FOREIGN)
        assert book.claim("w1", ME, NOW + 11 * HOUR).status == "busy"
        assert book.running(now=NOW + 12 * HOUR) is None
        assert book.running() is not None  # without a clock no lease runs out
        assert book.claim("w1", ME, NOW + 12 * HOUR).status == "resumed"


def _refused() -> None:
    raise StoreFault("there is no room")


def test_a_claim_that_this_process_could_not_give_back_is_free(
    book: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.claim("w1", ME, NOW)
    assert book.claim("w2", OTHER, NOW).status == "busy"
    with monkeypatch.context() as patch:
        patch.setattr(book.database, "write", _refused)  # a full disk: the row says that it runs
        with pytest.raises(StoreFault, match="no room"):
            book.fail("w1", "disk full", NOW, owner=ME)
    found = book.interrupted()
    assert found is not None
    assert found.window_id == "w1"
    assert book.claim("w2", OTHER, NOW).status == "new"


def test_finishing_twice_with_one_result_is_finishing_once(book: Claims) -> None:
    book.claim("w1", ME, NOW)
    book.finish("w1", {"version": "2"}, NOW)
    book.finish("w1", {"version": "2"}, NOW + HOUR)
    for change in (
        lambda: book.finish("w1", {"version": "3"}, NOW),
        lambda: book.fail("w1", "late", NOW),
        lambda: book.advance("w1", "again", NOW),
        lambda: book.finish("w9", {}, NOW),
    ):
        with pytest.raises(StoreFault, match="only the owner of a running claim"):
            change()
    found = book.get("w1")
    assert found is not None
    assert (found.result, found.updated) == ({"version": "2"}, NOW)


def test_an_owner_that_is_none_is_refused(book: Claims) -> None:
    book.claim("w1", "me", NOW)
    with pytest.raises(StoreFault, match="an owner is host:pid:start, got 'me'"):
        book.claim("w2", ME, NOW)


def test_the_database_itself_refuses_a_second_running_retrain(book: Claims) -> None:
    book.claim("w1", ME, NOW)
    row = {"window_id": "w2", "model": "", "state": "running", "owner": OTHER, "started": 0}
    row |= {"updated": 0, "stage": "", "attempts": 1, "error": ""}
    with pytest.raises(IntegrityError), book.database.engine.begin() as connection:
        connection.execute(insert(table), row)


def test_claims_share_the_engine_of_an_open_store(store_url: str) -> None:
    with TelemetryStore(store_url) as store:
        with Claims(store.database.engine) as book:
            assert book.claim("w1", ME, NOW).status == "new"
        assert store.counts()["predictions"] == 0  # still open


def test_threads_that_race_for_a_window_get_one_new(book: Claims) -> None:
    told: list[str] = []
    threads = [
        threading.Thread(
            target=lambda n=n: told.append(book.claim("w1", process_owner(str(n)), NOW).status)
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["busy"] * 7 + ["new"]


RACE = """
import sys
from datetime import UTC, datetime
from monitoring.claims import Claims, process_owner
with Claims(sys.argv[1]) as book:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(10):
        window = f"w{n}" if sys.argv[2] == "same" else f"w{n}-{process_owner()}"
        now = datetime(2013, 1, 1, tzinfo=UTC)
        print(book.claim(window, process_owner(), now, model=str(n)).status, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("windows", ["same", "different"])
def test_processes_that_race_get_one_new_and_one_busy(store_url: str, windows: str) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, store_url, windows],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        told = [[child.stdout.readline().strip() for _ in range(10)] for child in children]
    finally:
        for child in children:
            child.communicate("\n", timeout=20)
    for pair in zip(*told, strict=True):
        assert sorted(pair) == ["busy", "new"]


def test_without_proc_only_life_and_death_are_known(tmp_path: Path) -> None:
    assert process_start(os.getpid(), proc=tmp_path) == ""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    deadline = time.monotonic() + 5
    while process_start(ended.pid, proc=tmp_path) is not None:  # the id could be taken at once
        assert time.monotonic() < deadline
        time.sleep(0.05)
