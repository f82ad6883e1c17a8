"""The model registry: MLflow with compare-and-set promotion, roll-back and one version per window.

How a version comes in, all or nothing, is in `registry_runs`; who is champion, and how that
changes, in `registry_aliases`; how far its roll-out is, in `registry_stages`; what people say and
do, in `registry_approvals` and `registry_audit`; how its files come out, in `registry_files`. Here
is MLflow.

The locks lie beside the SQLite file. On PostgreSQL they are the database's, and hold over machines;
behind an MLflow server they lie under `artifacts` and are advisory: everyone who registers or
promotes must share that folder. MLflow's global URIs are not touched.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from models import registry_files
from models import registry_log as log
from models.errors import ModelError, RegistryFault
from models.records import Release
from models.registry_audit import Audited
from models.registry_files import Files
from models.registry_locks import advisory, is_postgresql
from models.registry_log import MODEL, milliseconds
from models.registry_upkeep import Upkeep

if TYPE_CHECKING:
    from models.bundle import Predictor

_QUIET = {  # set before the first import of mlflow, unless the user has set them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or it copies the lock file of the current folder
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


_OPENING = "opening"  # the lock under which MLflow makes its tables


class Registry(Audited, Upkeep, Files):
    """Versions of the model `name` in the MLflow store at `url`.

    `artifacts` is the folder for the files of runs (with an MLflow server at http(s)://, the
    server's own place is used instead, and the folder holds only the locks). Nothing is opened or
    written before the first call; reading a SQLite store that does not exist yet answers 'nothing
    there' and does not create it. Safe to use from several threads and processes. Every fault is a
    RegistryFault that says what to do.
    """

    def __init__(self, url: str, name: str, artifacts: Path, *, lock_seconds: float = 60.0) -> None:
        self.name = log.check_name(name)
        self.artifacts = Path(artifacts).absolute()
        self.lock_seconds = lock_seconds
        self._database = registry_files.sqlite_file(url)
        self.url = url if self._database is None else f"sqlite:///{self._database}"
        self._served = url.startswith(("http:", "https:"))
        self._locks = self._database.parent if self._database else self.artifacts
        self._opened: Any = None
        self._opening = threading.Lock()

    # Reading

    def version(self, version: str | int) -> Release:
        """One version with its tags as they are now. Raises RegistryFault if there is none."""
        found = self._find(str(version))
        if found is None:
            raise RegistryFault(
                f"the version must exist; {self.name} has no version {str(version)!r}: choose one "
                f"of {', '.join(r.version for r in self.versions()) or '(none yet)'}"
            )
        return found

    def versions(self) -> tuple[Release, ...]:
        """All versions, oldest first."""
        return self._search(f"name = '{self.name}'")

    def by_window(self, window_id: str) -> Release | None:
        """The version that this window caused, if it is registered already."""
        log.check_window(window_id)
        found = self._search(f"name = '{self.name}' and tags.`window_id` = '{window_id}'")
        return found[0] if found else None

    # The store, as `Aliases` and the methods above need it

    def _client(self) -> Any:
        with self._opening:
            if self._opened is None:
                from mlflow import MlflowClient

                if not self._served:
                    _load("mlflow.store.tracking.sqlalchemy_store")
                    _load("mlflow.store.model_registry.sqlalchemy_store")
                # MLflow makes a database's tables at the first use, one by one, and the client's
                # constructor is a use: two processes at once would stumble over each other's.
                alone = nullcontext() if self._served else self._locked(_OPENING)
                with alone:
                    client = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
                    if not self._served:
                        client.search_experiments(max_results=1)
                        client.search_registered_models(max_results=1)
                self._opened = client
            return self._opened

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """One call of MLflow's client; SQLite's lock held by another writer is waited out."""
        call = getattr(self._client(), method)
        for wait in (0.05, 0.1, 0.2, 0.4, 0.8):
            try:
                return call(*args, **kwargs)
            except Exception as fault:
                if not log.busy(fault):
                    raise
            time.sleep(wait)
        return call(*args, **kwargs)

    def _exists(self) -> bool:
        return self._database is None or self._database.exists()

    def _read(self, method: str, *args: Any) -> Any:
        """A call whose subject may not exist: then None."""
        if not self._exists():
            return None
        with self._speaking(f"read {' '.join(args)}"):
            from mlflow.exceptions import MlflowException

            try:
                return self._call(method, *args)
            except MlflowException as fault:
                if fault.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def _find(self, version: str) -> Release | None:
        found = self._read("get_model_version", self.name, version)
        return None if found is None else log.release(found)

    def _by_alias(self, alias: str) -> Release | None:
        found = self._read("get_model_version_by_alias", self.name, alias)
        return None if found is None else log.release(found)

    def _record(self) -> Mapping[str, str]:
        found = self._read("get_registered_model", self.name)
        return {} if found is None else dict(found.tags)

    def _write_record(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._call("set_registered_model_tag", self.name, key, value)

    def _set_alias(self, alias: str, version: str) -> None:
        self._call("set_registered_model_alias", self.name, alias, version)

    def _drop_alias(self, alias: str) -> None:
        self._call("delete_registered_model_alias", self.name, alias)

    def _tag(self, version: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._call("set_model_version_tag", self.name, version, key, value)

    def _untag(self, version: str, keys: Sequence[str]) -> None:
        for key in keys:
            self._call("delete_model_version_tag", self.name, version, key)

    def _search(self, condition: str) -> tuple[Release, ...]:
        if not self._exists():
            return ()
        found: list[Any] = []
        token = None
        with self._speaking(f"list the versions of {self.name}"):
            while True:
                page = self._call(
                    "search_model_versions", condition, max_results=1_000, page_token=token
                )
                found += page
                token = page.token
                if not token:
                    break
        return tuple(sorted(map(log.release, found), key=lambda release: int(release.version)))

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """A file's lock against processes that share the folder; on PostgreSQL the database's own
        as well, against all. Tables are opened by one model at a time."""
        stem = self._database.name if self._database else "registry"
        path = self._locks / f".{stem}.{self.name}.{what}.lock"
        said = f"{what} of {self.name}"
        with ExitStack() as held:
            held.enter_context(registry_files.locked(path, said, self.lock_seconds))
            if is_postgresql(self.url):
                name = what if what == _OPENING else f"{self.name} {what}"
                held.enter_context(advisory(self.url, name, said, self.lock_seconds))
            yield

    @contextmanager
    def _speaking(self, what: str) -> Iterator[None]:
        _load("mlflow")
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except ModelError:
            raise
        except (MlflowException, SQLAlchemyError, OSError) as fault:
            raise log.explain(what, fault, self.url, self.artifacts) from fault

    # The parts of `register`

    def _experiment(self) -> str:
        """The id of the model's experiment; both are made on the first registration."""
        if self._read("get_registered_model", self.name) is None:
            self._call("create_registered_model", self.name)
        found = self._call("get_experiment_by_name", self.name)
        place = None if self._served else self.artifacts.as_uri()
        if found is None:
            return str(self._call("create_experiment", self.name, artifact_location=place))
        if found.lifecycle_stage != "active":
            raise RegistryFault(
                f"the experiment of {self.name} must be active; it was deleted: run `mlflow "
                f"experiments restore --experiment-id {found.experiment_id}`"
            )
        if place is not None and found.artifact_location.rstrip("/") != place:
            raise RegistryFault(
                f"the files of {self.name} must stay where its experiment puts them, "
                f"{found.artifact_location}; this registry was given {place}: move the folder "
                "back, or begin a new store"
            )
        return str(found.experiment_id)

    def _log_numbers(
        self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float], now: datetime
    ) -> None:
        from mlflow.entities import Metric, Param

        at = milliseconds(now)
        items = [Param(key, value) for key, value in params.items()]
        figures = [Metric(key, value, at, 0) for key, value in metrics.items()]
        for start in range(0, max(len(items), len(figures)), 100):  # it takes 100 at a time
            chosen = slice(start, start + 100)
            self._call("log_batch", run_id, params=items[chosen], metrics=figures[chosen])

    def _save_model(self, folder: Path, bundle: Path, predictor: Predictor, run_id: str) -> None:
        """Write the MLflow model: the bundle under the python_function flavour, without pickle.

        The signature is the bundle's schema (numbers double, categories string; answers as in
        `models.pyfunc`), the input example the bundle's own rows. Requirements are given, not
        inferred: inferring starts a process and takes seconds.
        """
        _load("mlflow.pyfunc")
        import mlflow.pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        columns = predictor.schema.columns
        kinds = {"number": DataType.double, "category": DataType.string, "text": DataType.string}
        answers = [ColSpec(_label_type(predictor.classes), "label")]
        answers += [ColSpec(DataType.double, f"probability_{c}") for c in predictor.classes]
        mlflow.pyfunc.save_model(
            path=str(folder),
            loader_module="models.pyfunc",
            data_path=str(bundle),
            mlflow_model=Model(artifact_path=MODEL, run_id=run_id),
            signature=ModelSignature(
                inputs=Schema([ColSpec(kinds[c.kind], c.name) for c in columns]),
                outputs=Schema(answers),
            ),
            input_example=registry_files.example(predictor),
            pip_requirements=registry_files.requirements(),
        )

    # Files of a run

    def _require_files(self, release: Release) -> None:
        here = self._folder(release.run_id) / "artifacts" / MODEL / "MLmodel"
        if not self._served and not here.is_file():
            raise RegistryFault(
                f"a champion's files must be there; version {release.version} has none at "
                f"{here.parent}: restore them, or choose another version"
            )

    def _fetch(self, release: Release, place: str, scratch: Path) -> Path | None:
        """Copy an artifact of the version's run into `scratch`; None when the run has none."""
        parent = PurePosixPath(place).parent
        listed = self._call(
            "list_artifacts", release.run_id, None if str(parent) == "." else str(parent)
        )
        if place not in {item.path for item in listed}:
            return None
        return Path(self._call("download_artifacts", release.run_id, place, str(scratch)))


def _load(module: str) -> None:
    """Import a part of MLflow with its switches set; it warns of parts of its own on import."""
    if module in sys.modules:
        return
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module(module)
    # This one reports, with a traceback, what is raised here as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _label_type(classes: Sequence[Any]) -> Any:
    from mlflow.types import DataType

    for kind, name in ((bool, DataType.boolean), (int, DataType.long), (float, DataType.double)):
        if all(type(value) is kind for value in classes):
            return name
    return DataType.string
