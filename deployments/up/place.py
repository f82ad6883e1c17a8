"""Where `everfit up` keeps what it knows, who runs it, and how the other commands find that out.

HOME/up.lock     held by the process that runs it, for as long as it does
HOME/up.json     what that process last knew of its parts and models; no secrets
HOME/ports.json  the ports of its pages, the same at the next start
runs/NAME/up/model.lock  held too, with HOME in it, so that no model is run twice
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments import environment
from deployments.processes import StackFault

if TYPE_CHECKING:
    from tasks.config import Config


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one `everfit up`, and where its Prefect server keeps its files."""

    folder: Path
    prefect: Path

    @property
    def lock(self) -> Path:
        return self.folder / "up.lock"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def read(self) -> dict[str, Any]:
        """What was written last; empty where there is nothing."""
        return _json(self.folder / "up.json")

    def write(self, state: Mapping[str, Any]) -> None:
        _replace(self.folder / "up.json", state)

    def ports(self) -> dict[str, int]:
        return {k: v for k, v in _json(self.folder / "ports.json").items() if isinstance(v, int)}

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        _replace(self.folder / "ports.json", ports)


def place_of(configs: Sequence[Config], home: Path | None = None) -> Place:
    """The place of these models.

    One model has all in its own runs folder, with the Prefect history of its other commands.
    Several share `_up` in the folder that theirs have in common, which no model can be called.
    """
    if home is not None:
        folder = home.expanduser().resolve()
        return Place(folder, environment.prefect_home(folder))
    if len(configs) == 1:
        runs = configs[0].folder
        return Place(runs / "up", environment.prefect_home(runs))
    folder = Path(os.path.commonpath([c.folder.parent for c in configs])) / "_up"
    return Place(folder, environment.prefect_home(folder))


@contextmanager
def held(place: Place, configs: Sequence[Config]) -> Iterator[None]:
    """Run `configs` from `place` alone. Raises StackFault that says who does already."""
    with ExitStack() as stack:
        place.folder.mkdir(parents=True, exist_ok=True)
        _take(stack, place.lock, place)
        for config in configs:
            path = model_lock(config)
            path.parent.mkdir(parents=True, exist_ok=True)
            _take(stack, path, home_in(path), config.name)
            path.write_text(
                json.dumps({"folder": str(place.folder), "prefect": str(place.prefect)}),
                encoding="utf-8",
            )
        pointer = _pointer(place)
        with suppress(
            OSError
        ):  # no home directory to write to: `down CONFIG` finds it all the same
            _replace(pointer, {"folder": str(place.folder), "prefect": str(place.prefect)})
        stack.callback(lambda: pointer.unlink(missing_ok=True))
        yield


def _take(stack: ExitStack, path: Path, place: Place | None, model: str = "") -> None:
    file = stack.enter_context(path.open("a", encoding="utf-8"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StackFault(_who(place, model)) from None


def _who(place: Place | None, model: str) -> str:
    state = place.read() if place else {}
    models = ", ".join(m["name"] for m in state.get("models", [])) or model or "it"
    since = f" since {state['started'][:16]}" if state.get("started") else ""
    pid = f" as process {state['pid']}" if state.get("pid") else ""
    where = f" in {place.folder}" if place else ""
    return (
        f"`everfit up` runs {models} already{pid}{since}{where}: `everfit status` shows it, "
        "`everfit down` stops it"
    )


def model_lock(config: Config) -> Path:
    return config.folder / "up" / "model.lock"


def home_in(path: Path) -> Place | None:
    """The place that a model's lock or a pointer names."""
    found = _json(path)
    try:
        return Place(Path(found["folder"]), Path(found["prefect"]))
    except (KeyError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether a living process holds this lock. It looks without taking part."""
    try:
        with path.open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def running_place(config: Config) -> Place | None:
    """The place from which this model is run now; None when it is not."""
    path = model_lock(config)
    return home_in(path) if is_held(path) else None


def running_places() -> list[Place]:
    """Every place of this user that runs now."""
    found = [home_in(path) for path in sorted(_pointers().glob("*.json"))]
    return [place for place in found if place is not None and is_held(place.lock)]


def _pointers() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "everfit" / "up"


def _pointer(place: Place) -> Path:
    digest = hashlib.sha256(str(place.folder).encode(sys.getfilesystemencoding())).hexdigest()
    return _pointers() / f"{digest[:16]}.json"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, whoever reads meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    fresh.replace(path)
