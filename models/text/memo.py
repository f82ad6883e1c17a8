"""What trials of one search share: results that depend on the texts and few parameters alone."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_KEPT = 6  # results of one table; a search tries a few ways of cutting the same texts

T = TypeVar("T")

_lock = threading.Lock()
_memory: dict[int, OrderedDict[Hashable, Any]] = {}


def remembered(owner: Any, key: Hashable, make: Callable[[], T]) -> T:
    """`make()`, or what it gave before for the same `owner` (an array, by identity) and key.

    At most `_KEPT` results of an owner are kept, those least used go first; all are forgotten with
    the owner. Threads that ask for the same at once may make it twice. Treat results as constant.
    """
    with _lock:
        kept = _memory.get(id(owner))
        if kept is None:
            kept = _memory[id(owner)] = OrderedDict()
            weakref.finalize(owner, _memory.pop, id(owner), None)
        if key in kept:
            kept.move_to_end(key)
            found: T = kept[key]
            return found
    made = make()
    with _lock:
        kept[key] = made
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    return made
