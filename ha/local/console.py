"""`adapter up` as a person or a program sees it: progress, what runs where, what happens to it, and the end."""

from __future__ import annotations

import asyncio
import json as jsonlib
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ha.local.pair import LocalPair, StartFailed
from ha.local.parts import Commands, notes
from ha.local.ports import Ports
from ha.local.supervise import Event

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(directory: Path, *, json: bool, port_base: int | None, restart: bool, commands: Commands | None = None) -> int:
    """See `ha.local.pair.up`; `commands` = other programs in place of the pair's own, for tests."""
    try:
        ports = Ports() if port_base is None else Ports.from_base(port_base)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    pair = LocalPair(directory, ports=ports, restart=restart, watchdog=True, commands=commands)
    return asyncio.run(_Session(pair, json=json).run())


class _Screen(Console):
    """A console whose reader may go away (`up | head`, a closed terminal): the pair does not end for that."""

    def show(self, text: str, *, markup: bool = False) -> None:
        """Print, unless nobody reads any more."""
        try:
            self.print(text if markup else escape(text), highlight=False, soft_wrap=True)
        except OSError:  # the terminal is gone
            self.quiet = True

    def on_broken_pipe(self) -> None:
        """Instead of ending the process."""
        self.quiet = True


class _Session:
    """One run of the command. With `json` stdout carries exactly one line; everything else goes to stderr."""

    def __init__(self, pair: LocalPair, *, json: bool) -> None:
        self._json = json
        self._console = _Screen(stderr=json)
        self._errors = _Screen(stderr=True)
        self._pair = pair
        pair.on_event = self._show
        self._stop = asyncio.Event()
        self._running = False
        self._asked = 0

    async def run(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            if not await self._start():
                return 1
            await self._stop.wait()
            self._running = False
            self._say("stopping …")
            await self._pair.stop()
            self._say("stopped; nothing is left running")
            return 0
        finally:
            await self._pair.stop()  # whatever went wrong in between
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def _start(self) -> bool:
        self._say(f"starting a pair in {self._pair.directory}")
        starting = asyncio.ensure_future(self._pair.start())
        told = asyncio.ensure_future(self._stop.wait())
        with self._console.status("starting …") if self._console.is_terminal else nullcontext():
            await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if not starting.done():
                starting.cancel()
            try:
                await starting
            except StartFailed as error:
                self._errors.show(f"cannot start: {error}")
                return False
            except asyncio.CancelledError:
                self._say("stopped before it was ready; nothing is left running")
                return False
        self._running = True
        self._introduce()
        return True

    def _on_signal(self) -> None:
        self._asked += 1
        self._stop.set()
        if self._asked > 1:
            self._pair.kill_all()

    def _introduce(self) -> None:
        for note in notes(self._pair.env):
            self._errors.show(f"note: {note}")
        info = self._pair.info()
        if self._json:
            with suppress(BrokenPipeError):  # as above: who does not listen need not be told
                print(jsonlib.dumps(info), flush=True)
            return
        urls = {replica["name"]: replica["url"] for replica in info["replicas"]}
        leader = info["pids"][self._pair.first_leader]
        where = "" if self._pair.directory == Path(".adapter").resolve() else f" --dir {self._pair.directory}"
        order = '{"client_order_id": "try-1", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "MKT"}'
        self._say(
            f"""
[bold]ready[/bold]
  replica a   {urls["a"]}
  replica b   {urls["b"]}
  gateway     {info["gateway"]["host"]}:{info["gateway"]["port"]}   (stand-in; its journal: {info["gateway"]["control"]}/journal)
  etcd        {info["etcd"][0]}
  files       {escape(info["dir"])}   (passwords in pair.json, logs in log/)

try
  adapter status{escape(where)}
  curl -L {urls["a"]}/api/v1/orders -H 'Content-Type: application/json' -d {escape(repr(order))}
  kill -9 {leader}   and look again: the other one leads

Ctrl-C ends it; a second Ctrl-C ends it at once.""",
            markup=True,
        )

    def _show(self, event: Event) -> None:
        if (text := _text(event, running=self._running)) is not None:
            bad = event.kind in ("ended", "failed") and self._running
            stream = self._errors if bad and self._json else self._console
            when = f"{time.strftime('%H:%M:%S')} " if self._running else "  "
            stream.show(f"{when}{text}")

    def _say(self, text: str, *, markup: bool = False) -> None:
        self._console.show(text, markup=markup)


def _text(event: Event, *, running: bool) -> str | None:
    """The line for an event, or None where it says nothing to a reader."""
    pid = f" (pid {event.pid})" if event.pid else ""
    if event.part == "release" and not running:
        return None  # a helper of the launcher's own
    lines: dict[str, Callable[[], str | None]] = {
        "note": lambda: f"{event.part} {event.detail}",
        "started": lambda: None,
        "ready": lambda: f"{event.part}{pid} ready after {event.detail}",
        "ended": lambda: f"{event.part}{pid} ended: {event.detail}" if running else None,
        "released": lambda: f"{event.part}: lease {event.detail}" if running else None,
        "restarted": lambda: f"{event.part} restarted{pid}",
        "failed": lambda: f"{event.part} failed: {event.detail}",
    }
    return lines[event.kind]()
