"""Fetch one version's bundle: what `registry_lean` runs as a process of its own.

Standard input: a JSON list of the registry's URL, the model's name, the artifacts' folder, the
version, and the folder for bundles. A fault is answered on standard output as [class, message].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from models.errors import ModelError
from models.registry import Registry


def main() -> int:
    """0 when the bundle is there, 1 when it is not."""
    url, name, artifacts, version, folder = json.load(sys.stdin)
    try:
        Registry(url, name, Path(artifacts)).download(version, Path(folder))
    except ModelError as fault:
        json.dump([type(fault).__name__, str(fault)], sys.stdout)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
