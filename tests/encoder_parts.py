"""A small sentence encoder of random weights, in the files that a real one has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "not", "good", "bad", "fine", "##ly", "grade", "##1"]
CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "layer_norm_eps": 1e-12,
    "vocab_size": len(WORDS) + 26,
}


def arrays(
    seed: int = 0, prefix: str = "", config: Mapping[str, object] = CONFIG
) -> dict[str, np.ndarray]:
    """A BERT's arrays, drawn at random."""
    rng = np.random.default_rng(seed)
    width, inner = (int(str(config[name])) for name in ("hidden_size", "intermediate_size"))
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (int(CONFIG["vocab_size"]), width),
        "embeddings.position_embeddings.weight": (int(CONFIG["max_position_embeddings"]), width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(int(CONFIG["num_hidden_layers"])):
        at = f"encoder.layer.{layer}"
        maps = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        maps |= {
            "attention.output.dense": (width, width),
            "intermediate.dense": (inner, width),
            "output.dense": (width, inner),
        }
        for name, shape in maps.items():
            shapes[f"{at}.{name}.weight"] = shape
            shapes[f"{at}.{name}.bias"] = shape[:1]
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name in norms:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)
    return {
        prefix + name: (rng.normal(size=shape) * 0.5 + ("Norm.weight" in name)).astype(np.float32)
        for name, shape in shapes.items()
    }


def write(
    folder: Path,
    seed: int = 0,
    *,
    pooling: str = "mean",
    prefix: str = "",
    config: Mapping[str, object] | None = None,
) -> Path:
    """The encoder's files in a folder, which is given back; `config` is besides `CONFIG`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, object] = {}
    whole_config = {**CONFIG, **(config or {})}
    body = b""
    for name, array in arrays(seed, prefix, whole_config).items():
        raw = array.tobytes()
        place = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": place}
        body += raw
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + body
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text(json.dumps(whole_config))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    told = json.dumps({"pooling_mode_cls_token": pooling == "cls"})
    (folder / "1_Pooling" / "config.json").write_text(told)
    words = [*WORDS, *(chr(ord("a") + i) for i in range(26))]
    vocabulary = {word: place for place, word in enumerate(words)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_padding(length=12)  # as some are saved: it must not count
    (folder / "tokenizer.json").write_text(made.to_str())
    return folder
