"""Bundles and files of a version on their way out of the registry, and the lock on their way in.

What is fetched appears under its final name only when it is whole and has the registered digest.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from models.errors import BundleFault, RegistryFault
from models.records import Candidate, Release
from models.registry_log import BUNDLE, missing

if TYPE_CHECKING:
    import pandas as pd

    from models.bundle import Predictor


_PACKAGES = ("onnxruntime", "scikit-learn", "skops", "torch", "tokenizers", "numpy", "pandas")


class Files(ABC):
    """Downloads, above a store that can fetch one artifact of a run."""

    @abstractmethod
    def version(self, version: str | int) -> Release:
        """One version with its tags. Raises RegistryFault if there is none."""

    @abstractmethod
    def _fetch(self, release: Release, place: str, scratch: Path) -> Path | None:
        """Copy an artifact of the version's run into `scratch`; None when the run has none."""

    @abstractmethod
    def _speaking(self, what: str) -> AbstractContextManager[None]:
        """Turn the store's own exceptions into RegistryFaults about `what`."""

    def download(self, version: str | int, folder: Path) -> Path:
        """The bundle of `version` at `folder`/`version`, whole and with the registered digest.

        Fetched once, renamed into place; a copy that is there and intact is used, a damaged one is
        replaced. Raises BundleFault when the files are not those that were registered.
        """
        release, folder = self.version(version), Path(folder)
        target = folder / release.version
        if intact(target, release.digest):
            return target
        with self._speaking(f"download version {release.version}"):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{release.version}-", dir=folder) as scratch:
                fetched = self._fetch(release, BUNDLE, Path(scratch))
                if fetched is None:
                    raise RegistryFault(
                        f"a version's bundle lies in its run; version {release.version} has none "
                        f"in run {release.run_id}: restore the artifacts, or roll back"
                    )
                if fault := _fault(fetched, release.digest):
                    raise BundleFault(
                        f"version {release.version} of {release.name} must be as it was "
                        f"registered: {fault}; or restore its artifacts, or roll back"
                    )
                if target.exists():  # damaged: set aside, so that the good one takes its place
                    with suppress(FileNotFoundError):
                        target.rename(Path(scratch) / "damaged")
                try:
                    fetched.rename(target)
                except OSError:
                    if not intact(target, release.digest):  # else another process was faster
                        raise
        return target

    def fetch_file(self, version: str | int, artifact_path: str, folder: Path) -> Path | None:
        """Copy a file of the version's run; None if it has none.

        It lies at `folder`/v`version`/`artifact_path`, so that two versions never mix.
        """
        release, place = self.version(version), PurePosixPath(artifact_path)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            raise RegistryFault(
                f"an artifact path is relative and without '..'; got {artifact_path!r}: name a "
                "file of the run, for instance 'controller.json'"
            )
        with self._speaking(f"fetch {artifact_path} of version {release.version}"):
            target = Path(folder) / f"v{release.version}" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
                fetched = self._fetch(release, str(place), Path(scratch))
                if fetched is None:
                    return None
                if fetched.is_dir() and target.is_dir():
                    shutil.rmtree(target)
                fetched.replace(target)
            return target


def intact(bundle: Path, digest: str) -> bool:
    """Whether a bundle is there with exactly the files that `digest` was taken of."""
    return not _fault(bundle, digest)


def checked(bundle: Path, candidate: Candidate) -> Predictor:
    """The bundle, proven to be the candidate's and to answer its own example, or BundleFault."""
    from models.bundle import Predictor

    predictor = Predictor.load(bundle, digest=candidate.digest)
    predictor.self_check()
    return predictor


def example(predictor: Predictor) -> pd.DataFrame:
    """The bundle's own input example with the types of its signature: float64 and text."""
    import pandas as pd

    def column(name: str, kind: str) -> pd.Series:
        values = predictor.example[name]
        if kind == "number":
            return pd.Series(values, dtype="float64")
        return pd.Series([None if missing(v) else str(v) for v in values], dtype="object")

    return pd.DataFrame({c.name: column(c.name, c.kind) for c in predictor.schema.columns})


def requirements() -> list[str]:
    """What scoring a bundle needs, pinned to the versions that are installed here."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]


def _fault(bundle: Path, digest: str) -> str:
    from models.bundle import verify

    try:
        verify(bundle, digest)
    except BundleFault as fault:
        return str(fault)
    return ""


def sqlite_file(url: str) -> Path | None:
    """The absolute file of a SQLite store; None for any other store.

    >>> sqlite_file("postgresql://host/registry") is None
    True
    """
    if not url.startswith("sqlite:"):
        return None
    place = url.partition(":///")[2].partition("?")[0]
    if place in ("", ":memory:"):
        raise RegistryFault(
            f"the registry is shared by processes, so it must be a file or a server; got {url!r}: "
            "use sqlite:///FILE"
        )
    return Path(place).absolute()


@contextmanager
def locked(path: Path, what: str, seconds: float) -> Iterator[None]:
    """Hold the file lock at `path`; the system frees it when its process dies."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=seconds)
        lock.acquire()
    except Timeout:
        raise RegistryFault(
            f"one process at a time writes {what}; the lock {path} was not free for "
            f"{seconds:g} s: see which process holds it, then try again"
        ) from None
    except OSError as fault:
        raise RegistryFault(
            f"the lock {path} for {what} must be writable; {fault}: free disk space or correct "
            "the folder's permissions"
        ) from fault
    try:
        yield
    finally:
        lock.release()
