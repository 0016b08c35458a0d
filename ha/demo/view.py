"""The demonstration while it runs: a live panel on a terminal, one plain line a second where there is none."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ha.demo.scene import QUIET, Glimpse, Scene

REFRESH = 0.1
PLAIN_EVERY = 1.0
BAR = 40  # characters
BAR_SECONDS = 4.0


class View:
    """Shows the scene until it is cancelled; every event is printed once and stays, the rest is drawn over."""

    def __init__(self, scene: Scene, console: Console, started: datetime) -> None:
        self._scene = scene
        self._console = console
        self._started = started

    async def run(self) -> None:
        """Runs until cancelled, and prints the last events even then."""
        live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        last_line = self._started
        with live or nullcontext():
            try:
                while True:
                    now = datetime.now(UTC)
                    self._print_events()
                    if live is not None:
                        live.update(panel(self._scene, now) if self._scene.watched else "", refresh=True)
                    elif (now - last_line).total_seconds() >= PLAIN_EVERY and self._scene.watched:
                        last_line = now
                        self._print(now, line(self._scene, now))
                    await asyncio.sleep(REFRESH)
            finally:
                self._print_events()

    def _print_events(self) -> None:
        events = self._scene.events
        while events:
            at, sentence = events.popleft()
            self._print(at, f"* {sentence}", "bold")

    def _print(self, at: datetime, sentence: str, style: str = "") -> None:
        seconds = (at - self._started).total_seconds()
        self._console.print(Text(f"{seconds:6.1f} s  {sentence}", style=style), soft_wrap=True)


def line(scene: Scene, now: datetime) -> str:
    """The scene in one line."""
    replicas = "  ".join(f"{name} {_state(scene.glimpses.get(name))}" for name in scene.names)
    counts = f"answered {scene.answered}/{scene.asked}  at broker {len(scene.taken)}  executions {scene.executions}"
    quiet = scene.quiet_for(now)
    silence = f"  SILENT {quiet:.1f} s" if quiet is not None and quiet > QUIET else ""
    return f"{replicas} | {counts}{silence}"


def panel(scene: Scene, now: datetime) -> RenderableType:
    """The scene as a table, the counts, and the silence as a bar that grows until it ends."""
    table = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
    for heading in ("replica", "state", "epoch", "gate", "orders"):
        table.add_column(heading)
    for name in scene.names:
        glimpse = scene.glimpses.get(name)
        table.add_row(name, *_cells(glimpse))
    counts = Text.assemble(
        ("answered ", "dim"),
        f"{scene.answered} of {scene.asked}",
        ("   waiting ", "dim"),
        f"{scene.waiting()}",
        ("   at the broker ", "dim"),
        f"{len(scene.taken)}",
        ("   executions ", "dim"),
        f"{scene.executions}",
    )
    return Group(Text(), table, Text(), counts, _silence(scene, now))


def _silence(scene: Scene, now: datetime) -> Text:
    quiet = scene.quiet_for(now)
    if quiet is None or quiet <= QUIET:
        return Text("orders reach the broker", style="green") if scene.flowing else Text()
    filled = min(BAR, round(quiet / BAR_SECONDS * BAR))
    return Text(f"silence at the broker {quiet:4.1f} s  {'█' * filled}{'·' * (BAR - filled)}", style="bold red")


def _cells(glimpse: Glimpse | None) -> tuple[Text, str, str, str]:
    if glimpse is None:
        return Text("no answer", style="red"), "", "", ""
    style = "bold green" if glimpse.leads else "cyan" if glimpse.state == "STANDBY" else "yellow"
    leading = glimpse.role == "leader"
    gate = ("open" if glimpse.gate_open else f"shut: {', '.join(glimpse.reasons) or '?'}") if leading else ""
    return Text(glimpse.state, style=style), str(glimpse.epoch), gate, "sends" if glimpse.leads else ""


def _state(glimpse: Glimpse | None) -> str:
    if glimpse is None:
        return "no answer"
    if glimpse.role != "leader":
        return glimpse.state
    return f"{glimpse.state} epoch {glimpse.epoch}{'' if glimpse.gate_open else ' gate shut'}"
