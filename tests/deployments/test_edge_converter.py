"""LiteRT's environment is made once, as a whole or not at all, and nothing else is touched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from deployments.edge import converter
from models.edge.proof import EdgeFault


def test_an_environment_that_is_there_is_taken(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    assert converter.environment(tmp_path) == python


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(EdgeFault, match="neither: name another one"):
        converter.environment(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_could_not_be_made_goes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(python: Path) -> list[str]:
        assert python.exists()
        return [str(python), "-c", "raise SystemExit('no such release')"]

    monkeypatch.setattr(converter, "_installation", fails)
    with pytest.raises(EdgeFault, match="no such release"):
        converter.environment(tmp_path / "litert")
    assert not (tmp_path / "litert").exists()


def test_torch_is_taken_from_where_pip_would_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / "python"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(converter.shutil, "which", lambda *_args, **_more: "uv")
    assert converter._installation(python)[4:6] == ["--torch-backend", "cpu"]
    (tmp_path / "torch-2.13.0-py3-none-any.whl").touch()
    assert ["--find-links", str(tmp_path)] == converter._installation(python)[4:6]
    monkeypatch.setattr(converter.shutil, "which", lambda *_args, **_more: None)
    command = converter._installation(python)
    assert command[:4] == [str(python), "-m", "pip", "install"]
    assert command[-3:] == list(converter.PACKAGES)


def test_what_is_pinned_fits_the_converter() -> None:
    lines = converter.PINNED.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all("+" not in version for version in pins.values())
    assert set(converter.PACKAGES) <= set(pins)
    assert os.path.commonpath([converter.PINNED, converter.__file__]).endswith("edge")
