"""The demo as the server's only customer: it asks for rows and later says how they came out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx
import numpy as np
import pandas as pd

from deployments.demo.world import ID, KNOWN, TIME, World

PATIENCE = 30.0  # seconds that answers may take to reach the telemetry store


class DemoFault(Exception):
    """The replay cannot go on: what was expected, what came, and what to do."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the server said to one request, in the order of its rows."""

    versions: tuple[str, ...]
    positive: np.ndarray  # (n,) probability of the positive class


class Served(Protocol):
    """A server, or something that answers like one."""

    def ask(self, rows: pd.DataFrame) -> Answers: ...

    def tell(self, rows: pd.DataFrame) -> None:
        """Labels of `rows`, all of them known."""

    def settle(self, start: datetime, end: datetime, answered: int) -> None:
        """Return when all `answered` rows due in `start`..`end` are in the telemetry store."""


class Client:
    """Requests over HTTP to the running inference server."""

    def __init__(self, world: World, url: str, count: Callable[[datetime, datetime], int]) -> None:
        """`count(start, end)` gives the number of stored answers to rows due in between."""
        self._world = world
        self._http = httpx.Client(base_url=url, timeout=60.0)
        self._count = count
        self.requests = 0

    def close(self) -> None:
        self._http.close()

    def ask(self, rows: pd.DataFrame) -> Answers:
        inputs = self._world.inputs
        body = {
            "dataframe_split": {
                "columns": list(inputs),
                "data": list(zip(*(_values(rows[n]) for n in inputs), strict=True)),
            },
            "ids": rows[ID].tolist(),
            "times": [t.isoformat() for t in rows[TIME]],
        }
        answer = self._post("/invocations", body)
        predictions = answer["predictions"]
        wanted = f"probability_{self._world.classes[-1]}"
        return Answers(
            versions=(str(answer["model_version"]),) * len(predictions),
            positive=np.array([p[wanted] for p in predictions]),
        )

    def tell(self, rows: pd.DataFrame) -> None:
        labels = [
            {"id": i, "label": self._world.classes[int(y)], "time": at.isoformat()}
            for i, y, at in zip(rows[ID], rows[self._world.target], rows[KNOWN], strict=True)
        ]
        self._post("/labels", {"labels": labels})

    def settle(self, start: datetime, end: datetime, answered: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while (stored := self._count(start, end)) < answered:
            if time.monotonic() > deadline:
                raise DemoFault(
                    f"every answer is recorded within {PATIENCE:g} s, but {answered - stored} of "
                    f"{answered} have not reached the telemetry store: see the server's log"
                )
            time.sleep(0.02)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.requests += 1
        answer = self._http.post(
            path, content=json.dumps(body), headers={"content-type": "application/json"}
        )
        if answer.status_code != 200:
            raise DemoFault(f"POST {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()  # type: ignore[no-any-return]


def _values(column: pd.Series) -> list[Any]:
    """JSON-ready: NaN becomes null, categories text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(str).tolist()
    return [None if isinstance(v, float) and math.isnan(v) else v for v in column.tolist()]
