"""Who is champion, on a store in memory: every rule, and every write of it failing in turn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import RegistryFault
from models.records import Release
from models.registry_aliases import Aliases

NOW = datetime(2013, 3, 1, 6, tzinfo=UTC)


class Killed(BaseException):
    """The process is gone: nothing it would have done comes after."""


class Memory(Aliases):
    """A store in dictionaries. `fail_at` counts writes down to the one that fails.

    A failing write raises before or after (`after`) it took effect; when `dead`, all later writes
    fail as well, as after kill -9.
    """

    name = "flights"

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        self.aliases: dict[str, str] = {}
        self.record: dict[str, str] = {}
        self.writes = 0
        self.fail_at: int | None = None
        self.after = self.dead = False

    def add(self, gate: str = "passed") -> str:
        version = str(len(self.tags) + 1)
        self.tags[version] = {"gate": gate}
        self.aliases["challenger"] = version
        return version

    def state(self) -> object:
        return copy.deepcopy((self.tags, self.aliases, self.record))

    def delete(self, version: str) -> None:
        """As MLflow does it: the aliases go along."""
        del self.tags[version]
        self.aliases = {a: v for a, v in self.aliases.items() if v != version}

    def version(self, version: str | int) -> Release:
        found = self._find(str(version))
        if found is None:
            raise RegistryFault(f"no version {version}")
        return found

    def versions(self) -> tuple[Release, ...]:
        return tuple(map(self.version, self.tags))

    def _find(self, version: str) -> Release | None:
        if version not in self.tags:
            return None
        return Release(self.name, version, "", "", "", dict(self.tags[version]))

    def _by_alias(self, alias: str) -> Release | None:
        return self._find(self.aliases[alias]) if alias in self.aliases else None

    def _set_alias(self, alias: str, version: str) -> None:
        with self._written():
            self.aliases[alias] = version

    def _drop_alias(self, alias: str) -> None:
        with self._written():
            self.aliases.pop(alias, None)

    def _tag(self, version: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            with self._written():
                self.tags[version][key] = value

    def _untag(self, version: str, keys: Sequence[str]) -> None:
        for key in keys:
            with self._written():
                del self.tags[version][key]  # MLflow too refuses a tag that is not there

    def _record(self) -> Mapping[str, str]:
        return dict(self.record)

    def _write_record(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            with self._written():
                self.record[key] = value

    def _require_files(self, release: Release) -> None:
        pass

    def _locked(self, what: str) -> nullcontext[None]:
        return nullcontext()

    def _speaking(self, what: str) -> nullcontext[None]:
        return nullcontext()

    @contextmanager
    def _written(self) -> Iterator[None]:
        self.writes += 1
        due = self.fail_at is not None and (
            self.writes >= self.fail_at if self.dead else self.writes == self.fail_at
        )
        if due and not (self.after and self.writes == self.fail_at):
            raise self._fault()
        yield
        if due:
            raise self._fault()

    def _fault(self) -> BaseException:
        return Killed() if self.dead else OSError(28, "No space left on device")


@pytest.fixture
def store() -> Memory:
    return Memory()


def promote(store: Memory, version: str, expected: str | None) -> None:
    store.promote(
        version,
        expected=expected,
        decision_id=f"d{version}",
        who="tests",
        why=f"version {version} is better",
        now=NOW,
    )


def rollback(store: Memory, decision_id: str = "undo", expected: str | None = None) -> Release:
    return store.rollback(
        decision_id=decision_id, who="tests", why="it erred", now=NOW, expected=expected
    )


def test_promoting_the_champion_changes_nothing(store: Memory) -> None:
    one, two = store.add(), store.add()
    promote(store, one, None)
    promote(store, two, one)
    before = store.champion()
    store.promote(two, expected=one, decision_id="again", who="x", why="retry", now=NOW)
    assert store.champion() == before


def test_an_alias_that_reads_otherwise_is_a_fault(
    store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = store.add(), store.add()
    promote(store, one, None)
    before = store.version(two).tags
    monkeypatch.setattr(store, "_set_alias", lambda alias, version: None)
    with pytest.raises(RegistryFault, match=r"must read so; it reads 1: something moves aliases"):
        promote(store, two, one)
    assert store.version(two).tags == before


def test_what_was_rolled_back_is_never_gone_back_to(store: Memory) -> None:
    one, two, three = (store.add() for _ in range(3))
    promote(store, one, None)
    promote(store, two, one)
    rollback(store, "first")
    with pytest.raises(RegistryFault, match="rolled_back_at"):
        promote(store, two, one)
    promote(store, three, one)
    assert store.previous() == store.version(one)
    assert rollback(store, "second").version == one
    assert store.previous() is None
    with pytest.raises(RegistryFault, match=r"version 1 of flights has none: retrain"):
        rollback(store, "third")
    assert store.champion() == store.version(one)


def test_a_chain_is_rolled_back_step_by_step(store: Memory) -> None:
    one, two, three = (store.add() for _ in range(3))
    promote(store, one, None)
    promote(store, two, one)
    promote(store, three, two)
    assert rollback(store, "a").version == two
    assert rollback(store, "b").version == one


def test_a_retried_rollback_does_not_step_back_twice(store: Memory) -> None:
    one, two, three = (store.add() for _ in range(3))
    promote(store, one, None)
    promote(store, two, one)
    promote(store, three, two)
    assert rollback(store, "same").version == two
    assert rollback(store, "same").version == two
    assert store.champion() == store.version(two)


def test_a_late_retry_of_a_rollback_leaves_the_next_champion_alone(store: Memory) -> None:
    one, two, three = (store.add() for _ in range(3))
    promote(store, one, None)
    promote(store, two, one)
    rollback(store, "same")
    promote(store, three, one)
    assert rollback(store, "same").version == three


def test_rollback_compares_too(store: Memory) -> None:
    one, two = store.add(), store.add()
    promote(store, one, None)
    promote(store, two, one)
    with pytest.raises(RegistryFault, match="must still be 1; it is 2"):
        rollback(store, expected=one)
    assert rollback(store, expected=two).version == one


def test_rollback_needs_a_champion_and_one_before(store: Memory) -> None:
    with pytest.raises(RegistryFault, match=r"flights has none: promote a version"):
        rollback(store)
    promote(store, store.add(), None)
    with pytest.raises(RegistryFault, match=r"has none: retrain, or promote"):
        rollback(store)


def test_a_person_may_overrule(store: Memory) -> None:
    one, two = store.add(), store.add()
    promote(store, one, None)
    promote(store, two, one)
    rollback(store)
    store.promote(
        two, expected=one, decision_id="by hand", who="me", why="a bug of ours", now=NOW, force=True
    )
    champion = store.champion()
    assert champion is not None
    assert champion.version == two
    assert "rolled_back_at" not in champion.tags


def test_a_rejected_version_waits_no_more_and_never_serves(store: Memory) -> None:
    one, two = store.add(), store.add()
    promote(store, one, None)
    store.reject(two, "the canary erred", NOW)
    assert store.challenger() is None
    with pytest.raises(RegistryFault, match="rejected_at"):
        promote(store, two, one)
    assert store.reject(two, "again", NOW).tags["rejected_why"] == "the canary erred"
    with pytest.raises(RegistryFault, match=r"cannot be rejected.*call rollback"):
        store.reject(one, "no", NOW)


def test_a_deleted_champion_can_be_followed_by_another(store: Memory) -> None:
    one, two, three = (store.add() for _ in range(3))
    promote(store, one, None)
    promote(store, two, one)
    store.delete(two)
    promote(store, three, two)
    champion = store.champion()
    assert champion is not None
    assert champion.tags["previous_champion"] == one


def test_a_deleted_alias_is_set_again_without_losing_the_way_back(store: Memory) -> None:
    one, two = store.add(), store.add()
    promote(store, one, None)
    promote(store, two, one)
    del store.aliases["champion"]
    promote(store, two, two)
    assert store.champion() == store.version(two)
    assert rollback(store).version == one


# Every write failing in turn


def _promotion(store: Memory) -> None:
    promote(store, "2", "1")


def _rollback(store: Memory) -> None:
    rollback(store)


def _rejection(store: Memory) -> None:
    store.reject("3", "the canary erred", NOW)


def _loop(step: Callable[[Memory], None]) -> Memory:
    """Version 1 is champion and 3 waits; for a roll-back, 2 has followed 1."""
    store = Memory()
    for _ in range(3):
        store.add()
    promote(store, "1", None)
    if step is _rollback:
        promote(store, "2", "1")
    return store


STEPS = [_promotion, _rollback, _rejection]


def _writes(step: Callable[[Memory], None]) -> int:
    store = _loop(step)
    before = store.writes
    step(store)
    return store.writes - before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_fails_moves_nothing_for_good(
    step: Callable[[Memory], None], after: bool
) -> None:
    expected = _loop(step)
    step(expected)
    for nth in range(1, _writes(step) + 1):
        store = _loop(step)
        before = copy.deepcopy((store.tags, store.aliases["champion"]))
        holder = store._holder()
        store.fail_at, store.after = store.writes + nth, after
        with pytest.raises(OSError, match="No space left"):
            step(store)
        store.fail_at = None
        if step is not _rejection and store._holder() == holder:
            assert (store.tags, store.aliases["champion"]) == before, f"write {nth}"
            assert store.record["champion"] == holder.version
        else:  # the move was done, and only the challenger's alias was left to take away
            assert step is _rejection or nth == _writes(step)
        step(store)
        assert store.state() == expected.state(), f"write {nth}"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_at_any_write_leaves_a_champion_and_a_way_on(
    step: Callable[[Memory], None], after: bool
) -> None:
    expected = _loop(step)
    step(expected)
    for nth in range(1, _writes(step) + 1):
        store = _loop(step)
        store.fail_at, store.after, store.dead = store.writes + nth, after, True
        with pytest.raises(Killed):
            step(store)
        store.fail_at = None
        champion = store.champion()
        assert champion is not None
        assert champion.version in ("1", "2")
        step(store)  # the restarted process does it again
        assert store.state() == expected.state(), f"write {nth}"


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "refused", "promote", "rollback", "reject", "delete"]),
        st.integers(1, 6),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_whatever_is_done_the_champion_deserved_it(operations: list[tuple[str, int]]) -> None:
    store = Memory()
    for count, (what, number) in enumerate(operations):
        version, holder = str(number), store._holder()
        try:
            if what in ("add", "refused"):
                store.add("passed" if what == "add" else "refused")
            elif what == "promote":
                promote(store, version, holder.version)
            elif what == "rollback":
                rollback(store, f"undo{count}")
            elif what == "reject":
                store.reject(version, "no", NOW)
            elif version in store.tags and len(store.tags) == number:
                store.delete(version)
        except RegistryFault:
            continue
        now = store._by_alias("champion")
        if what == "rollback":
            assert now is not None
            assert now.version != holder.version
        if now is not None and what in ("promote", "rollback"):
            assert now.tags["gate"] == "passed"
            assert "rolled_back_at" not in now.tags
            assert "rejected_at" not in now.tags
        if now is None and holder.version is not None:
            with pytest.raises(RegistryFault, match="is gone"):  # never a silent 'no champion'
                store.champion()
