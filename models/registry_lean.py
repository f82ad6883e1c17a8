"""The registry as a server reads it, without MLflow in its memory (some 150 MB a worker).

Who is champion, and what a version's tags are, is read from the tables of MLflow's store; a bundle
that isn't there yet is fetched by a process of its own, which ends with the fetching. Where the
tables aren't as expected, or the store is an MLflow server, MLflow's client does it all.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models import registry_log
from models.errors import BundleFault, ModelError, RegistryFault
from models.records import Release
from models.registry import Registry
from models.registry_files import intact
from models.registry_locks import is_postgresql

log = logging.getLogger(__name__)

_FETCH_SECONDS = 600.0
_FETCH = "models.registry_fetch"
_VERSION = (
    "select run_id from model_versions where name = :name and version = :version "
    "and current_stage <> 'Deleted_Internal'"
)
_TAGS = "select key, value from model_version_tags where name = :name and version = :version"
_ALIAS = "select version from registered_model_aliases where name = :name and alias = :alias"
_RECORD = "select key, value from registered_model_tags where name = :name"


class LeanRegistry(Registry):
    """A `Registry` that imports MLflow only where it has to."""

    def __init__(self, url: str, name: str, artifacts: Path, *, lock_seconds: float = 60.0) -> None:
        super().__init__(url, name, artifacts, lock_seconds=lock_seconds)
        self._engine: Any = None
        self._lean = not self._served

    def _find(self, version: str) -> Release | None:
        if not self._lean or not version.isascii() or not version.isdigit():
            return super()._find(version)
        if not self._exists():
            return None
        with self._speaking(f"read version {version}"), self._reading() as rows:
            if rows is not None:
                return self._release(rows, int(version))
        return super()._find(version)

    def _by_alias(self, alias: str) -> Release | None:
        if not self._lean:
            return super()._by_alias(alias)
        if not self._exists():
            return None
        with self._speaking(f"read {alias}"), self._reading() as rows:
            if rows is not None:
                found = rows(_ALIAS, alias=alias)
                return self._release(rows, int(found[0][0])) if found else None
        return super()._by_alias(alias)

    def _record(self) -> Mapping[str, str]:
        if not self._lean:
            return super()._record()
        if not self._exists():
            return {}
        with self._speaking(f"read {self.name}"), self._reading() as rows:
            if rows is not None:
                return {str(key): str(value) for key, value in rows(_RECORD)}
        return super()._record()

    def _release(self, rows: Any, version: int) -> Release | None:
        found = rows(_VERSION, version=version)
        if not found:
            return None
        tags = {str(key): str(value) for key, value in rows(_TAGS, version=version)}
        return registry_log.as_release(self.name, str(version), found[0][0] or "", tags)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A function that gives a query's rows, all from one state of the store; None where its
        tables are not those that this file knows."""
        from sqlalchemy import create_engine, inspect, text

        if self._engine is None:
            patience = {"connect_timeout": 10} if is_postgresql(self.url) else {}
            engine = create_engine(self.url, pool_pre_ping=True, pool_size=1, connect_args=patience)
            there = set(inspect(engine).get_table_names())
            wanted = {"model_versions", "model_version_tags", "registered_model_aliases"}
            if not wanted <= there:
                engine.dispose()
                log.info("the registry's tables are not as expected: MLflow's client reads them")
                self._lean = False
                yield None
                return
            self._engine = engine
        with self._engine.connect() as connection:
            yield lambda query, **values: connection.execute(
                text(query), {"name": self.name, **values}
            ).all()

    @contextmanager
    def _speaking(self, what: str) -> Iterator[None]:
        if not self._lean:
            with super()._speaking(what):
                yield
            return
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except ModelError:
            raise
        except (SQLAlchemyError, OSError) as fault:
            raise registry_log.explain(what, fault, self.url, self.artifacts) from fault

    def download(self, version: str | int, folder: Path) -> Path:
        if not self._lean:
            return super().download(version, folder)
        release, folder = self.version(version), Path(folder).absolute()
        target = folder / release.version
        if not intact(target, release.digest):
            self._fetch_apart(release.version, folder)
        return target

    def _fetch_apart(self, version: str, folder: Path) -> None:
        """`Registry.download` in a process of its own. Raises what it raises."""
        job = [self.url, self.name, str(self.artifacts), version, str(folder)]
        path = os.pathsep.join(place for place in sys.path if place)
        try:
            done = subprocess.run(  # noqa: S603 - our own module, its job on standard input
                [sys.executable, "-m", _FETCH],
                input=json.dumps(job),
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
                timeout=_FETCH_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise RegistryFault(
                f"version {version} could not be fetched: {fault}: see that the registry and its "
                "artifacts can be reached"
            ) from None
        if done.returncode == 0:
            return
        try:
            kind, message = json.loads(done.stdout)
        except ValueError:
            kind, message = "RegistryFault", f"version {version} could not be fetched: see the log"
            log.error("fetching version %s ended with %s", version, done.stderr[-2_000:])
        raise (BundleFault if kind == "BundleFault" else RegistryFault)(message)
