"""What schemathesis finds in the server by its own OpenAPI description: nothing.

    everfit bench openapi
    everfit bench openapi --set examples=500 --set seed=7

Two models are trained on made-up rows, registered and served by a process of its own each: one of
numbers and categories with text as classes, one of numbers alone with 0 and 1. schemathesis (the
extra `bench`) reads /openapi.json and sends requests that fit it, that nearly fit it, and chains of
them, with all of its checks: no 500, nothing undescribed, what fits is answered, what doesn't is
refused. A row's `findings` are its reports; they are printed whole when there are any.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.protocols.served import MODELS, prepare, served


def run(
    json_path: Path | None = None, *, examples: int = 100, seed: int = 0
) -> list[dict[str, Any]]:
    """One row for each model; `examples` requests are made for each operation and kind."""
    rows = []
    for name, (columns, classes) in MODELS.items():
        with tempfile.TemporaryDirectory(prefix="bench-openapi-") as home:
            config = prepare(Path(home), columns, classes)
            with served(config, Path(home)) as url:
                rows.append({"model": name} | _examined(url, examples, seed, Path(home)))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _examined(url: str, examples: int, seed: int, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["run", f"{url}/openapi.json", "--checks", "all", "--no-color"]
    command += ["--max-examples", str(examples), "--seed", str(seed)]
    begun = time.perf_counter()
    ended = subprocess.run(
        command, cwd=home, capture_output=True, text=True, check=False, env={**os.environ}
    )
    operations = re.search(r"Tested: (\d+)", ended.stdout)
    cases = re.search(r"(\d+) generated", ended.stdout)
    found = re.search(r"found (\d+) unique failures?", ended.stdout)
    if ended.returncode or not operations or not cases:
        sys.stderr.write(ended.stdout + ended.stderr)
    return {
        "operations": int(operations[1]) if operations else 0,
        "requests": int(cases[1]) if cases else 0,
        "findings": int(found[1]) if found else int(ended.returncode != 0),
        "seconds": round(time.perf_counter() - begun, 1),
    }
