"""An ONNX model behind BentoML 1.4."""

from __future__ import annotations

import os
import sys

import bentoml
import numpy as np

WORKERS = int(os.environ.get("WORKERS", "1"))


@bentoml.service(workers=WORKERS, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    @bentoml.api
    async def predict(self, rows: np.ndarray) -> list[list[float]]:
        (found,) = self.session.run(None, {"numbers": np.asarray(rows, np.float32)})
        return found.tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    _, os.environ["MODEL"], port, os.environ["WORKERS"] = sys.argv
    folder = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-m", "bentoml", "serve", "serve_bento:Model", "--port", port]
    os.chdir(folder)
    os.execv(sys.executable, [*command, "--host", "127.0.0.1"])
