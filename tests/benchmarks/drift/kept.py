"""Answers of finished jobs in a file, one JSON line each, so that long runs go on in pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Kept:
    """What was answered so far; in memory alone without a `path`.

    A job is any JSON-able mapping that says everything its answer depends on, except for the code:
    begin a new file where that changed. With `ended` nothing more is to be computed.
    """

    path: Path | None = None
    ended: bool = False
    answers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                said = json.loads(line)
            except json.JSONDecodeError:  # the run was killed while it wrote
                continue
            self.answers[name(said["job"])] = said["answer"]

    def get(self, job: Mapping[str, Any]) -> Any:
        """The answer, None where there is none yet."""
        return self.answers.get(name(job))

    def put(self, job: Mapping[str, Any], answer: Any) -> None:
        self.answers[name(job)] = answer
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + json.dumps({"job": dict(job), "answer": answer}) + "\n")


def name(job: Mapping[str, Any]) -> str:
    """A job's name in the file: equal jobs have equal ones."""
    return json.dumps(dict(job), sort_keys=True)
