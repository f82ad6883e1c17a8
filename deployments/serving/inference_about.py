"""What the Open Inference Protocol says of the model: its metadata, configuration and index."""

from __future__ import annotations

from typing import Any

from deployments.serving.inference_outputs import class_datatype
from deployments.serving.rows import Column
from deployments.serving.slots import Slot

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")


def metadata(slot: Slot) -> dict[str, Any]:
    """The model's inputs and outputs as the protocol describes them."""
    outputs = [{"name": "label", "datatype": class_datatype(slot.classes), "shape": [-1]}]
    outputs += [
        {"name": f"probability_{value}", "datatype": "FP64", "shape": [-1]}
        for value in slot.classes
    ]
    return {
        "name": slot.release.name,
        "versions": [slot.release.version],
        "platform": "everfit",
        "inputs": [_described(column) for column in slot.columns],
        "outputs": outputs,
    }


def _described(column: Column) -> dict[str, Any]:
    datatype = "FP64" if column.kind == "number" else "BYTES"
    return {"name": column.name, "datatype": datatype, "shape": [-1]}


def configuration(slot: Slot) -> dict[str, Any]:
    """The model's configuration in the form that Triton's clients ask for; rows are the first
    dimension of every tensor, so there is no batch dimension beside them."""

    def tensor(described: dict[str, Any]) -> dict[str, Any]:
        kind = described["datatype"].replace("BYTES", "STRING")
        return {"name": described["name"], "data_type": f"TYPE_{kind}", "dims": [-1]}

    about = metadata(slot)
    return {
        "name": about["name"],
        "platform": about["platform"],
        "backend": "everfit",
        "max_batch_size": 0,
        "input": [tensor(described) for described in about["inputs"]],
        "output": [tensor(described) for described in about["outputs"]],
    }


def index(slot: Slot | None, name: str) -> list[dict[str, str]]:
    """The repository's index: the one model, and whether it is loaded."""
    if slot is None:
        return [{"name": name, "state": "UNAVAILABLE", "reason": "no champion is loaded yet"}]
    return [{"name": name, "version": slot.release.version, "state": "READY", "reason": ""}]
