"""Giving a dead replica's lease back at once: a warm process that is asked in the very turn that sees the death.

Started when it is needed, Python and the etcd client would take longer than the whole failover should.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ha.local.process import Child

ANSWER_WITHIN = 4.0  # above what it takes itself for two leases in a row while etcd is away


class Releaser:
    """The asking side of `python -m ha.release --serve`: a RUN_DIR a line in, one JSON object a line out, in order."""

    def __init__(self, on_answer: Callable[[Path, dict[str, Any] | None], None]) -> None:
        """`on_answer` hears every answer; None = there was none, and whether the lease is gone is not known."""
        self.ready = False  # whether the present child has said that it is
        self._on_answer = on_answer
        self._child: Child | None = None
        self._asked: deque[tuple[Path, asyncio.Future[None]]] = deque()
        self._buffer = b""

    def attach(self, child: Child) -> None:
        """Ask this child from now on."""
        self._child, self._buffer = child, b""
        asyncio.get_running_loop().add_reader(child.stdout, self._read, child)

    def detach(self) -> None:
        """The child has ended: nobody can be asked, and what was asked stays without an answer."""
        if self._child is not None:
            self._read(self._child)  # an answer may still lie in the pipe
            asyncio.get_running_loop().remove_reader(self._child.stdout)
            self._child.stdout.close()
            self._child.stdin.close()
            self._child, self.ready = None, False
        while self._asked:
            self._answered(None)

    def ask(self, run_dir: Path) -> asyncio.Future[None]:
        """Ask for the release now, before this returns; the future is done with the answer, or with its absence."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._sent(run_dir):
            self._asked.append((run_dir, future))
        else:
            future.set_result(None)
            self._on_answer(run_dir, None)
        return future

    async def settled(self, asked: asyncio.Future[None]) -> None:
        """Return when `asked` is answered. A child that does not answer in time is killed.

        It must not act later: the replica that is started next writes its own lease into the same directory.
        """
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await asyncio.shield(asked)
        except TimeoutError:
            if (child := self._child) is not None:
                await child.stop()
            await asked

    def _sent(self, run_dir: Path) -> bool:
        if self._child is None:
            return False
        try:
            os.write(self._child.stdin.fileno(), f"{run_dir}\n".encode())  # far shorter than a pipe: does not wait
        except BrokenPipeError:
            return False
        return True

    def _read(self, child: Child) -> None:
        os.set_blocking(child.stdout.fileno(), False)
        try:
            data = os.read(child.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(child.stdout)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in filter(None, lines):
            answer = json.loads(line)
            if answer.get("ready"):
                self.ready = True
            elif self._asked:
                self._answered(answer)

    def _answered(self, answer: dict[str, Any] | None) -> None:
        run_dir, future = self._asked.popleft()
        if not future.done():
            future.set_result(None)
        self._on_answer(run_dir, answer)
