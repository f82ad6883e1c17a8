"""A bundle's files: sealed with their sha256, verified, put in place whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models.errors import BundleFault

DIGEST = "digest.json"


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to write into, which becomes `folder` when all went well.

    Everything is synced, then renamed, so that `folder` is whole whenever it exists. One that is
    there already is replaced; after a fault it is as it was, and nothing is left beside it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        temporary.chmod(0o755)  # mkdtemp's own is for its user alone; servers may be another
        _replace(temporary, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def seal(folder: Path) -> str:
    """Write the digest of every file, and of the whole; gives the latter."""
    files = hashes(folder)
    text = json.dumps({"digest": total(files), "files": files}, indent=1)
    (folder / DIGEST).write_text(text, encoding="utf-8")
    return total(files)


def verify(folder: Path | str, digest: str | None = None) -> str:
    """The digest of a bundle, after checking each of its files against it.

    Raises BundleFault if a file is missing, added or altered, or if the digest is not `digest`.
    """
    folder = Path(folder)
    try:
        seal = json.loads((folder / DIGEST).read_text(encoding="utf-8"))
        sealed, stated = dict(seal["files"]), str(seal["digest"])
    except (OSError, KeyError, TypeError, ValueError) as fault:
        raise BundleFault(
            f"{folder} is no whole bundle ({type(fault).__name__}: {fault}): train or download anew"
        ) from None
    files = hashes(folder)
    if files != sealed or total(files) != stated:
        changed = sorted(n for n in files.keys() | sealed if files.get(n) != sealed.get(n))
        raise BundleFault(
            f"{folder} was altered since it was written: {', '.join(changed) or DIGEST} differs: "
            "download it again or train anew"
        )
    if digest is not None and digest != stated:
        raise BundleFault(
            f"the bundle in {folder} should have the digest {digest}, got {stated}: it is another "
            "bundle, download it again"
        )
    return stated


def digest(folder: Path | str) -> str:
    """The digest of a bundle that is whole; BundleFault otherwise."""
    return verify(folder)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file but the seal, by its path in the folder."""
    result = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != DIGEST:
            with path.open("rb") as file:
                result[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return result


def total(files: Mapping[str, str]) -> str:
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        folder.rename(old / "bundle")
        try:
            temporary.rename(folder)
        except OSError:
            (old / "bundle").rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
