"""Looks at the running pair from outside, five times a second, and keeps the scene up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar

from ha.demo.fetch import Fetch, FetchFailed
from ha.demo.history import read_lines
from ha.demo.scene import Glimpse, Scene

T = TypeVar("T")
EVERY = 0.2


class Watch:
    """Feeds `scene` from the replicas' `/health` (`urls` by name), the broker's journal and the clients' history file.

    Whoever waits for something to be seen awaits `until`, which is asked again after every look.
    """

    def __init__(self, scene: Scene, urls: Mapping[str, str], control: str, history: Path, *, since: int = 0) -> None:
        self._scene = scene
        self._urls = urls
        self._control = control
        self._history = history
        self._seq = since
        self._tail: IO[str] | None = None
        self._partial = ""
        self._looked = asyncio.Condition()

    async def run(self) -> None:
        """Looks until it is cancelled."""
        async with Fetch(timeout=0.5) as fetch:
            try:
                while True:
                    await asyncio.gather(
                        *(self._see(fetch, name, url) for name, url in self._urls.items()), self._journal(fetch)
                    )
                    self._read_history()
                    self._scene.settle_silences(datetime.now(UTC))
                    async with self._looked:
                        self._looked.notify_all()
                    await asyncio.sleep(EVERY)
            finally:
                if self._tail is not None:
                    self._tail.close()

    async def until(self, seen: Callable[[], T | None], seconds: float) -> T:
        """What `seen` returns once it is not None. Raises TimeoutError after so many seconds."""
        async with asyncio.timeout(seconds), self._looked:
            while (found := seen()) is None:
                await self._looked.wait()
            return found

    async def _see(self, fetch: Fetch, name: str, url: str) -> None:
        try:
            status, body = await fetch.any_status(f"{url}/health")
        except FetchFailed:
            self._scene.see(datetime.now(UTC), name, None)
        else:
            self._scene.see(datetime.now(UTC), name, Glimpse.read(status, body))

    async def _journal(self, fetch: Fetch) -> None:
        try:
            body = await fetch.get(f"{self._control}/journal?after={self._seq}")
        except FetchFailed:
            return  # a stand-in that is down is seen again at the next look; the judge reads the journal by itself
        entries = body["entries"]
        if entries:
            self._seq = entries[-1]["seq"]
            self._scene.read_journal(entries)

    def _read_history(self) -> None:
        if self._tail is None:
            if not self._history.exists():
                return
            self._tail = self._history.open(encoding="utf-8")
        text = self._partial + self._tail.read()
        whole, newline, self._partial = text.rpartition("\n")
        self._scene.read_history(read_lines(whole + newline))
