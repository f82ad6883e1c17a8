"""The page of a study of two domains: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def write(
    path: Path,
    picture: Path,
    *,
    title: str,
    subtitle: str,
    advice: str,
    reasons: Sequence[str],
    tables: Sequence[Table],
) -> Path:
    """Write the page with the picture in it; whole or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("monitoring.transfer", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("transfer.html.j2").render(
        title=title,
        subtitle=subtitle,
        advice=advice,
        reasons=list(reasons),
        tables=list(tables),
        picture=base64.b64encode(picture.read_bytes()).decode("ascii"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text, encoding="utf-8")
    return fresh.replace(path)
