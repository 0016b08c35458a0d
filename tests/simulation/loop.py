"""An asyncio event loop whose time is a number: nobody waits, and whole processes can be frozen or killed in it.

Every callback carries a context, and with it the process that it belongs to (`OWNER`). So the loop can do to one process what an
operating system does, without its code taking part: a frozen owner's callbacks are held back and run when it thaws, a dead
owner's never run again. Nothing here reads a real clock, so a run is a function of its seed.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

START = 1000.0
"""Virtual seconds at the beginning: not zero, which code under test uses for "never"."""

_STEPS_AT_ONE_MOMENT = 50_000


class Killed(BaseException):
    """Raised in a process at the point where it dies, so that not one more line of it runs."""


class NothingLeft(RuntimeError):
    """Everybody waits for something that no timer will bring."""


class Owner:
    """A process, or a thread of one, as the loop sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = 0  # how many reasons there are
        self.held: list[asyncio.Handle] = []
        self.skew = 0.0  # seconds by which its wall clock is wrong
        self.context = Context()
        self.context.run(OWNER.set, self)


OWNER: ContextVar[Owner | None] = ContextVar("owner")


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready, then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = START
        self._clock_resolution = 1e-9
        self._at_this_moment = 0
        self.steps = 0
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.errors.append(context))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def _process_events(self, _events: object) -> None:
        """There are no file descriptors."""

    def _write_to_self(self) -> None:
        """There is one thread."""

    def run_in_executor(self, *_: Any) -> Any:
        """There are no threads and there is no network: whoever asks for one has missed a door."""
        raise AssertionError("something real was asked for in a simulation")

    async def create_connection(self, *_: Any, **__: Any) -> Any:
        """See run_in_executor."""
        self.run_in_executor()

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        """See run_in_executor."""
        self.run_in_executor()

    def thaw(self, owner: Owner, sort: Callable[[list[asyncio.Handle]], list[asyncio.Handle]]) -> None:
        """Let a frozen owner run on: what was held back runs now, in the order that `sort` gives it."""
        owner.frozen -= 1
        if owner.frozen == 0:
            held, owner.held = owner.held, []
            self._ready.extend(sort(held))

    def _run_once(self) -> None:
        scheduled = self._scheduled
        if self._timer_cancelled_count:
            self._forget_cancelled()
        if not self._ready and not self._stopping:
            if not scheduled:
                raise NothingLeft(f"at {self._now:.3f} nobody has anything to wait for")
            if scheduled[0]._when > self._now:
                self._now, self._at_this_moment = scheduled[0]._when, 0
        limit = self._now + self._clock_resolution
        while scheduled and scheduled[0]._when < limit:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            self._ready.append(timer)
        for _ in range(len(self._ready)):
            self._run(self._ready.popleft())

    def _run(self, handle: asyncio.Handle) -> None:
        if handle._cancelled:
            return
        owner = handle._context.get(OWNER)
        if owner is not None:
            if owner.dead:
                return
            if owner.frozen:
                owner.held.append(handle)
                return
        self.steps += 1
        self._at_this_moment += 1
        if self._at_this_moment > _STEPS_AT_ONE_MOMENT:
            raise NothingLeft(f"at {self._now:.3f} {handle!r} and others run for ever without time passing")
        handle._run()

    def _forget_cancelled(self) -> None:
        scheduled = self._scheduled
        if self._timer_cancelled_count > 200 and self._timer_cancelled_count * 2 > len(scheduled):
            kept = [timer for timer in scheduled if not timer._cancelled]
            for timer in scheduled:
                timer._scheduled = not timer._cancelled
            heapq.heapify(kept)
            scheduled[:] = kept
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False


def bury(task: asyncio.Task[Any]) -> None:
    """Take a task of a dead process apart, so that the garbage collector has nothing to say about it."""
    task._log_destroy_pending = False
    coroutine = task.get_coro()
    for _ in range(20):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001 - its `finally` awaits something: it is closed from there again
            continue
        return
