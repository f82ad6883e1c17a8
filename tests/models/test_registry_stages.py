"""The stage of a roll-out: one tag, compared with what was expected, and read by servers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.errors import RegistryFault
from models.registry_stages import TAG, Staged, Stages, readable, staged
from tests.models.test_registry_aliases import NOW, Killed, Memory, promote

AT = NOW.isoformat()
SHADOW = Staged("shadow", 0, 0.0, AT, AT, "1", "w2", "it begins")
CANARY = replace(SHADOW, mode="canary", step=1, share=0.1)


class Rolling(Stages, Memory):
    """The store in memory, with stages."""


@pytest.fixture
def store() -> Rolling:
    made = Rolling()
    promote(made, made.add(), None)
    made.add()
    return made


def test_a_roll_out_moves_step_by_step_and_never_over_another(store: Rolling) -> None:
    assert staged(store.version(2)) is None
    assert staged(store.stage(2, SHADOW, expected=None)) == SHADOW
    # a process that died and comes again finds its own step
    assert store.stage(2, SHADOW, expected=None) == store.challenger()
    with pytest.raises(RegistryFault, match="must still be at its beginning; it is at shadow 0"):
        store.stage(2, CANARY, expected=None)
    store.stage(2, CANARY, expected=SHADOW)
    assert staged(store.challenger()) == CANARY
    with pytest.raises(RegistryFault, match="only the challenger is rolled out; version 1 is not"):
        store.stage(1, replace(SHADOW, opponent=""), expected=None)


def test_a_roll_out_ends_when_its_opponent_is_champion_no_more(store: Rolling) -> None:
    store.stage(2, SHADOW, expected=None)
    three = store.add()
    with pytest.raises(RegistryFault, match="version 2 is not, 3 is"):
        store.stage(2, CANARY, expected=SHADOW)
    promote(store, three, "1")  # past the roll-out, by hand
    store.aliases["challenger"] = "2"
    with pytest.raises(RegistryFault, match="must still be 1; it is 3"):
        store.stage(2, CANARY, expected=SHADOW)
    store.stage(2, replace(CANARY, mode="rolled back", why="x" * 9_000), expected=SHADOW)
    ended = staged(store.version(2))
    assert ended is not None
    assert (ended.mode, len(ended.why)) == ("rolled back", 2_000)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_leaves_the_stage_before_or_the_one_after(store: Rolling, after: bool) -> None:
    store.stage(2, SHADOW, expected=None)
    store.fail_at, store.after, store.dead = store.writes + 1, after, True
    with pytest.raises(Killed):
        store.stage(2, CANARY, expected=SHADOW)
    assert staged(store.version(2)) == (CANARY if after else SHADOW)
    store.fail_at = None
    assert staged(store.stage(2, CANARY, expected=SHADOW)) == CANARY


def test_a_tag_of_somebody_elses_stops_the_roll_out_and_no_server(store: Rolling) -> None:
    store.tags["2"][TAG] = "somebody's own"
    assert readable(store.version(2)) is None
    with pytest.raises(RegistryFault, match="delete the tag"):
        staged(store.version(2))
