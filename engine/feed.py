"""What a socket brings, passed on in slices, with everybody else's turn between them.

ib_async decodes whatever one read of the socket brought before anything else may run: 256 KB are 600 orders and half a second on a
busy machine, longer than a leader's event loop may stand still (R12). It also copies the rest of its buffer for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SLICE = 8 * 1024
"""Bytes that are decoded in one turn of the event loop: some twenty orders."""
FULL, LOW = 512 * 1024, 64 * 1024
"""With so many bytes waiting the socket is not read until so few are left."""


class Feed:
    """Takes `received` and `closed` of a connection, and calls `pass_on` and `pass_end` in the same order, a slice at a time.

    `pause(True)` is called when too much waits, `pause(False)` when it may go on.
    """

    def __init__(
        self, pass_on: Callable[[bytes], None], pass_end: Callable[[str], None], pause: Callable[[bool], None]
    ) -> None:
        self._pass_on, self._pass_end, self._pause = pass_on, pass_end, pause
        self._waiting = bytearray()
        self._end: str | None = None
        self._scheduled = self._paused = self._cut = False

    def received(self, data: bytes) -> None:
        """Bytes came."""
        self._waiting += data
        if not self._paused and len(self._waiting) > FULL:
            self._paused = True
            self._pause(True)
        if not self._scheduled:
            self._turn()

    def closed(self, message: str) -> None:
        """The connection ended; what waits is still passed on first."""
        self._end = message
        if not self._scheduled:
            self._turn()

    def cut(self) -> None:
        """Nothing more is passed on."""
        self._cut = True
        self._waiting.clear()

    def _turn(self) -> None:
        self._scheduled = False
        if self._cut:
            return
        piece = bytes(self._waiting[:SLICE])
        del self._waiting[:SLICE]
        if self._paused and len(self._waiting) < LOW:
            self._paused = False
            self._pause(False)
        if self._waiting or (piece and self._end is not None):
            self._scheduled = True  # before the piece is passed on: it may bring the next bytes' turn about
            asyncio.get_running_loop().call_soon(self._turn)
        if piece:
            self._pass_on(piece)
        elif self._end is not None:
            self._pass_end(self._end)
