"""The lock on which writers and claims meet."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """The lock on `write_gate`: writers share it, a claim has it alone; who waits is served in order."""

    def __init__(self) -> None:
        self.shared = 0
        self.alone = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    async def take(self, *, alone: bool, within: float | None = None) -> bool:
        """True when it is held; False when that took longer than `within`."""
        if self._waiting or not self._fits(alone):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((alone, turn))
            try:
                await asyncio.wait({turn}, timeout=within)
            except asyncio.CancelledError:
                self._leave(alone, turn)
                raise
            if not turn.done():
                self._leave(alone, turn)
                return False
            return True
        self._enter(alone)
        return True

    def give_back(self, *, alone: bool) -> None:
        """Let the next ones in."""
        if alone:
            self.alone = False
        else:
            self.shared -= 1
        self._admit()

    def _fits(self, alone: bool) -> bool:
        return not self.alone and not (alone and self.shared)

    def _enter(self, alone: bool) -> None:
        if alone:
            self.alone = True
        else:
            self.shared += 1

    def _leave(self, alone: bool, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self.give_back(alone=alone)
        else:
            self._waiting.remove((alone, turn))
            turn.cancel()
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            alone, turn = self._waiting.popleft()
            self._enter(alone)
            turn.set_result(None)
