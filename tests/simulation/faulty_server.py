"""A server whose model does what it is told, in one of the ways in which models end a process.

python faulty_server.py CONFIG
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from deployments.serving.app import create_app, watched
from deployments.serving.run import supervise
from models.encoding import Encoder
from models.records import Release
from models.schema import Column, Schema
from tasks.config import load

CRASH, HANG, HANG_LOCKED, GROW = -1.0, -2.0, -3.0, -4.0
_grown = []


class Faulty:
    schema = Schema((Column("x", "number"),), target="y", classes=(0, 1))
    classes = schema.classes
    encoder = Encoder(("x",), {}, ("x",))

    def predict_rows(self, numbers, categories, texts):
        told = float(numbers[0, 0])
        if told == CRASH:
            ctypes.string_at(0)
        elif told == HANG:
            while True:
                time.sleep(1)
        elif told == HANG_LOCKED:  # in native code that keeps the interpreter's lock
            ctypes.PyDLL(None).sleep(600)
        elif told == GROW:
            _grown.append(np.ones(200 << 17))  # 200 MB
        return np.tile([0.25, 0.75], (len(numbers), 1))

    def self_check(self):
        pass


REGISTRY = SimpleNamespace(
    champion=lambda: Release("faulty", "1", "digest", "window", "run"),
    challenger=lambda: None,
    previous=lambda: None,
    download=lambda version, folder: Path(folder) / version,
)


def worker():
    config = load(sys.argv[1])
    app = create_app(config, registry=lambda: REGISTRY, load=lambda bundle, digest: Faulty())
    return watched(app)


if __name__ == "__main__":
    supervise(load(sys.argv[1]), worker, sample=1)
