"""Answers written by templates: what is the same in all answers of a version is written once.

Byte for byte what `protocols.render` and `inference_protocol.render` write of the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deployments.serving.inference_protocol import class_datatype

encode = msgspec.json.encode


def texts(probabilities: np.ndarray) -> list[bytes]:
    """The numbers of each row (n, k) as JSON, between commas and without brackets."""
    return encode(probabilities.tolist())[2:-2].split(b"],[")


def _plain(text: bytes) -> bytes:
    """As a part of a template."""
    return text.replace(b"%", b"%%")


class Writer:
    """Writes the answers of one version. `labels` are given as places in `classes`."""

    def __init__(self, name: str, version: str, classes: Sequence[Any]) -> None:
        self._labels = [encode(value) for value in classes]
        self.head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-model-version: %b\r\n"
        self.head %= version.encode("latin-1")
        keys = [encode(f"probability_{value}") for value in classes]
        self._rows = [
            b'{"label":%b,' % _plain(label) + b",".join(_plain(key) + b":%b" for key in keys) + b"}"
            for label in self._labels
        ]
        self._version = encode(version)
        self._invocation = b'{"predictions":[%%b],"model_version":%b,"ids":["%%b"]}' % _plain(
            self._version
        )
        named = b'"model_name":%b,"model_version":%b' % (encode(name), self._version)
        datatype = encode(class_datatype(classes))
        outputs = [
            b'{"name":"label","shape":[%%d],"datatype":%b,"data":[%%b]}' % datatype,
            *(
                b'{"name":%b,"shape":[%%d],"datatype":"FP64","data":[%%b]}' % _plain(key)
                for key in keys
            ),
        ]
        self._inference = (
            b"{%b" % _plain(named)
            + b',"parameters":{"ids":["%b"]},"outputs":['
            + b",".join(outputs)
            + b"]%b}"
        )

    def invocation(self, ids: bytes, labels: Sequence[int], shares: Sequence[bytes]) -> bytes:
        """MLflow's form; `ids` between `","`, `shares` as `texts` gives them."""
        rows = self._rows
        if len(labels) == 1:
            found = rows[labels[0]] % tuple(shares[0].split(b","))
        else:
            found = b",".join(
                [rows[i] % tuple(t.split(b",")) for i, t in zip(labels, shares, strict=True)]
            )
        return self._invocation % (found, ids)

    def inference(
        self, ids: bytes, labels: Sequence[int], shares: Sequence[bytes], id: str | None
    ) -> bytes:
        """The Open Inference Protocol's form; `id` is the request's own."""
        count = len(labels)
        parts: list[Any] = [ids, count, b",".join([self._labels[i] for i in labels])]
        for column in zip(*[text.split(b",") for text in shares], strict=True):
            parts += (count, b",".join(column))
        parts.append(b"" if id is None else b',"id":' + encode(id))
        return self._inference % tuple(parts)
