"""An ONNX model behind FastAPI and uvicorn, as FastAPI's own pages show it."""

from __future__ import annotations

import os
import sys

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ.get("MODEL") or sys.argv[1], options)
app = FastAPI()


class Rows(BaseModel):
    rows: list[list[float]]


@app.post("/predict")
async def predict(sent: Rows) -> dict[str, list[list[float]]]:
    (found,) = session.run(None, {"numbers": np.array(sent.rows, np.float32)})
    return {"predictions": found.tolist()}


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


if __name__ == "__main__":
    import uvicorn

    _, os.environ["MODEL"], port, workers = sys.argv
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    os.environ["PYTHONPATH"] = sys.path[0]
    uvicorn.run(
        "serve_fastapi:app",
        port=int(port),
        workers=int(workers),
        log_level="warning",
        access_log=False,
    )
