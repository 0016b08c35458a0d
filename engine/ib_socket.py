"""Beside ib_async: a request under way, its decoder's log, which is where a lost message shows, and its socket's options."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from engine.broker import RequestFailed


class DecoderWatch(logging.Handler):
    """ib_async's decoder swallows exceptions into its log: each one is a message lost."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell
        logging.getLogger("ib_async.Decoder").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage()[:500])


def harden(transport: Any) -> None:
    """Notice a dead gateway within seconds, not hours (R5)."""
    raw = transport.get_extra_info("socket") if transport is not None else None
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)


class Collection:
    """One request under way: what came so far, and the future that its End completes."""

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id
        self.items: list[Any] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(RequestFailed(reason))
