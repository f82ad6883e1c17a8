"""Jobs for the tests of the pool: imported by its processes."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

entered = 0
kept = []


@contextmanager
def around():
    global entered  # noqa: PLW0603
    entered += 1
    yield


def work(job, tell):
    match job["do"]:
        case "pid":
            return os.getpid()
        case "entered":
            return entered
        case "fail":
            raise ValueError("no good")
        case "hang":
            time.sleep(60)
        case "grow":
            kept.append(b"x" * int(job["mb"] * 1e6))
        case "die":
            tell("about to die")
            os.kill(os.getpid(), signal.SIGKILL)
    return None
