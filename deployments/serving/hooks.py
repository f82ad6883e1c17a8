"""`POST /hooks/mlflow`: a signed word from an MLflow server that something has changed there.

It is a wake-up and nothing else: whatever it says, the server then looks at the registry itself,
and it looks without one, too, every `serving.poll_seconds`. So a forged, late or repeated one could
do no harm but for a look; it is refused all the same. The signature is that of MLflow's webhooks:
HMAC-SHA-256 over id, time and body as in Standard Webhooks (standardwebhooks.com).
"""

from __future__ import annotations

import base64
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from deployments.serving.errors import RequestFault
from deployments.serving.http import Headers
from tasks.config import ConfigFault

SECRET = "EVERFIT_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable
LIMIT = 65_536  # bytes of a body
PATH = "/hooks/mlflow"
_LEAST = 16  # characters of a secret
_FRESH = 300.0  # seconds that a delivery's time may differ from ours; MLflow's retries end before
_REMEMBERED = 4_096  # deliveries
_DECODER = msgspec.json.Decoder(dict[str, Any])


def secret() -> str | None:
    """The secret in the environment; None when no webhooks are wanted. Raises ConfigFault."""
    found = os.environ.get(SECRET)
    if found is not None and len(found) < _LEAST:
        raise ConfigFault(
            f"{SECRET} has {_LEAST} characters or more, got {len(found)}: set it to the output of "
            "`openssl rand -hex 32`, here and at the MLflow server"
        )
    return found


def signature(key: str, delivery: str, moment: str, body: bytes) -> str:
    """What MLflow sends as X-MLflow-Signature."""
    signed = f"{delivery}.{moment}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key.encode(), signed, "sha256")).decode()


class Hooks:
    """Verifies deliveries, each of which counts once, and calls `wake` for those of `model`.

    `clock` gives seconds since 1970.
    """

    def __init__(
        self, key: str, model: str, wake: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._model = model
        self._wake = wake
        self._clock = clock
        self._seen: OrderedDict[str, None] = OrderedDict()

    def receive(self, headers: Headers, body: bytes) -> dict[str, str]:
        """What became of a delivery: woken, duplicate, or ignored (of another model).

        Raises RequestFault: 401 for one that MLflow has not signed, or not lately; 400 for a body
        that is no event.
        """
        delivery = headers.get("x-mlflow-delivery-id", "")
        self._verify(delivery, headers, body)
        if delivery in self._seen:
            return {"result": "duplicate"}
        try:
            event = _DECODER.decode(body)
        except msgspec.DecodeError:
            raise RequestFault(
                400, "body", "an event is a JSON object", "send what MLflow sends"
            ) from None
        self._seen[delivery] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        data = event.get("data")
        if not isinstance(data, dict) or data.get("name") != self._model:
            return {"result": "ignored"}
        self._wake()
        return {"result": "woken"}

    def _verify(self, delivery: str, headers: Headers, body: bytes) -> None:
        moment, sent = (headers.get(f"x-mlflow-{n}", "") for n in ("timestamp", "signature"))
        known = 0 < len(delivery) <= 100 and 0 < len(moment) <= 20
        right = signature(self._key, delivery, moment, body)
        if not known or not hmac.compare_digest(right.encode(), sent.encode()):
            raise RequestFault(
                401,
                "x-mlflow-signature",
                "a webhook is signed with this server's secret",
                f"register it at the MLflow server with the secret that is in {SECRET}",
            )
        if not moment.isdecimal() or abs(self._clock() - int(moment)) > _FRESH:
            raise RequestFault(
                401,
                "x-mlflow-timestamp",
                f"a webhook is not older than {_FRESH:g} s, nor from the future",
                "set the clocks of both machines",
                received=moment,
            )


def call(folder: Path) -> None:
    """Wake every worker that shares `folder`; which of them has got the webhook is chance."""
    path = folder / "wake"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def called(folder: Path) -> int:
    """When `call` was used last, in nanoseconds; 0 for never."""
    try:
        return (folder / "wake").stat().st_mtime_ns
    except OSError:
        return 0
