"""A torch model as LiteRT (TensorFlow Lite), converted by a process of another environment."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.edge.proof import EdgeFault
from models.onnx.export import NoForm

if TYPE_CHECKING:
    from models.families import Fitted

_SCRIPT = Path(__file__).parent / "scripts" / "convert_litert.py"
_SECONDS = 900.0
_ASKED = (
    "import importlib.metadata as m, sys; print(*(f'{p}=={m.version(p)}' for p in "
    "sys.argv[1:]), sep='\\n')"
)

FAMILIES = ("mlp", "textnet")


def python_of(environment: Path) -> Path:
    """The Python of a virtual environment."""
    return environment / "bin" / "python"


def converted(fitted: Fitted, family: str, python: Path) -> tuple[bytes, list[str], list[str]]:
    """(the model's bytes, names of its inputs, what answering needs as lines of requirements.txt).

    `python` is that of an environment with litert-torch. Raises NoForm for a family that is no
    network, and EdgeFault with what the converter said.
    """
    if family not in FAMILIES:
        raise NoForm(f"LiteRT is for networks ({', '.join(FAMILIES)}), got {family}; use onnx")
    from models.edge import networks

    own: Any = fitted
    packages = ["numpy", "ai-edge-litert"]
    if family == "textnet":
        module, given = networks.text(own.net)
        packages.append("tokenizers")
    else:
        module, given = networks.perceptron(own.module)
    with tempfile.TemporaryDirectory(prefix="everfit-litert-") as home:
        program, model = Path(home) / "program.pt2", Path(home) / "model.tflite"
        networks.write(module, given, program)
        _run([str(python), "-I", str(_SCRIPT), str(program), str(model)])
        needs = _run([str(python), "-I", "-c", _ASKED, *packages]).split()
        return model.read_bytes(), list(given), [line.partition("+")[0] for line in needs]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            # nothing is looked up on the network, and no program for a GPU is sought
            env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise EdgeFault(f"LiteRT's converter could not be run: {fault}") from fault
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:]) or "(it said nothing)"
        raise EdgeFault(
            f"LiteRT's converter must give a model, {command[0]} ended with: {last}: name an "
            "environment with litert-torch by --converter, or export onnx"
        )
    return done.stdout
