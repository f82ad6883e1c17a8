"""An ONNX model behind Ray Serve."""

from __future__ import annotations

import signal
import sys

import numpy as np
import ray
from fastapi import FastAPI, Request
from ray import serve

MODEL, PORT, WORKERS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
app = FastAPI()


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=256)
@serve.ingress(app)
class Model:
    def __init__(self, path: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)

    @app.post("/predict")
    async def predict(self, request: Request) -> dict[str, list[list[float]]]:
        rows = (await request.json())["rows"]
        (found,) = self.session.run(None, {"numbers": np.array(rows, np.float32)})
        return {"predictions": found.tolist()}

    @app.get("/ready")
    async def ready(self) -> dict[str, bool]:
        return {"ready": True}


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=WORKERS + 1, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Model.bind(MODEL))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
