"""What a registered version carries: the staged files, tags, parameters and metrics of one run.

Pure: nothing here talks to MLflow, so what is written can be read and tested without a store.
"""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from models.errors import RegistryFault, hidden
from models.records import Candidate, Release, Verdict

CHAMPION = "champion"
CHALLENGER = "challenger"
MODEL = "model"  # artifact folder of the MLflow model inside the run
BUNDLE = f"{MODEL}/data/bundle"  # and of the bundle inside that

_WINDOW = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:+@/-]{0,199}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
_KEY = re.compile(r"[^A-Za-z0-9_\-./ ]")
LIMIT = 4_000  # characters of one value; MLflow refuses longer parameters


def check_name(name: str) -> str:
    """A model name that is safe in a file name, an alias and a search filter."""
    if not _NAME.fullmatch(name):
        raise RegistryFault(
            f"a model name has letters, digits, ' ', '.', '_' and '-'; got {name!r}: rename it"
        )
    return name


def check_window(window_id: str) -> str:
    """A window id is a key in search filters, so quotes and line breaks have no place in it."""
    if not _WINDOW.fullmatch(window_id):
        raise RegistryFault(
            "a window id starts with a letter or digit and has at most 200 letters, digits, "
            f"spaces and ._:+@/-; got {window_id!r}: pass the id of the decision's window"
        )
    return window_id


def moment(now: datetime) -> str:
    """`now` as an ISO time; a naive time is refused, since nobody can tell what it means later."""
    if now.tzinfo is None:
        raise RegistryFault(
            f"times in the registry have a time zone; got the naive {now.isoformat()}: "
            "pass datetime.now(UTC)"
        )
    return now.isoformat()


def milliseconds(now: datetime) -> int:
    """As MLflow writes times."""
    return int(now.timestamp() * 1_000)


def version_tags(
    candidate: Candidate,
    verdict: Verdict,
    extra: Mapping[str, str],
    *,
    window_id: str,
    at: str,
    runtime: str,
    runtime_reason: str = "",
) -> dict[str, str]:
    """Tags of the version and its run. The registry's own keys win over `extra`.

    `runtime` is what answers from the bundle, onnx or native, and `runtime_reason` why not onnx.
    """
    tags = {str(key): str(value)[:LIMIT] for key, value in extra.items()}
    tags |= {
        "window_id": window_id,
        "digest": candidate.digest,
        "data_digest": candidate.data_digest,
        "family": candidate.family,
        "rows": str(candidate.rows),
        "gate": "passed" if verdict.passed else "refused",
        "gate_reason": verdict.reason[:LIMIT],
        "registered_at": at,
        "runtime": runtime,
    }
    if runtime_reason:
        tags["runtime_reason"] = runtime_reason[:LIMIT]
    for key, time in (
        ("trained_from", candidate.trained_from),
        ("trained_through", candidate.trained_through),
    ):
        if time is not None:
            tags[key] = time.isoformat()
    for metric, value in verdict.challenger.items():  # what later figures are held against
        tags[f"gate.{_key(metric)}"] = repr(float(value))
    return tags


