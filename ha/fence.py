"""What to do while the gateway answers 326: an earlier session under our clientId is not dead yet.

Being admitted is the fence (G2). An agent only makes the admission come sooner; its word is never taken for it (R15).
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class FenceAgent(Protocol):
    """Gets the old broker session closed. Called after each 326, after a commit under our epoch (R13)."""

    async def drop_old_session(self) -> None:
        """Do what can be done, then return; the caller dials again. Never raises."""
        ...


class Wait:
    """The agent `wait`: the old socket ends by itself, at the latest when the gateway's keepalive notices."""

    def __init__(self, pause: float = 0.1) -> None:
        self._pause = pause

    async def drop_old_session(self) -> None:
        """See FenceAgent."""
        await asyncio.sleep(self._pause)
