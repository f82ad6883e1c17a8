"""Have a running `everfit up` stop, from another process."""

from __future__ import annotations

import os
import signal
import time

from deployments.processes import StackFault
from deployments.up.place import Place, is_held

_TICK = 0.1


def about(place: Place) -> str:
    """Which models a place runs, and where."""
    state = place.read()
    models = ", ".join(m["name"] for m in state.get("models", []))
    return f"{models or 'what has not begun yet'} (process {state.get('pid')}, {place.folder})"


def stop(place: Place, wait: float, *, force: bool = False) -> float:
    """Seconds until it was over. Raises StackFault when it is not after `wait` seconds.

    With `force` its process is killed, and the children, which notice, end by themselves.
    """
    began = time.monotonic()
    pid = place.read().get("pid")
    if not isinstance(pid, int) or not is_held(place.lock):
        raise StackFault(f"nothing runs in {place.folder}, or it has only begun: try again")
    try:
        os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise StackFault(f"process {pid} is another user's: have that user stop it") from None
    while is_held(place.lock):
        if time.monotonic() - began > wait:
            raise StackFault(
                f"process {pid} has not ended within {wait:g} s; its log is in {place.logs}: wait, "
                "or kill it with `everfit down --force`"
            )
        time.sleep(_TICK)
    return time.monotonic() - began
