"""The environment of LiteRT's converter, which cannot share one with Prefect.

The two ask for different releases of typing-extensions (litert-torch 0.10, Prefect 3.9). So the
converter has an environment of its own, made once from a pinned list, and models go to it as files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from models.edge.litert import python_of
from models.edge.proof import EdgeFault

PINNED = Path(__file__).parent / "constraints.txt"
PACKAGES = ("litert-torch", "torch", "numpy")

_SECONDS = 1_800


def environment(folder: Path) -> Path:
    """The Python of the environment in `folder`, which is made if nothing is there yet.

    Raises EdgeFault if something else is there, or if it cannot be made; what was begun then goes.
    """
    python = python_of(folder)
    if python.exists():
        return python
    if folder.exists() and any(folder.iterdir()):
        raise EdgeFault(
            f"--converter names an environment with litert-torch, or a folder where one is to be "
            f"made; {folder} is neither: name another one"
        )
    try:
        pip = ["--without-pip"] if _uv() else []
        _run([sys.executable, "-m", "venv", *pip, str(folder)])
        _run(_installation(python), VIRTUAL_ENV=str(folder.resolve()))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return python


def _installation(python: Path) -> list[str]:
    """As the Makefile: uv, which takes torch's build for the processor where pip takes one for CUDA
    of several GB, unless a wheel of torch lies on disk, where pip's own variable says."""
    uv = _uv()
    if uv is None:
        return [str(python), "-m", "pip", "install", "--quiet", "-c", str(PINNED), *PACKAGES]
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    local = bool(wheels) and any(Path(wheels).glob("torch-*.whl"))
    torch = ["--find-links", wheels] if local else ["--torch-backend", "cpu"]
    return [uv, "pip", "install", "--quiet", *torch, "-c", str(PINNED), *PACKAGES]


def _uv() -> str | None:
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def _run(command: list[str], **variables: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env={**os.environ, **variables},
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise EdgeFault(f"the converter's environment could not be made: {fault}") from fault
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:]) or "(it said nothing)"
        raise EdgeFault(f"the converter's environment could not be made by {command[0]}: {last}")
