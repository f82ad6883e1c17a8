"""Steps of a check: Prefect's tasks, or plain calls where many models are checked in a round.

Five task runs with their states and events take 170 KB of Prefect's database and most of the
server's time for a check. A round of a thousand models each hour would write 4 GB a day, to say
what the flow run and the stored decision say. There, inside `sparing()`, a step is called as the
function that it is, with its retries, and only what people want to see of it is kept on the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")

_sparing: ContextVar[bool] = ContextVar("everfit_sparing", default=False)


class Step(Task[P, R]):
    """A task that is a plain call inside `sparing()`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _sparing.get():
            return super().__call__(*args, **kwargs)
        for _ in range(self.retries):
            try:
                return self.fn(*args, **kwargs)
            except Exception:
                time.sleep(float(self.retry_delay_seconds or 0))  # type: ignore[arg-type]
        return self.fn(*args, **kwargs)


def step(**options: Any) -> Callable[[Callable[P, R]], Step[P, R]]:
    """As `prefect.task`, without a cache: a step looks at a world that moves."""

    def made(function: Callable[P, R]) -> Step[P, R]:
        return Step(fn=function, cache_policy=NO_CACHE, **options)

    return made


@contextmanager
def sparing() -> Iterator[None]:
    """Steps inside are plain calls."""
    token = _sparing.set(True)
    try:
        yield
    finally:
        _sparing.reset(token)


def is_sparing() -> bool:
    return _sparing.get()
