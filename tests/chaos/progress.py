"""A long run while it goes on: a panel at the bottom of a terminal, plain lines where there is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ha.demo.scene import Scene
from tests.chaos.record import Came, Round

REFRESH = 0.25
BAR = 40  # characters


@dataclass(slots=True)
class Status:
    """What there is to show. `minutes` None: until a recorded schedule is over."""

    minutes: float | None
    began: float = field(default_factory=time.monotonic)
    doing: str = "starting"
    rounds: int = 0
    bad: int = 0
    bit: int = 0
    missed: int = 0
    orders: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.began

    def came(self, came: Came) -> None:
        """Counts a fault that has just been struck."""
        if came is Came.BIT:
            self.bit += 1
        else:
            self.missed += 1

    def judged(self, one: Round) -> None:
        """Counts a round that is over."""
        self.rounds += 1
        self.bad += not one.ok
        self.orders += one.counts.get("asked", 0)


class Progress:
    """Shows the status; what is told stays on the screen. `replicas` says what they are now."""

    def __init__(self, console: Console, status: Status, replicas: Callable[[], str]) -> None:
        self._console, self._status, self._replicas = console, status, replicas
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def tell(self, sentence: str, style: str = "") -> None:
        """Prints a sentence with its time."""
        minutes, seconds = divmod(int(self._status.elapsed), 60)
        self._console.print(Text(f"{minutes:3d}:{seconds:02d}  {sentence}", style=style), soft_wrap=True)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        with self._live or nullcontext():
            while self._live is not None:
                self._live.update(panel(self._status, self._replicas()), refresh=True)
                await asyncio.sleep(REFRESH)


def panel(status: Status, replicas: str) -> RenderableType:
    """The status as three lines."""
    bar = Text()
    if status.minutes is not None:
        filled = min(BAR, round(status.elapsed / 60 / status.minutes * BAR))
        bar = Text(f"  {'█' * filled}{'·' * (BAR - filled)}  {status.elapsed / 60:.1f} of {status.minutes:g} min")
    bad = Text(f"{status.bad} bad", style="bold red" if status.bad else "green")
    counts = Text.assemble(
        f"  {status.rounds} rounds judged, ", bad, f"   faults {status.bit}, {status.missed} did not bite",
        f"   orders {status.orders}",
    )  # fmt: skip
    return Group(Text(), bar, counts, Text(f"  {status.doing}   {replicas}", style="dim"))


def replicas_line(scene: Scene) -> str:
    """What each replica said of itself when it was last looked at."""
    seen = ((name, scene.glimpses.get(name)) for name in scene.names)
    return "   ".join(f"{name} {one.state if one is not None else 'no answer'}" for name, one in seen)
