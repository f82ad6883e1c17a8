"""What the tests of the loop begin with, made once and copied."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.config import Config, load
from tests import registry_parts as parts
from tests.conftest import TINY_CONFIG

if TYPE_CHECKING:
    import pandas as pd

    from tasks.records import Outcome


@pytest.fixture(scope="session")
def first_champion(
    prefect_server: None,
    tmp_path_factory: pytest.TempPathFactory,
    make_frame: Callable[..., pd.DataFrame],
) -> Callable[[Config], Outcome]:
    """Gives a config of `tiny_config` its first champion, and the outcome of that retrain."""
    from flows.retrain import retrain
    from tests.flows.test_loop import START

    home = tmp_path_factory.mktemp("first")
    make_frame().to_csv(home / "flights.csv", index=False)
    path = home / "tiny.yaml"
    path.write_text(TINY_CONFIG, encoding="utf-8")
    made = load(path)
    parts.tables(made.folder)
    outcome = asyncio.run(retrain(made, "first", START))

    def give(config: Config) -> Outcome:
        moved(made.folder, config.folder)
        return outcome

    return give


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Config], None]:
    """Gives a config of `tiny_config` a store in which version 1 (window w1) is champion, and
    version 2 (w2) has passed its gate against it."""
    from models.registry import Registry
    from tests.flows.test_rollout import START

    home = tmp_path_factory.mktemp("versions")
    store = Registry(f"sqlite:///{parts.tables(home)}", "tiny", home / "artifacts")
    for number, candidate in enumerate(parts.candidates()[:2], 1):
        store.register(
            Path(candidate.bundle), candidate, parts.verdict(), window_id=f"w{number}", now=START
        )
        if number == 1:
            told = {"decision_id": "w1", "who": "tests", "why": "the first"}
            store.promote("1", expected=None, **told, now=START)

    def give(config: Config) -> None:
        moved(home, config.folder)

    return give


def moved(was: Path, folder: Path) -> None:
    """Copy all that a loop has written to `was`."""
    shutil.copytree(was, folder, dirs_exist_ok=True)
    parts.moved(was, folder)
