"""One thread per fit: trials run side by side, and OpenMP pools that overlap are many times slower.

Measured: beside another busy OpenMP program, a one-second fit took 25 s on two threads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_lock = threading.Lock()
_inside = 0  # fits under way, in all threads
_outer = ExitStack()  # undoes what is set for the whole process
_torch_threads: int | None = None
_seen: tuple[int, Any] | None = None  # a controller lists the loaded libraries once, as of then


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenMP, BLAS and torch (if loaded) work on one thread inside; re-entrant and thread-safe.

    OpenMP's count belongs to the calling thread, BLAS's and torch's to the process: the latter two
    are set by the first that enters and given back by the last that leaves.
    """
    global _inside, _torch_threads  # noqa: PLW0603
    controller = _controller()
    torch = sys.modules.get("torch")
    with _lock:
        _inside += 1
        if _inside == 1:
            _outer.enter_context(controller.limit(limits=1, user_api="blas"))
        if torch is not None:
            count = torch.get_num_threads()
            if count != 1:
                if _torch_threads is None:
                    _torch_threads = count
                torch.set_num_threads(1)
    try:
        with controller.limit(limits=1, user_api="openmp"):
            yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _outer.close()
                if torch is not None and _torch_threads is not None:
                    torch.set_num_threads(_torch_threads)
                    _torch_threads = None


def _controller() -> Any:
    """threadpoolctl's view of the loaded libraries, looked up anew when more modules are loaded."""
    global _seen  # noqa: PLW0603
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    loaded = sum(name in sys.modules for name in ("sklearn", "torch", "scipy.linalg"))
    seen = _seen
    if seen is None or seen[0] != loaded:
        seen = _seen = (loaded, ThreadpoolController())
    return seen[1]
