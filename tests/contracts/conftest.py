"""Each searcher in turn, found and not listed."""

from __future__ import annotations

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "searcher" in metafunc.fixturenames:
        from tests.searcher_parts import discovered

        metafunc.parametrize("searcher", discovered(), ids=lambda cls: cls.kind)
