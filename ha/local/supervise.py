"""Keeping the parts of a pair alive: seeing a death at once, giving the lease back first, restarting after a moment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Literal

from engine.clock import boottime
from ha.local.guard import Guard
from ha.local.parts import Part
from ha.local.probe import PartFailed, until
from ha.local.process import Child, reap_orphans, spawn

# A restarting Python takes most of a core for its first second, just when the standby takes over. systemd's usual
# RestartSec is shorter; two hosts do not share their cores.
RESTART_AFTER = 1.0
_RESTART_AT_MOST = 15.0
_QUICK_END = 5.0
_REAP_AT = (0.05, 0.5, 2.0, 10.0)  # orphans of a dead part end a little after it


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a part. `at` is CLOCK_BOOTTIME in seconds."""

    kind: Literal["started", "ready", "ended", "released", "restarted", "failed", "note"]
    part: str
    pid: int | None = None
    detail: str = ""
    at: float = field(default_factory=boottime)


def restart_delay(quick_ends: int, after: float = RESTART_AFTER) -> float:
    """Seconds from a part's end to its restart; `quick_ends` = how many of its lives in a row ended early by themselves."""
    return min(after * 2.0 ** min(quick_ends, 10), max(after, _RESTART_AT_MOST))


class Supervisor:
    """Starts, watches and ends parts. `restart` holds the names of those that are started again; it may be changed."""

    def __init__(self, guard: Guard, on_event: Callable[[Event], None], restart: Iterable[str]) -> None:
        self.parts: dict[str, Part] = {}
        self.restart = set(restart)
        self.restart_after = RESTART_AFTER
        self._guard, self._on_event = guard, on_event
        self._tasks: set[asyncio.Task[None]] = set()

    def children(self) -> list[Child]:
        """The living ones."""
        return [part.child for part in self.parts.values() if part.child is not None and part.child.code is None]

    async def bring_up(self, part: Part) -> Child:
        """Start a part for the first time and return when it is ready; raises PartFailed."""
        self.parts[part.name] = part
        child = self._spawn(part, "started")
        await until(lambda: part.ready(child), child, part.ready_within)
        part.wanted = True
        self._on_event(Event("ready", part.name, child.pid, f"{boottime() - child.started:.1f} s"))
        return child

    async def respawn(self, name: str) -> Child:
        """Start a part that has ended, now; returns when it is ready. Raises PartFailed, or ValueError if it lives."""
        part = self.parts[name]
        if part.child is not None and part.child.code is None:
            raise ValueError(f"{name} is running (pid {part.child.pid})")
        child = self._spawn(part, "restarted")
        part.restarts += 1
        part.wanted = True
        await until(lambda: part.ready(child), child, part.ready_within)
        self._on_event(Event("ready", name, child.pid, f"{boottime() - child.started:.1f} s"))
        return child

    async def end(self, names: Iterable[str]) -> None:
        """End these parts, all at the same time, each by its own steps; returns when they have ended."""
        chosen = [self.parts[name] for name in names if name in self.parts]
        for part in chosen:
            part.wanted = False
        await asyncio.gather(*(part.child.stop(*part.stop) for part in chosen if part.child is not None))
        await asyncio.gather(*self._hooks(part.name for part in chosen))

    def kill_all(self) -> None:
        """SIGKILL to every part, at once; none is restarted."""
        for part in self.parts.values():
            part.wanted = False
        for child in self.children():
            child.send(signal.SIGKILL)

    async def close(self) -> None:
        """Forget pending restarts. The parts must have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        reap_orphans()

    def _spawn(self, part: Part, kind: Literal["started", "restarted"]) -> Child:
        part.child = child = spawn(part.spec(), lambda ended: self._ended(part, ended))
        self._guard.add(child)
        if part.on_start is not None:
            part.on_start(child)
        self._on_event(Event(kind, part.name, child.pid))
        return child

    def _ended(self, part: Part, child: Child) -> None:
        # First of all, in the same turn of the loop: what makes the other replica free to act.
        first = part.on_end() if part.on_end is not None else None
        self._on_event(Event("ended", part.name, child.pid, child.how_it_ended()))
        if first is not None:
            self._later(first, f"end of {part.name}")
        for delay in _REAP_AT:
            asyncio.get_running_loop().call_later(delay, reap_orphans)
        if part.wanted and part.name in self.restart:
            self._later(self._revive(part, child, boottime()), f"restart of {part.name}")

    async def _revive(self, part: Part, ended: Child, at: float) -> None:
        by_itself = ended.code != -signal.SIGKILL
        part.quick_ends = part.quick_ends + 1 if by_itself and ended.lived < _QUICK_END else 0
        await asyncio.gather(*self._hooks([part.name]))
        while True:
            await asyncio.sleep(max(0.0, at + restart_delay(part.quick_ends, self.restart_after) - boottime()))
            if not part.wanted or part.child is not ended:
                return  # it is to end, or somebody has started it by hand
            try:
                await self.respawn(part.name)
            except PartFailed as error:
                if part.wanted:
                    self._on_event(Event("failed", part.name, part.child.pid, str(error)))
                return  # where it has ended again, that end has its own restart
            except OSError as error:  # no memory, no process: the machine may recover
                self._on_event(Event("failed", part.name, None, f"cannot be started: {error}"))
                part.quick_ends, at = part.quick_ends + 1, boottime()
            else:
                return

    def _hooks(self, names: Iterable[str]) -> list[asyncio.Task[None]]:
        wanted = {f"end of {name}" for name in names}
        return [task for task in self._tasks if task.get_name() in wanted]

    def _later(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
