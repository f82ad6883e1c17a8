"""Every ordered pair of domains of a table, each with rows drawn anew by its seed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.config import Config
from tasks.transfer_sides import Side

AMAZON = "amazon_3domains.csv.gz"
LEAST = 400  # rows of a domain


@dataclass(frozen=True, slots=True)
class World:
    """A table whose column `by` names the domain of each row."""

    config: Config
    frame: Any  # pd.DataFrame
    by: str
    domains: tuple[str, ...]

    def pairs(self) -> Iterator[tuple[str, str]]:
        return itertools.permutations(self.domains, 2)

    def side(self, name: str, most: int, seed: int) -> Side:
        """At most `most` rows of a domain, drawn by `seed`, in a random order."""
        own = self.frame[self.frame[self.by].astype(str) == name]
        drawn = own.sample(min(most, len(own)), random_state=seed)
        columns = [*self.config.data.columns, self.config.data.target]
        return Side(name, drawn[columns].reset_index(drop=True))


def amazon(family: str) -> World:
    """The three Amazon domains (Blitzer et al. 2007), title and text."""
    folder = os.environ.get("EVERFIT_DATA")
    if folder is None or not (Path(folder) / AMAZON).is_file():
        raise FileNotFoundError(
            f"the reviews are {AMAZON} in the folder that EVERFIT_DATA names, and it is not there: "
            "set EVERFIT_DATA, or name a table with --data"
        )
    columns = {"title": "text", "text": "text"}
    return world(Path(folder) / AMAZON, "target", "domain", [family], columns)


def world(
    path: Path,
    target: str,
    by: str,
    families: Sequence[str],
    columns: dict[str, str] | None = None,
) -> World:
    """A table of one's own; the kinds of its columns are inferred where none are named. A time is
    left out: rows of one domain are in no order here."""
    from models.data import read_table
    from models.schema import infer

    frame = read_table(path)
    counts = frame[by].astype(str).value_counts()
    domains = tuple(sorted(name for name, count in counts.items() if count >= LEAST))
    if len(domains) < 2:
        raise ValueError(f"pairs need two values of {by!r} with {LEAST} rows, got {len(domains)}")
    schema, _ = infer(frame.drop(columns=[by]), target)
    kinds = columns or {column.name: column.kind for column in schema.columns}
    config = Config.model_validate(
        {
            "name": "pairs",
            "task": "text" if "text" in kinds.values() else "table",
            "data": {
                "source": str(path), "target": target, "columns": kinds,
                "classes": list(schema.classes),
            },
            "train": {"families": list(families)},
            "runs": f"/nonexistent-{datetime.now(UTC):%Y}",
        }
    )  # fmt: skip
    return World(config, frame, by, domains)


def made_small(world: World, kind: str) -> dict[str, Any]:
    """The defaults of the world's family with `compress` as asked. Raises ValueError for a family
    that can't be made small."""
    from models import families

    name = world.config.train.families[0]
    family = families.get(name)
    if "compress" not in family.space:
        raise ValueError(f"mlp and textnet can be made small, got {name}: name one with --family")
    more = {"student": 16, "temperature": 2.0} if kind == "student" else {"sparsity": 0.86}
    own = {**(family.default or {}), "compress": kind, "precision": "float32", **more}
    family.space.validate(own)
    return families.joined(name, own)
