"""Where one model's databases are: what the config says, and the environment on top.

A config is a parameter of flows, which Prefect keeps and shows, so no URL in it holds a password:
PGPASSWORD or ~/.pgpass have it, or one of the variables here, which take the place of the config's
value. They are read when they are needed and never kept.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from models.errors import hidden

__all__ = ["checked", "data_url", "faults", "has_password", "hidden", "registry_url", "schema"]

TELEMETRY = "EVERFIT_TELEMETRY_URL"
REGISTRY = "EVERFIT_REGISTRY_URL"
ARTIFACTS = "EVERFIT_ARTIFACTS"
DATA = "EVERFIT_DATA_URL"

_FILE, _POSTGRES = "sqlite:///", r"postgresql(\+psycopg)?://"
_RULES = {  # key -> what it matches, and how that is said
    "telemetry": (f"{_FILE}|{_POSTGRES}", "sqlite:///FILE or postgresql://USER@HOST/DATABASE"),
    "registry": (
        f"{_FILE}|{_POSTGRES}|https?://",
        "sqlite:///FILE, postgresql://USER@HOST/DATABASE, or an MLflow server, http://HOST:PORT",
    ),
    "source": (r"[a-z0-9_+]+://", "a table, or a database's URL such as postgresql://USER@HOST/DB"),
}
_VARIABLES = {"telemetry": TELEMETRY, "registry": REGISTRY, "source": DATA}
_LONGEST = 63  # characters of a name in PostgreSQL


def checked(value: str, key: str, place: str = "it") -> str:
    """A URL of the config without a password, or ValueError with rule, value and remedy."""
    if has_password(value):
        raise ValueError(
            f"{place} must not hold a password, got {hidden(value)!r}: set PGPASSWORD, or the "
            f"whole URL in {_VARIABLES[key]}"
        )
    if fault := _scheme_fault(value, key, place):
        raise ValueError(fault)
    return value


def faults(environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the variables of the environment, in a config's faults' words."""
    environ = os.environ if environ is None else environ
    given = [(key, name, environ.get(name)) for key, name in _VARIABLES.items()]
    found = [_scheme_fault(url, key, name) for key, name, url in given if url]
    return [f"(environment): {fault}" for fault in found if fault]


def telemetry_url(name: str, given: str | None) -> str | None:
    """The store's URL; None: the model's own file. On PostgreSQL a schema per model."""
    url = _chosen(TELEMETRY, given, name)
    if url is None or not url.startswith("postgresql") or re.search(r"[?&]schema=", url):
        return url
    return f"{url}{'&' if '?' in url else '?'}schema={schema(name)}"


def registry_url(name: str, given: str | None) -> str | None:
    """The registry's URL; None: the model's own file."""
    return _chosen(REGISTRY, given, name)


def data_url(name: str, given: str) -> str:
    """Where a query is asked."""
    return _chosen(DATA, given, name) or given


def artifacts(name: str) -> str | None:
    """The folder of registered files that the environment names."""
    return _chosen(ARTIFACTS, None, name)


def _chosen(variable: str, given: str | None, name: str) -> str | None:
    value = os.environ.get(variable) or given
    return None if value is None else value.replace("{name}", name)


def schema(name: str) -> str:
    """The PostgreSQL schema of a model's telemetry, different for each.

    >>> schema("churn"), len(schema("x" * 63))
    ('everfit_churn', 63)
    """
    plain = f"everfit_{name}"
    if len(plain) <= _LONGEST:
        return plain
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: _LONGEST - 9]}_{mark}"


def is_url(source: object) -> bool:
    """Whether a source of data is a database rather than a file."""
    return isinstance(source, str) and "://" in source


def has_password(url: str) -> bool:
    """Whether a URL holds a secret.

    >>> has_password("postgresql://me:x@host/db"), has_password("postgresql://me@host:5432/db")
    (True, False)
    """
    return hidden(url) != url


def _scheme_fault(url: str, key: str, place: str) -> str | None:
    rule, said = _RULES[key]
    if re.match(rule, url):
        return None
    return f"{place} is {said}, got {hidden(url)!r}: correct it"
