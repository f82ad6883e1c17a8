"""A digest for people: one HTML file that needs nothing else, and a few lines of Markdown."""

from __future__ import annotations

from pathlib import Path

from monitoring.digest import front
from monitoring.digest.drawing import draw
from monitoring.digest.facts import Digest
from monitoring.records import Kind, Signal
from monitoring.wording import say

_MEASURED = (Kind.PERFORMANCE, Kind.ESTIMATE, Kind.LATENCY, Kind.SERVICE)
_SHOWN = 60  # decisions in the page's table, the newest
_TOLD = 12  # in the Markdown


def write(digest: Digest, path: Path) -> Path:
    """Write the page; whole or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("monitoring.digest", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("digest.html.j2").render(
        digest=digest,
        svg=draw(digest),
        fronts=[(made, front.draw(made.front)) for made in digest.made if made.front is not None],
        acted=digest.acted[::-1][:_SHOWN],
        left_out=max(0, len(digest.acted) - _SHOWN),
        measured=[
            (signal.name, say(signal))
            for signal in (*digest.last(*_MEASURED), *_vocabulary(digest))
        ],
        labels=[(signal.name, say(signal)) for signal in digest.last(Kind.LABELS)],
        nearly=[str(near) for near in digest.decisions[-1].nearly] if digest.decisions else [],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text, encoding="utf-8")
    return fresh.replace(path)


def markdown(digest: Digest) -> str:
    """The same in short: what happened, the retrains, and the decisions that did something."""
    lines = [f"# {digest.model}, {digest.since:%d %b} to {digest.until:%d %b %Y}", ""]
    lines += [f"- {line}" for line in digest.headline]
    if digest.made:
        lines += ["", "| version | made | came to | trials | why |", "|---|---|---|---|---|"]
        lines += [
            f"| {made.version} | {made.time:%a %H:%M} | {made.fate} | "
            f"{'' if made.trials is None else made.trials} | {_cell(made.verdict)} |"
            for made in digest.made
        ]
    if digest.acted:
        lines += ["", "| check | decided | rule | why |", "|---|---|---|---|"]
        lines += [
            f"| {d.time:%a %d %b %H:%M} | {d.action.value} | {d.rule} | "
            f"{_cell('; '.join(d.reasons[:2] or d.alerts[:2]))} |"
            for d in digest.acted[-_TOLD:]
        ]
    measured = [say(signal) for signal in digest.last(*_MEASURED)]
    if measured:
        lines += ["", "Measured last:", "", *(f"- {line}" for line in measured)]
    return "\n".join(lines) + "\n"


def _vocabulary(digest: Digest) -> list[Signal]:
    return [signal for signal in digest.last(Kind.DRIFT) if signal.name == "vocabulary"]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
