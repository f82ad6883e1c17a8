"""Imported once by the server that jobs are forked from."""

from __future__ import annotations

import importlib

from deployments.drill.work import _PRELOADED

for name in _PRELOADED:
    importlib.import_module(name)
