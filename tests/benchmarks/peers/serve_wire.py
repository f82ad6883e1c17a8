"""Our own HTTP with a handler that answers without looking. No model. _ PORT _"""

from __future__ import annotations

import functools
import sys

from deployments.serving.http import Application
from deployments.serving.supervisor import listen
from deployments.serving.worker import Worker

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 18\r\n"


class Empty:
    """A lane that answers at once."""

    def take(self, connection, _head, _body):  # type: ignore[no-untyped-def]
        connection.send(HEAD, b'{"predictions":[]}')


if __name__ == "__main__":
    Worker(Application([]), lanes=functools.partial(lambda lane, _: lane, Empty())).run(
        listen("127.0.0.1", int(sys.argv[2]))
    )
