"""What is shown of a search is read from its journal."""

from __future__ import annotations

import io
import json
import re

from rich.console import Console

from deployments.commands.progress import tally, trials


def write(path, *losses, tail=""):
    lines = [json.dumps({"number": i, "loss": loss}) for i, loss in enumerate(losses)]
    path.write_text("\n".join(lines) + "\n" + tail, encoding="utf-8")


def test_a_tally_counts_failed_trials_and_leaves_out_a_line_being_written(tmp_path):
    journal = tmp_path / "trials.jsonl"
    assert tally(journal) == (0, None)
    write(journal, 0.5, None, 0.4, tail='{"number": 3, "lo')
    assert tally(journal) == (3, 0.4)
    write(journal, None)
    assert tally(journal) == (1, None)


def test_a_terminal_sees_trials_as_they_end(tmp_path):
    import time

    journal = tmp_path / "trials.jsonl"
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with trials(journal, 4, console, seconds=90.0):
        (tmp_path / "asks.jsonl").write_text("")
        write(journal, 0.6, 0.25)
        deadline = time.monotonic() + 10
        while "best loss 0.2500" not in screen.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "best loss 0.2500" in screen.getvalue()
    assert "2/4" in screen.getvalue()
    assert re.search(r"best loss 0.2500, (90|8\d) s left", screen.getvalue())


def test_a_file_sees_nothing(tmp_path):
    screen = io.StringIO()
    with trials(tmp_path / "none", 4, Console(file=screen, force_terminal=False)):
        pass
    assert screen.getvalue() == ""
