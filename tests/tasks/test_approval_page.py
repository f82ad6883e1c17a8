"""What a person is shown before they decide: verdict, figures, slices, picture, commands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from models.records import Release, Verdict
from models.registry_approvals import Approval
from tasks import approval_page, lineage, places
from tasks.config import load
from tasks.lineage import Lineage

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
ASKED = Approval("7", "d", "needed", NOW.isoformat(), "2024-05-08T12:00:00+00:00", "6")
SLICES = (
    {"slice": "carrier", "value": "AA", "rows": 900, "gain": 0.03, "low": 0.01, "high": 0.05},
    {"slice": "carrier", "value": "EV", "rows": 120, "gain": -0.02, "low": -0.05, "high": 0.01},
)
VERDICT = Verdict(
    True, "better by 0.02", 1_234, "log_loss", {"log_loss": 0.5}, {"log_loss": 0.48, "error": 0.2},
    0.02, 0.01, 0.03, 0.95, SLICES,
)  # fmt: skip
MADE = Lineage("w7", NOW, 50_000, NOW, {}, {}, VERDICT, "6", 16, 9.0)


@pytest.fixture
def page(tiny_config, tmp_path, monkeypatch):
    """`page(asked, made)`: the markdown about version 7."""
    picture = tmp_path / "drift_picture.png"
    picture.write_bytes(b"\x89PNG")
    kept = SimpleNamespace(
        fetch_file=lambda _version, name, _folder: picture if name == picture.name else None
    )
    monkeypatch.setattr(places, "registry", lambda _config: kept)

    def make(asked=ASKED, made=MADE):
        def read(*_args):
            if isinstance(made, Exception):
                raise made
            return made

        monkeypatch.setattr(lineage, "read", read)
        release = Release("tiny", "7", "d", "w7", "r")
        return approval_page.page(load(tiny_config), release, asked)

    return make


def test_it_has_all_that_is_to_be_weighed(page):
    text = page()
    assert text.startswith(
        "# version 7 waits for a person's approval until 2024-05-08T12:00\n\n`everfit approve tiny "
        "7 --why '...'`"
    )
    assert "set the tag `everfit.approval` of version 7 to `approved` or `rejected`" in text
    assert "against version 6 on 1,234 rows that neither has learnt: **better by 0.02**" in text
    assert "Trained on 50,000 rows until 2024-05-01; window `w7`" in text
    assert "| log_loss | 0.5 | 0.48 |\n| error |  | 0.2 |" in text
    assert "| gain of log_loss a row | | 0.02 (0.01 to 0.03) |" in text
    assert text.index("carrier = EV") < text.index("carrier = AA")  # the worst slice first
    assert "| carrier = EV | 120 | -0.02 | -0.05 to 0.01 |" in text
    assert "![what moved](data:image/png;base64,iVBORw==)" in text


def test_the_answer_stands_there_in_the_place_of_the_question(page):
    given = replace(ASKED, state="approved", by="eve", why="fine", refused=("too early",))
    text = page(given, replace(MADE, verdict=replace(VERDICT, slices=()), opponent=None))
    assert text.startswith("# version 7 was approved by eve: fine\n\n- did not count: too early")
    assert "everfit approve" not in text
    assert "slice" not in text
    assert "Its lineage cannot be read: gone" in page(made=lineage.NotOurs("gone"))
