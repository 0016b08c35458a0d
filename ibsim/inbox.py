"""What one client sends: cut into requests, which wait their turn, for the pacing limit, or for the client to read. Thin."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ibsim.pace import VIOLATIONS, Pace
from ibsim.wire import PREAMBLE, Frames, WireError

if TYPE_CHECKING:
    from ibsim.session import Session

NOW, LATER, NEVER = "now", "later", "never"

SLICE = 0.02
"""Seconds that one client's requests may take before others have their turn."""
MAX_WAITING = 1000
"""Requests that wait, before the socket is read no further."""
MAX_WAITING_BYTES = 4 << 20
"""The same in bytes."""


class Inbox:
    """The bytes of one connection on their way to `handle`, which raises WireError on what is no request."""

    def __init__(self, session: "Session", handle: Callable[[bytes], None]) -> None:
        self._session = session
        self._handle = handle
        self._frames = Frames()
        self._greeting = b""
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._broken = ""
        self._pace = Pace()
        self._timer: asyncio.Handle | None = None

    @property
    def full(self) -> bool:
        """Whether so much waits that the socket should not be read."""
        return len(self._waiting) > MAX_WAITING or self._size > MAX_WAITING_BYTES

    @property
    def unfinished(self) -> int:
        """Bytes of a message that has not ended."""
        return self._frames.unfinished

    def feed(self, data: bytes) -> None:
        """Takes what the socket brought."""
        try:
            for payload in self._payloads(data):
                self._waiting.append(payload)
                self._size += len(payload)
        except WireError as error:
            self._broken = str(error)
        if self._timer is None:
            self.work()
        elif self.full:
            self._session.regulate()

    def _payloads(self, data: bytes) -> Iterator[bytes]:
        if self._greeting == PREAMBLE:
            return self._frames.feed(data)
        wanted = len(PREAMBLE) - len(self._greeting)
        self._greeting += data[:wanted]
        if not PREAMBLE.startswith(self._greeting):
            raise WireError("the connection does not begin with API")
        return self._frames.feed(data[wanted:])

    def work(self) -> None:
        """Handles what waits, as far as it goes now; it is one turn of the gateway."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        problem = ""
        try:
            self._take()
        except WireError as error:
            problem = str(error)
        if not self._waiting:
            problem = problem or self._broken
        if problem:
            self._drop()
        self._session.turned(problem)
        if self._waiting and self._timer is None and self._session.listening:
            self._timer = asyncio.get_running_loop().call_soon(self.work)

    def _take(self) -> None:
        end = time.monotonic() + SLICE
        while self._waiting and self._session.listening:
            verdict = self._verdict()
            if verdict == LATER:
                return
            payload = self._waiting.popleft()
            self._size -= len(payload)
            if verdict == NOW:
                self._handle(payload)
            if time.monotonic() > end:
                return

    def _verdict(self) -> str:
        """What the pacing limit means for the next request: NOW, LATER or NEVER."""
        pacing = self._session.gateway.faults.active.get("pacing")
        if pacing is None or self._session.state != "open":
            return NOW
        loop = asyncio.get_running_loop()
        wait = self._pace.wait(loop.time(), pacing["limit"])
        if not wait:
            return NOW
        self._session.gateway.faults.strikes("pacing")
        if pacing["over"] == "delay":
            self._timer = loop.call_later(wait, self.work)
            return LATER
        if self._pace.violated(loop.time()):
            count, limit = self._pace.violations, pacing["limit"]
            text = f"Max rate of messages per second has been exceeded:max={limit} rec={limit + 1} ({count})"
            self._session.error(100, text)
            if count >= VIOLATIONS:
                raise WireError(f"the pacing limit was exceeded in {count} seconds")
        return NOW if pacing["over"] == "error" else NEVER

    def finish(self, data: bytes) -> None:
        """The connection has ended: everything that came is handled now, for nobody to hear."""
        with contextlib.suppress(WireError):
            for payload in (*self._waiting, *self._payloads(data)):
                self._handle(payload)
        self._drop()
        self._session.gateway.flush()

    def wake(self) -> None:
        """The session listens again: what waits goes on, soon."""
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self.work)

    def _drop(self) -> None:
        self._waiting.clear()
        self._size = 0

    def close(self) -> None:
        """The connection is gone."""
        self._drop()
        if self._timer is not None:
            self._timer.cancel()
