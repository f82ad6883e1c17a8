"""What a config says about columns of text: what they are learnt by, how long, and if watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from tasks.config import Config, Data

_KINDS = (("number", "numbers"), ("category", "categories"), ("text", "texts"))


def inputs(kinds: list[str]) -> str:
    """How many columns of each kind there are, for a person.

    >>> inputs(["number", "category", "number"]), inputs(["text", "number"]), inputs(["text"])
    ('2 numbers and 1 category', '1 number and 1 text', '1 text')
    """
    named = [
        f"{kinds.count(one)} {one if kinds.count(one) == 1 else many}"
        for one, many in _KINDS
        if one in kinds or (one != "text" and "text" not in kinds)
    ]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]


def longest(data: Data, frame: pd.DataFrame, most: int) -> list[str]:
    """Texts that are longer than the `most` characters that the server takes."""
    said = []
    for name, kind in data.columns.items():
        if kind != "text" or name not in frame.columns:
            continue
        lengths = frame[name].dropna().astype(str).str.len()
        if long := int((lengths > most).sum()):
            said.append(
                f"{long:,} of {len(frame):,} texts in {name} have more than "
                f"serving.maximum_text, {most:,} characters (up to {int(lengths.max()):,}): the "
                "server refuses such; cut them there and here, or raise it"
            )
    return said


def reading(config: Config) -> list[str]:
    """Which families read the texts, and which texts can't be watched."""
    if config.task != "text":
        return []
    from models import families

    texts = [name for name, kind in config.data.columns.items() if kind == "text"]
    known = [name for name in config.train.families if name in families.NAMES]
    deaf = [name for name in known if "text" not in families.get(name).reads]
    said = []
    if deaf:
        said.append(f"{', '.join(deaf)} learns from the other columns alone, not from text")
    if lost := [name for name in texts if name not in config.texts]:
        said.append(
            f"{', '.join(lost)} is never stored: its drift cannot be watched, and served rows are "
            "not learnt"
        )
    return said
