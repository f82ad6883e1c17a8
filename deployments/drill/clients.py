"""Somebody who asks the model's server all the time, and keeps a note of what it has promised."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Client:
    """`kept`: ids whose label was acknowledged; each of them must be in the store for good."""

    port: int
    kept: set[str] = field(default_factory=set)
    broken: int = 0  # requests that a dying worker took with it; nothing was promised to them
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self, pause: float = 0.05) -> Iterator[Client]:
        thread = threading.Thread(target=self._ask, args=(pause,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _ask(self, pause: float) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            row = {"carrier": "EV", "hour": 6 + number % 17, "wind": 0.5 * (number % 40)}
            try:
                asked = self._post("/invocations", {"dataframe_records": [row]})
                name = asked["ids"][0]
                if self._post("/labels", {"id": name, "label": "late"}) is not None:
                    self.kept.add(name)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                self.broken += 1
            time.sleep(pause)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer of a success; None for any other."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            return json.loads(said or b"{}") if 200 <= answer.status < 300 else None
        finally:
            connection.close()
