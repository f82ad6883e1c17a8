"""What cuts texts for an exported text network: its tokenizer, and how the texts come to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from models.encoding import Encoder
from models.text import tokenizer, tokens

if TYPE_CHECKING:
    from models.families.text_network import Shape

_SCRIPT = Path(__file__).parent / "scripts" / "cutting_tokens.py"


def files(bundle: Path, encoder: Encoder, shape: Shape | None = None) -> dict[str, str]:
    """Files of an export, by name. With a shape its inputs are of one length, as LiteRT wants them,
    and the script finds the rows of the wide table too."""
    how: dict[str, object] = {
        "texts": list(encoder.texts),
        "characters": tokens.CHARACTERS,
        "length": None,
    }
    if shape is not None:
        from models.families.text_batches import BUCKETS, PRIME

        how |= {
            "length": tokenizer.LENGTH,
            "phrases": shape.phrases,
            "vocabulary": shape.vocabulary,
            "buckets": BUCKETS,
            "prime": PRIME,
        }
    return {
        tokenizer.FILE: (bundle / tokenizer.FILE).read_text(encoding="utf-8"),
        "tokens.json": json.dumps(how),
        "cutting.py": _SCRIPT.read_text(encoding="utf-8"),
    }
