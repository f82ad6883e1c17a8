"""People's words and hands on the aliases, on a store in memory: every rule, and every kill."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from models.errors import AliasLost, RegistryFault
from models.records import Release
from models.registry_approvals import RECORD, WORD, approval
from models.registry_audit import FOREIGN, OUTSIDE, Audited
from models.registry_stages import TAG, Staged, staged
from tests.models.test_registry_aliases import NOW, Killed, Memory, promote

AT = NOW.isoformat()
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)


class People(Audited, Memory):
    """The store in memory, with approvals and audits; its versions are everfit's own."""

    foreign: frozenset[str] = frozenset()

    def _find(self, version: str) -> Release | None:
        found = super()._find(version)
        if found is None or version in self.foreign:
            return found
        return replace(found, digest=f"digest-{version}", window_id=f"w{version}")


@pytest.fixture
def store() -> People:
    made = People()
    promote(made, made.add(), None)
    made.add()
    return made


def ask(store: People, version: str = "2", opponent: str = "1"):  # type: ignore[no-untyped-def]
    return store.ask(version, opponent=opponent, until=NOW + WEEK, now=NOW)


def settle(store: People, said: str, version: str = "2", now=NOW, how: str = "command"):  # type: ignore[no-untyped-def]
    return store.settle(version, said, by="eve", why="it is right", how=how, now=now)  # type: ignore[arg-type]


def test_a_yes_counts_for_the_version_that_was_asked_about_and_no_other(store: People) -> None:
    with pytest.raises(RegistryFault, match="nobody was asked about version 2"):
        settle(store, "approved")
    assert ask(store) == ask(store)
    assert settle(store, "approved").passed
    assert settle(store, "approved").by == "eve"  # said again
    promote(store, "2", "1")
    three = store.add()
    store.tags[three] |= {key: store.tags["2"][key] for key in (WORD, RECORD)}
    assert approval(store.version(three)) is None
    assert ask(store, three, "2").waits
    assert store.tags[three][WORD] == "needed"
    for copied in ("{", "[]", '{"version": "3"}'):
        store.tags[three][RECORD] = copied
        assert approval(store.version(three)) is None


def test_what_waits_or_was_denied_answers_no_caller(store: People) -> None:
    shadow = Staged("shadow", 0, 0.0, AT, AT, "1", "w2")
    store.stage(2, shadow, expected=None)
    ask(store)
    canary = replace(shadow, mode="canary", step=1, share=0.1)
    with pytest.raises(RegistryFault, match="what a person has approved; version 2 waits"):
        store.stage(2, canary, expected=shadow)
    with pytest.raises(RegistryFault, match=r"everfit\.approval=needed"):
        promote(store, "2", "1")
    assert settle(store, "rejected").state == "rejected"
    assert store.challenger() is None
    with pytest.raises(RegistryFault, match=r"rejected_at=.*everfit.approval=rejected"):
        promote(store, "2", "1")
    with pytest.raises(RegistryFault, match="what is decided stays decided; version 2 was rej"):
        settle(store, "approved")
    forced = store.force(2, by="eve", why="I know better", now=NOW + HOUR)
    assert forced.forced
    assert "rejected_at" in forced.refused[-1]
    assert TAG not in store.tags["2"]  # its roll-out begins anew
    assert store.force(2, by="eve", why="again", now=NOW + 2 * HOUR) == forced
    promote(store, "2", "1")
    with pytest.raises(RegistryFault, match="a champion needs no approval"):
        store.force(2, by="eve", why="why not", now=NOW)


def test_a_yes_that_comes_too_late_or_was_overtaken_ends_the_waiting(store: People) -> None:
    ask(store)
    late = settle(store, "approved", now=NOW + WEEK + HOUR)
    assert (late.state, late.by) == ("expired", "everfit")
    assert "approved by eve: it is right; but nobody approved it by" in late.refused[-1]
    three = store.add()
    ask(store, three)
    store.aliases["challenger"] = "2"
    assert "version 2 passed its gate meanwhile" in settle(store, "approved", three).why
    four = store.add()
    ask(store, four)
    store.aliases["champion"] = "2"
    assert "version 2 is champion meanwhile" in settle(store, "approved", four).why
    for refused in ("2", three, four):
        assert "rejected_at" in store.tags[refused]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("said", ["approved", "rejected"])
def test_a_kill_at_any_write_is_a_yes_or_none(said: str, after: bool) -> None:
    def fresh() -> People:
        made = People()
        promote(made, made.add(), None)
        made.add()
        made.writes = 0
        return made

    whole = fresh()
    ask(whole)
    asking = whole.writes
    settle(whole, said)
    for at in range(1, whole.writes + 1):
        store = fresh()
        store.fail_at, store.after, store.dead = at, after, True
        with pytest.raises(Killed):
            asked_and_said(store, said)
        store.fail_at = None
        found = approval(store.version("2"))
        if at <= asking:
            assert found is None or found.waits
        if found is not None and not found.passed:
            with pytest.raises(RegistryFault):
                promote(store, "2", "1")
        asked_and_said(store, said)  # whoever comes next completes it
        assert approval(store.version("2")).state == said  # type: ignore[union-attr]
        assert ("rejected_at" in store.tags["2"]) == (said == "rejected")
        assert ("challenger" in store.aliases) == (said == "approved")


