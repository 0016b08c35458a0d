"""What the supervisor is told of this process: ready, alive, in which role, stopping (sd_notify). The one door to sdnotify.

The sign of life is tied to both threads on which leadership hangs: a task of the event loop gives it, and only while the thread
that renews the lease comes round. Where either hangs, the supervisor kills the process (R12): not for safety, which the fences
give, but because a hung process keeps the broker session that the next leader needs. Without NOTIFY_SOCKET nothing happens.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

import sdnotify
from loguru import logger

from engine.clock import Clock, boottime

BEATS = 3
"""Signs of life in one interval, so that a late one or a lost one does no harm."""

_STARTS_WITHIN = (
    "EXTEND_TIMEOUT_USEC=15000000"  # said again with each beat until ready, however long PostgreSQL is away
)


def interval_of(environ: Mapping[str, str], setting: float, ttl: float, pid: int) -> float:
    """Seconds within which the supervisor wants a sign of life: its own word if it is for this process, else `setting`.

    Raises ValueError with a sentence when what the supervisor says is no time, or one that is not below `ttl` (R12).
    """
    text, whom = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not environ.get("NOTIFY_SOCKET") or not text or (whom.isdecimal() and int(whom) != pid):
        return setting
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise ValueError(f"WATCHDOG_USEC={text!r} is no number of microseconds; systemd sets it from WatchdogSec=.")
    seconds = int(text) / 1e6
    if seconds >= ttl:
        raise ValueError(
            f"The supervisor's watchdog waits {seconds:g} s (WATCHDOG_USEC={text}), and LEASE_TTL={ttl:g}: a hung process must "
            "be gone before its lease is; set WatchdogSec= lower (1.5 is usual), or raise LEASE_TTL."
        )
    return seconds


class Watchdog:
    """Tells the supervisor. `start` once the loop runs, `ready` when the replica serves, `stopping`, and at last `stop`.

    `status` gives the line that `systemctl status` shows. `renewed_at` gives the moment (of `clock`) at which the renewing
    thread last came round, None where there is no such thread; older than `renewed_within` seconds counts as hung.
    """

    def __init__(
        self,
        interval: float,
        *,
        status: Callable[[], str],
        renewed_at: Callable[[], float] | None,
        renewed_within: float,
        clock: Clock = boottime,
    ) -> None:
        self._every, self._status = interval / BEATS, status
        self._renewed_at, self._renewed_within, self._clock = renewed_at, renewed_within, clock
        self._ready_at: float | None = None
        self._stopping = False
        self._told: dict[str, str] = {}  # what the supervisor knows
        self._silent = False  # because the renewing thread hangs
        self._deaf = False  # the supervisor, at the last attempt
        self._notifier: Any = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to give signs, if anybody wants them."""
        if os.environ.get("NOTIFY_SOCKET"):
            self._task = asyncio.create_task(self._beat_for_ever(), name="watchdog")

    def ready(self) -> None:
        """The replica serves."""
        self._ready_at = self._clock()
        self._beat()

    def stopping(self) -> None:
        """The replica ends by its own will; it gives signs until `stop`."""
        self._stopping = True
        self._beat()

    async def stop(self) -> None:
        """The last sign, then silence."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._beat()
            self._task = None
        self._close()

    async def _beat_for_ever(self) -> None:
        while True:
            self._beat()
            await asyncio.sleep(self._every)

    def _beat(self) -> None:
        if self._task is None:
            return
        lasting = {"STATUS": "stopping" if self._stopping else self._status()}
        if self._ready_at is not None:
            lasting["READY"] = "1"
        if self._stopping:
            lasting["STOPPING"] = "1"
        news = {name: value for name, value in lasting.items() if self._told.get(name) != value}
        lines = [f"{name}={value}" for name, value in news.items()]
        if self._ready_at is None:
            lines.append(_STARTS_WITHIN)
        elif self._renewing(self._ready_at):
            lines.append("WATCHDOG=1")
        if lines and self._send("\n".join(lines)):
            self._told |= news

    def _renewing(self, since: float) -> bool:
        """Whether the renewing thread comes round. While stopping it has ended, or is about to."""
        if self._renewed_at is None or self._stopping:
            return True
        age = self._clock() - max(since, self._renewed_at())  # it may not have begun when we were ready
        hangs = age > self._renewed_within
        if hangs and not self._silent:
            logger.critical("the renewing thread did not come round for {:.1f} s: no further sign of life", age)
        self._silent = hangs
        return not hangs

    def _send(self, text: str) -> bool:
        """Whether the supervisor took it. Never waits: a supervisor that does not read must not hold up the loop."""
        try:
            if self._notifier is None:
                self._notifier = sdnotify.SystemdNotifier(debug=True)  # debug: it raises what went wrong
                self._notifier.socket.setblocking(False)
            self._notifier.notify(text)
        except OSError as error:
            self._close()
            if not self._deaf:
                logger.warning("the supervisor could not be told how this replica is: {}", error)
            self._deaf = True
            return False
        self._deaf = False
        return True

    def _close(self) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.socket.close()
