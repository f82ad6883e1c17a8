"""Clients of the swap drill, in a process of their own."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import threading
import time
from typing import Any

import numpy as np

ROWS = [{"wind": float(wind), "carrier": c} for wind in range(0, 40, 2) for c in ("AA", "B6", "EV")]


class Part:
    """What some requests came to."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self.wrong = 0

    @property
    def p99(self) -> float:
        return round(1_000 * float(np.quantile(self.latencies or [0.0], 0.99)), 1)


class Load:
    """Clients in a process of their own that ask until the end of the block, one row a request, and
    check each answer. What this process does costs them nothing but the machine's cores."""

    def __init__(self, port: int, clients: int, right: dict[str, Any]) -> None:
        spawned = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawned.Pipe()
        self._process = spawned.Process(
            target=_clients, args=(port, clients, right, theirs), daemon=True
        )

    def __enter__(self) -> Load:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self._process.join(30)

    def take(self) -> Part:
        """What has come since the last time."""
        self._pipe.send("take")
        found: Part = self._pipe.recv()
        return found

    def first(self, version: str, since: float) -> float | None:
        """When, after `since`, a request was first answered by `version` again."""
        self._pipe.send("seen")
        return next((at for at, v in self._pipe.recv() if at > since and v == version), None)


def _clients(port: int, clients: int, right: dict[str, Any], pipe: Any) -> None:
    asking = Asking(port, right)
    threads = [threading.Thread(target=asking.ask, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    pipe.send("ready")
    while (said := pipe.recv()) != "stop":
        with asking.lock:
            if said == "take":
                taken, asking.part = asking.part, Part()
                pipe.send(taken)
            else:
                pipe.send(asking.seen)
    asking.stop.set()
    for thread in threads:
        thread.join()


class Asking:
    """What the clients of one process share."""

    def __init__(self, port: int, right: dict[str, Any]) -> None:
        self.port, self.right = port, right
        self.part, self.lock, self.stop = Part(), threading.Lock(), threading.Event()
        self.seen: list[tuple[float, str]] = []  # when the version that answers has changed

    def ask(self, number: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        bodies = [json.dumps({"dataframe_records": [row]}).encode() for row in ROWS]
        kind = {"content-type": "application/json"}
        while not self.stop.is_set():
            number = (number + 1) % len(ROWS)
            began = time.monotonic()
            try:
                client.request("POST", "/invocations", bodies[number], kind)
                answer = client.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                client.close()
                with self.lock:
                    self.part.failed += 1
                continue
            took = time.monotonic() - began
            with self.lock:
                self.part.latencies.append(took)
                if answer.status != 200:
                    self.part.failed += 1
                    continue
                said = json.loads(body)
                version = said["model_version"]
                late = said["predictions"][0]["probability_late"]
                self.part.wrong += abs(late - self.right[version][number]) > 1e-5
                if not self.seen or self.seen[-1][1] != version:
                    self.seen.append((began + took, version))
        client.close()