def run_params(candidate: Candidate, extra: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of the run: those of the search as they are, then the caller's."""
    params = {**candidate.params, **extra}
    return {_key(key): str(value)[:LIMIT] for key, value in params.items()}


def run_metrics(
    candidate: Candidate, verdict: Verdict, extra: Mapping[str, float]
) -> dict[str, float]:
    """Metrics of the run under `search.`, `gate.champion.`, `gate.challenger.` and `gate.`.

    Figures that do not exist (None, NaN) are left out rather than written as zero.
    """
    found: dict[str, float | None] = {
        **{f"search.{key}": value for key, value in candidate.metrics.items()},
        "search.seconds": candidate.seconds,
        "search.rows": candidate.rows,
        **{f"gate.champion.{key}": value for key, value in verdict.champion.items()},
        **{f"gate.challenger.{key}": value for key, value in verdict.challenger.items()},
        "gate.gain": verdict.gain,
        "gate.low": verdict.low,
        "gate.high": verdict.high,
        "gate.rows": verdict.rows,
        "gate.passed": float(verdict.passed),
        **extra,
    }
    return {
        _key(key): float(value)
        for key, value in found.items()
        if value is not None and math.isfinite(value)
    }


def check_files(files: Mapping[str, Path]) -> None:
    """Every artifact path is relative and free, and every file is there: before anything starts."""
    for place, source in files.items():
        path = PurePosixPath(place)
        taken = path.parts[:1] in ((MODEL,), ("candidate.json",), ("verdict.json",))
        if not path.parts or path.is_absolute() or ".." in path.parts or taken:
            raise RegistryFault(
                f"an artifact path is relative, without '..' and not {MODEL}/, candidate.json or "
                f"verdict.json; got {place!r}: choose another"
            )
        if not Path(source).exists():
            raise RegistryFault(
                f"every file to register must exist; {place!r} should come from {source}, which "
                "is not there: write it first, or leave it out"
            )


def stage(folder: Path, candidate: Candidate, verdict: Verdict, files: Mapping[str, Path]) -> None:
    """Lay out the run's artifacts under `folder`, large ones as links: uploading copies them."""
    for name, record in (("candidate.json", candidate), ("verdict.json", verdict)):
        text = json.dumps(asdict(record), indent=2, default=_plain)
        (folder / name).write_text(text, encoding="utf-8")
    for place, source in files.items():
        _link(Path(source).resolve(), folder / place)


def disk_full(fault: BaseException) -> bool:
    """Whether a full disk lies behind `fault`, however many wrappers are around it."""
    for link in _chain(fault):
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        text = str(link).lower()
        if "no space left on device" in text or "database or disk is full" in text:
            return True
    return False


def busy(fault: BaseException) -> bool:
    """Whether another writer held SQLite's lock."""
    return any("database is locked" in str(link) for link in _chain(fault))


def explain(what: str, fault: BaseException, url: str, artifacts: Path) -> RegistryFault:
    """The store's exception in the words of someone who has to mend it."""
    if disk_full(fault):
        return RegistryFault(
            f"the registry needs free disk space to {what}; none is left under {artifacts} or for "
            f"{hidden(url)}: free some, then try the same again"
        )
    remedy = (
        "another process keeps the database locked, so try again, or use PostgreSQL"
        if busy(fault)
        else "set PGPASSWORD, or the whole URL in EVERFIT_REGISTRY_URL"
        if "password" in str(fault).lower()
        else "see that the store and its folder can be reached and written, then try again"
    )
    return RegistryFault(
        f"could not {what} in the registry at {hidden(url)}: {hidden(str(fault))}: {remedy}"
    )


def release(found: Any) -> Release:
    """MLflow's model version as a record."""
    tags = {str(key): str(value) for key, value in found.tags.items()}
    return as_release(found.name, str(found.version), found.run_id or "", tags)


def as_release(name: str, version: str, run_id: str, tags: Mapping[str, str]) -> Release:
    """A version with its tags as a record."""
    return Release(
        name=name,
        version=version,
        digest=tags.get("digest", ""),
        window_id=tags.get("window_id", ""),
        run_id=run_id,
        tags=tags,
    )


def missing(value: Any) -> bool:
    """None or NaN, as tables write 'no value'."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _chain(fault: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = fault
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _link(source: Path, target: Path) -> None:
    if source.is_dir():  # directories are made, files linked: uploads do not walk linked folders
        target.mkdir(parents=True, exist_ok=True)
        for child in sorted(source.iterdir()):
            _link(child.resolve(), target / child.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def _key(name: str) -> str:
    """MLflow's keys know letters, digits and _-./ and space only.

    >>> _key("hgb.learning_rate"), _key("C++")
    ('hgb.learning_rate', 'C__')
    """
    return _KEY.sub("_", str(name))[:240]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return value.item() if hasattr(value, "item") else str(value)
