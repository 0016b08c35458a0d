"""What waits to be written to one client: in order, late if a fault says so, and never without bound. Thin."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ibsim.session import Session

MAX_UNREAD = 64 << 20
"""Bytes that may wait for a client that does not read, before its session ends."""
CHOKED = 16 << 20
"""Bytes that wait for a client, from which on its requests wait, too."""
PATIENCE = 30.0
"""Seconds that a client may read nothing of them, before its session ends."""
_THAW = 0.05


class Outbox:
    """Answers of one session, gathered over a turn and written at its end."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._parts: list[bytes] = []
        self._size = 0
        self._late: deque[tuple[float, bytes]] = deque()
        self._late_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._shut = False
        self._impatience: asyncio.TimerHandle | None = None
        self.choked = False
        """So much waits that the client's requests wait, too."""

    def connected(self, transport: asyncio.Transport) -> None:
        """From now on it can write."""
        transport.set_write_buffer_limits(high=CHOKED)

    def choke(self) -> None:
        """The client does not read: it has PATIENCE seconds to begin."""
        self.choked = True
        loop = asyncio.get_running_loop()
        self._impatience = loop.call_later(PATIENCE, self._session.abort, "the client does not read")

    def flows(self) -> None:
        """The client reads again."""
        self.choked = False
        if self._impatience is not None:
            self._impatience.cancel()

    def put(self, data: bytes) -> None:
        """Queues one message; ends the session if too much waits already."""
        if self._shut:
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size + self._late_size > MAX_UNREAD:
            self._shut = True
            self._session.abort("the client does not read")

    def forget(self) -> None:
        """Drops what is queued in this turn."""
        self._parts.clear()
        self._size = 0

    def write(self, delay: float) -> None:
        """Writes what is queued, `delay` seconds late; never before what was queued earlier."""
        data = b"".join(self._parts)
        self.forget()
        if not data or self._session.state == "closed":
            return
        if delay <= 0 and not self._late:
            self._write(data)
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time() + delay, self._late[-1][0] if self._late else 0.0)
        self._late.append((due, data))
        self._late_size += len(data)
        if self._timer is None:
            self._timer = loop.call_at(due, self._write_late)

    def _write_late(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._session.gateway.frozen:
            self._timer = loop.call_later(_THAW, self._write_late)
            return
        while self._late and self._late[0][0] <= loop.time():
            _, data = self._late.popleft()
            self._late_size -= len(data)
            self._write(data)
        if self._late:
            self._timer = loop.call_at(self._late[0][0], self._write_late)

    def _write(self, data: bytes) -> None:
        transport = self._session.transport
        if transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_UNREAD:
            self._session.abort("the client does not read")

    def close(self) -> None:
        """The connection is gone."""
        self.forget()
        self._late.clear()
        for timer in (self._timer, self._impatience):
            if timer is not None:
                timer.cancel()
