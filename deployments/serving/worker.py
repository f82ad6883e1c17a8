"""One worker: a process that answers on a socket which others may answer on too."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable

import uvloop

from deployments.serving.balance import Share
from deployments.serving.heads import Head
from deployments.serving.http import Application
from deployments.serving.standstill import Standstill
from deployments.serving.wire import Lane, Wire

_DRAIN = 10.0  # seconds for what is being answered at the end
_COLLECT = (10_000, 50, 50)  # objects more, young and middle collections, between collections
_SWITCH = 0.0005  # seconds that requests wait at most while telemetry is written


class Worker:
    """An application and what watches over it: it ends when its loop does not turn any more."""

    def __init__(
        self,
        application: Application,
        standstill: Standstill | None = None,
        lanes: Callable[[Head], Lane | None] = lambda _head: None,
    ) -> None:
        self.application = application
        self._standstill = standstill
        self._lanes = lanes

    def run(self, listening: socket.socket, share: Share | None = None) -> None:
        """Answer on `listening` until SIGTERM or SIGINT; what has begun is answered still."""
        # What is loaded by now stays, and requests leave few cycles: looking through all of it
        # again and again would take a tenth of the time, and stop everything for 70 ms now and
        # then. Models are loaded later, so that those that were replaced are found.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        sys.setswitchinterval(_SWITCH)
        uvloop.run(self._run(listening, share))

    async def _run(self, listening: socket.socket, share: Share | None) -> None:
        loop = asyncio.get_running_loop()
        await self.application.startup()
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        wire = Wire(self.application, lanes=self._lanes, share=share)
        wire.start(listening)
        if self._standstill is not None:
            self._standstill.start(loop)
        try:
            await told.wait()
            await wire.stop(_DRAIN)
        finally:
            if self._standstill is not None:
                self._standstill.stop()
            await self.application.shutdown()
