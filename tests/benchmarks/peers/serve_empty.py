"""The floor under all of them: granian with a handler that answers without looking. No model."""

from __future__ import annotations

import sys

from granian import Granian

HEADERS = [("content-type", "application/json")]


async def answer(_scope, protocol):  # type: ignore[no-untyped-def]
    protocol.response_bytes(200, HEADERS, b'{"predictions":[]}')


def load():  # type: ignore[no-untyped-def]
    return answer


if __name__ == "__main__":
    _, _, port, workers = sys.argv
    Granian(
        "empty",
        port=int(port),
        workers=int(workers),
        interface="rsgi",
        http="1",
        websockets=False,
        log_level="warning",
    ).serve(target_loader=load, wrap_loader=False)
