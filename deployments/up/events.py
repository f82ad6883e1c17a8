"""What happens, one line each: to the log, to whoever looks on, and a few kept for the screen."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_KEPT = 200


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.who}: {self.text}"


class Events:
    """Thread-safe; `look` is called with each event as it comes."""

    def __init__(
        self,
        log: Path,
        look: Callable[[Event], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._last: deque[Event] = deque(maxlen=_KEPT)
        log.parent.mkdir(parents=True, exist_ok=True)

    def tell(self, who: str, text: str) -> None:
        event = Event(self._clock(), who, " ".join(text.split()))
        with self._lock:
            self._last.append(event)
            try:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(f"{event}\n")
            except OSError:  # a full disk must not end what watches over the servers
                pass
            self._look(event)

    def last(self, count: int) -> list[Event]:
        with self._lock:
            return list(self._last)[-count:]
