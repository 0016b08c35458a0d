"""Waiting for a condition on this machine: an answer over HTTP, and a deadline for everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ha.local.process import Child

_EVERY = 0.02  # seconds between two looks
_ANSWER_WITHIN = 2.0


class PartFailed(Exception):
    """A part did not come up: the message names it, says how it ended or what it lacks, and shows its last log lines."""

    def __init__(self, name: str, what: str, last_lines: str = "", log: str = "") -> None:
        shown = "".join(f"\n    {line}" for line in last_lines.splitlines())
        where = f"\n  its last lines ({log}):{shown}" if shown else (f"\n  its log is empty: {log}" if log else "")
        super().__init__(f"{name} {what}{where}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server answered."""

    status: int
    body: bytes


async def get(port: int, path: str) -> Answer | None:
    """GET from 127.0.0.1; None if nobody listens or no whole answer came in 2 s: unknown, not "no"."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode("ascii"))
                raw = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return None
    return Answer(int(words[1]), body)


async def answers(port: int, path: str, status: int = 200) -> bool:
    """Whether a GET is answered with `status` now."""
    answer = await get(port, path)
    return answer is not None and answer.status == status


async def until(ready: Callable[[], Awaitable[bool]], child: Child, seconds: float, lacking: str = "ready") -> None:
    """Return when `ready` says so; raise PartFailed when `child` has ended or `seconds` are over."""
    waiting = asyncio.ensure_future(_poll(ready))
    ended = asyncio.ensure_future(child.wait())
    try:
        await asyncio.wait((waiting, ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        what = f"ended: {child.how_it_ended()}" if ended.done() else f"is not {lacking} after {seconds:g} s"
        raise PartFailed(child.name, what, child.last_lines(), str(child.spec.log))
    finally:
        waiting.cancel()
        ended.cancel()


async def _poll(ready: Callable[[], Awaitable[bool]]) -> None:
    while not await ready():  # noqa: ASYNC110 - another process's state has no event to wait for
        await asyncio.sleep(_EVERY)
