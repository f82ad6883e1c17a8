"""One thread per fit: trials run side by side, and OpenMP pools that overlap are many times slower.

Measured: beside another busy OpenMP program, a one-second fit took 25 s on two threads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_seen: tuple[int, Any] | None = None  # (how many of the libraries were loaded, what was found then)


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenMP, torch and BLAS work on one thread inside; re-entrant.

    The counts of OpenMP, and so of torch, belong to the calling thread. BLAS has one count for the
    process: of overlapping fits, threadpoolctl lets the first one set it and give it back, so set
    OMP_NUM_THREADS=1 for the process where fits overlap, as everfit's commands do.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.get_num_threads()  # else torch's first use in this thread would undo the limit
    with _controller().limit(limits=1):
        yield


def _controller() -> Any:
    """threadpoolctl's view of the loaded libraries, looked up anew when more of them are loaded."""
    global _seen  # noqa: PLW0603
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    loaded = sum(name in sys.modules for name in ("sklearn", "torch", "scipy.linalg"))
    seen = _seen
    if seen is None or seen[0] != loaded:
        seen = _seen = (loaded, ThreadpoolController())
    return seen[1]
