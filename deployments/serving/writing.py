"""Answers written by templates: what is the same in all answers of a version is written once.

Byte for byte what `protocols.render` and `inference_outputs.render` write of the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deployments.serving.inference_outputs import class_datatype
from deployments.serving.protocols import prediction

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
        self._classes = tuple(classes)
        self._record = prediction(tuple(map(str, classes)))
        self._labels = [encode(value) for value in classes]
        self.head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-model-version: %b\r\n"
        self.head %= version.encode("latin-1")
        self.told = _plain(self.head) + b"x-prediction-ids: %b\r\ncontent-length: %d\r\n"
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

    def invocation(self, id: bytes, label: int, share: bytes) -> bytes:
        """MLflow's form of one row; `share` as `texts` gives it."""
        return self._invocation % (self._rows[label] % tuple(share.split(b",")), id)

    def invocations(self, ids: bytes, labels: Sequence[int], shares: np.ndarray) -> bytes:
        """As `invocation`, of many rows (n, k): quicker for more than a few."""
        values = map(self._classes.__getitem__, labels)
        found = encode(list(map(self._record, values, *shares.T.tolist())))
        return self._invocation % (found[1:-1], ids)

    def inference(
        self, ids: bytes, labels: Sequence[int], shares: np.ndarray, id: str | None
    ) -> bytes:
        """The Open Inference Protocol's form; `id` is the request's own, `ids` between `","`,
        `shares` (n, k)."""
        count = len(labels)
        parts: list[Any] = [ids, count, b",".join([self._labels[i] for i in labels])]
        for column in shares.T.tolist():
            parts += (count, encode(column)[1:-1])
        parts.append(b"" if id is None else b',"id":' + encode(id))
        return self._inference % tuple(parts)
