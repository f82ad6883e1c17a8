"""The environments that peers live in, and how a benchmark asks them: by files and a subprocess.

A peer is never imported by everfit. A job is a JSON document and arrays; the script named by it
runs under the peer's own interpreter, on one thread, and answers with a JSON document. Where an
environment is missing, the answer is None and `missing` says what to do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem for path in HERE.glob("*.txt")))
VARIABLE = "EVERFIT_PEERS"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class PeerFault(RuntimeError):
    """A peer's environment could not be made, or its script failed."""


def folder() -> Path:
    """Where the environments are: $EVERFIT_PEERS, or .peers beside the source."""
    return Path(os.environ.get(VARIABLE) or HERE.parents[2] / ".peers").absolute()


def python(name: str, where: Path | None = None) -> Path | None:
    """The interpreter of the environment `name`, None when it is not installed."""
    path = (where or folder()) / name / "bin" / "python"
    return path if path.exists() and (path.parents[1] / "complete").exists() else None


def missing(name: str) -> str:
    return f"not installed: everfit bench peers {name}"


def make(name: str, into: Path) -> Path:
    """Make the environment `name` under `into`, unless its requirements are installed already."""
    if name not in NAMES:
        raise PeerFault(f"peers live in {', '.join(NAMES)}, got {name!r}: name one of them")
    override = HERE / f"{name}.override"  # where a peer's own pins cannot be installed any more
    wanted = (HERE / f"{name}.txt").read_text(encoding="utf-8")
    wanted += override.read_text(encoding="utf-8") if override.exists() else ""
    place = into.absolute() / name
    stamp = place / "complete"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return place
    # frouros and nannyml refuse Python 3.13
    version = sys.executable if sys.version_info < (3, 13) else "3.12"
    uv = _uv(into)
    _run([uv, "venv", "--quiet", "--clear", "--python", version, str(place)])
    install = [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python")]
    install += ["--override", str(override)] if override.exists() else []
    _run([*install, *torch_from(os.environ.get("PIP_FIND_LINKS", "")), "-r", f"{HERE / name}.txt"])
    stamp.write_text(wanted, encoding="utf-8")
    return place


def torch_from(links: str) -> list[str]:
    """uv's options for torch's CPU build: a wheel that lies on disk, or else uv's own index of it.

    uv does not read PIP_FIND_LINKS, which is pip's.
    """
    found = [each for each in links.split() if any(Path(each).glob("torch-*.whl"))]
    options = [part for each in found for part in ("--find-links", each)]
    return options or ["--torch-backend", "cpu"]


def _uv(into: Path) -> str:
    """uv from beside this Python, from PATH, or else installed for this purpose."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found:
        return found
    tool = into.absolute() / "uv"
    _run([sys.executable, "-m", "venv", str(tool)])
    _run([str(tool / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"])
    return str(tool / "bin" / "uv")


def _run(words: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise PeerFault(f"`{' '.join(words)}` failed: {done.stderr.strip()[-2_000:]}")


def ask(
    name: str,
    script: str,
    job: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    timeout: float | None = None,
) -> Any:
    """What `script` of this folder answers to `job` under the interpreter of `name`.

    None when the environment is not installed. Raises PeerFault with the end of its complaint when
    it fails or takes longer than `timeout` seconds.
    """
    interpreter = python(name)
    if interpreter is None:
        return None
    with tempfile.TemporaryDirectory(prefix="everfit-peer-") as place:
        work = Path(place)
        (work / "job.json").write_text(json.dumps(dict(job)), encoding="utf-8")
        for key, values in (arrays or {}).items():
            np.save(work / f"{key}.npy", values)
        environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": ""}
        environment["CUDA_VISIBLE_DEVICES"] = ""
        try:
            done = subprocess.run(
                [str(interpreter), str(HERE / f"{script}.py"), place],
                capture_output=True,
                text=True,
                env=environment,
                check=False,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise PeerFault(f"{script} took longer than {timeout:g} s: give it less") from None
        if done.returncode:
            raise PeerFault(f"{script} failed: {done.stderr.strip()[-2_000:]}")
        return json.loads((work / "answer.json").read_text(encoding="utf-8"))
