"""The thread that watches the leader key, so that a change is known within milliseconds.

Never trusted alone: the keeper reads the key every ttl / 2 as well. It works only while the keeper is in touch with
etcd, and at the member that the keeper is at: while etcd is away there is one thread that knocks, with pauses.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ha.etcd_members import EtcdError
from ha.lease import LeaderSeen

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


class Watch(Protocol):
    """One watch at one member, see lease_etcd.EtcdWatch."""

    endpoint: str

    def states(self) -> Iterator[LeaderSeen | None]: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


class Watcher:
    """Keeps one watch open at the member that `follow` names."""

    def __init__(
        self, open_watch: Callable[[str], Watch], on_state: Callable[[LeaderSeen], None], read_soon: Callable[[], None]
    ) -> None:
        """`read_soon` is called whenever changes may have been missed. All three on the watching thread."""
        self._open = open_watch
        self._on_state = on_state
        self._read_soon = read_soon
        self._condition = threading.Condition()
        self._endpoint: str | None = None
        self._watch: Watch | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lease-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch and the thread. Blocks for as long as an attempt to connect takes."""
        with self._condition:
            self._stopping = True
        self.follow(None)
        if self._thread.is_alive():
            self._thread.join()

    def follow(self, endpoint: str | None) -> None:
        """Watch at this member from now on; None: at none, until told otherwise."""
        with self._condition:
            self._endpoint = endpoint
            if self._watch is not None and self._watch.endpoint != endpoint:
                self._watch.cancel()
            self._condition.notify_all()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while (endpoint := self._wanted()) is not None:
            began = time.monotonic()
            with contextlib.suppress(
                EtcdError
            ):  # every watch ends so; what was missed is read when the next one stands
                self._follow_one(endpoint)
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._rest(pause, endpoint)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _follow_one(self, endpoint: str) -> None:
        watch = self._open(endpoint)
        try:
            with self._condition:
                if self._endpoint != endpoint:
                    return
                self._watch = watch
            for state in watch.states():
                if state is None:
                    self._read_soon()
                else:
                    self._on_state(state)
        finally:
            with self._condition:
                self._watch = None
            watch.close()

    def _wanted(self) -> str | None:
        """The member to watch at; waits for one. None: stop."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._endpoint is not None)
            return None if self._stopping else self._endpoint

    def _rest(self, seconds: float, endpoint: str) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._endpoint not in (endpoint, None), seconds)