def asked_and_said(store: People, said: str) -> None:
    ask(store)
    settle(store, said)


def test_a_hand_on_the_alias_is_told_from_everfits_own_moves_and_recorded_once(
    store: People,
) -> None:
    assert store.audit(NOW) is None
    store.stage(2, Staged("shadow", 0, 0.0, AT, AT, "1", "w2"), expected=None)
    ask(store)
    store.aliases["champion"] = "2"
    found = store.audit(NOW + HOUR, seen=AT)
    assert found is not None
    assert (found.version, found.before, found.at, found.against) == (
        "2", "1", AT, ("everfit.approval=needed",)
    )  # fmt: skip
    tags = store.tags["2"]
    assert (tags["moved_by"], tags["moved_from"], tags["previous_champion"]) == (OUTSIDE, "1", "1")
    assert staged(store.version(2)).mode == "done"  # type: ignore[union-attr]
    assert approval(store.version(2)).by == OUTSIDE  # type: ignore[union-attr]
    assert store.challenger() is None
    assert store.audit(NOW + 2 * HOUR) is None
    # the way back is known, and what was rolled back is a hand's again if a hand takes it
    back = {"decision_id": "d", "who": "tests", "why": "no good", "now": NOW + 3 * HOUR}
    assert store.rollback(**back).version == "1"
    assert store.audit(NOW + 3 * HOUR) is None
    store.aliases["champion"] = "2"
    again = store.audit(NOW + 4 * HOUR)
    assert again is not None
    assert "rolled_back_at" in str(again)
    assert "rolled_back_at" not in store.tags["2"]  # a person has decided
    store.aliases["champion"] = "1"
    third = store.audit(NOW + 5 * HOUR)
    assert third is not None
    assert (third.before, store.tags["1"]["previous_champion"]) == ("2", "2")


def test_the_baking_of_the_champion_before_ends(store: People) -> None:
    promote(store, "2", "1")
    store.stage(2, Staged("bake", 0, 0.0, AT, AT, "1", "w2"), expected=None)
    store.aliases["champion"] = "1"
    assert store.audit(NOW + HOUR) is not None
    ended = staged(store.version(2))
    assert ended is not None
    assert (ended.mode, ended.why) == ("rolled back", f"version 1 was made champion {OUTSIDE}")


@pytest.mark.parametrize("after", [False, True])
def test_a_move_of_everfits_own_that_died_is_no_hand(after: bool) -> None:
    def moved(store: People, *moves: str) -> None:
        for number, move in enumerate(moves):
            now = NOW + number * HOUR
            who = {"decision_id": f"d{number}", "who": "x", "why": "y", "now": now}
            if move == "back":
                store.rollback(**who)
            else:
                holder = store._holder().version
                store.promote(move, expected=holder, force=True, **who)

    for moves in (("1", "2"), ("1", "2", "back"), ("1", "2", "back", "2"), ("1", "2", "1")):
        whole = People()
        whole.add(), whole.add()
        moved(whole, *moves[:-1])
        before = whole.writes
        moved_all = People()
        moved_all.add(), moved_all.add()
        moved(moved_all, *moves)
        for at in range(before + 1, moved_all.writes + 1):
            store = People()
            store.add(), store.add()
            store.fail_at, store.after, store.dead = at, after, True
            with pytest.raises(Killed):
                moved(store, *moves)
            store.fail_at = None
            assert store.hand_moved() is None, (moves, at)


def test_a_foreign_version_is_marked_and_no_way_back_leads_to_it(store: People) -> None:
    promote(store, "2", "1")
    store.foreign = frozenset({store.add()})
    store.aliases["champion"] = "3"
    found = store.audit(NOW + HOUR)
    assert found is not None
    assert not found.ours
    assert "did not register: it is not served, version 2 stays" in str(found)
    assert FOREIGN in store.tags["3"]
    assert store.previous() == store.version("2")
    store.aliases["champion"] = "2"
    assert store.audit(NOW + 2 * HOUR) is not None
    assert store.previous() == store.version("1")


def test_an_alias_that_is_gone_is_told_and_nothing_is_written(store: People) -> None:
    before = store.state()
    del store.aliases["champion"]
    found = store.audit(NOW)
    assert found is not None
    assert (found.version, found.before, found.at) == (None, "1", AT)
    store.aliases["champion"] = "1"
    assert store.state() == before
    store.delete("1")
    with pytest.raises(AliasLost):
        store.champion()
