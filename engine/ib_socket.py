"""Beside ib_async: its decoder's log, which is where a lost message shows, and the options of its socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any


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
