"""Listens on both ports and runs until told to stop."""

import asyncio
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from aiohttp import web

from ibsim.contracts import Instrument
from ibsim.control import Control
from ibsim.door import Door, PortBusyError
from ibsim.gateway import Gateway, Settings
from ibsim.hours import Moment
from ibsim.journal import JournalError
from ibsim.options import PROG

__all__ = ["PortBusyError", "Ports", "Stand", "run"]

_LOOK = 30.0
"""A long wait is cut into pieces of so many seconds, so that a changed clock is noticed."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where it listens; 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 4002
    control: int = 4080


class Stand:
    """A running stand-in gateway: `async with Stand(...) as stand`, then `stand.port` and `stand.control_port`."""

    def __init__(self, ports: Ports, settings: Settings, instruments: Sequence[Instrument]) -> None:
        self._ports = ports
        self._settings = settings
        self._instruments = instruments
        self._stack = contextlib.AsyncExitStack()
        self.port = 0
        self.control_port = 0

    async def __aenter__(self) -> "Stand":
        """Listens. Raises PortBusyError, with nothing left open."""
        try:
            await self._listen()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def _listen(self) -> None:
        self.gateway = gateway = Gateway(self._settings, self._instruments)
        self._stack.callback(gateway.close)
        runner = web.AppRunner(Control(gateway).app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        host = self._ports.host
        try:
            await web.TCPSite(runner, host, self._ports.control).start()
        except OSError as error:
            raise PortBusyError(
                f"cannot listen on {host}:{self._ports.control}: {error.strerror}; --control-port names another"
            ) from None
        self.control_port = runner.addresses[0][1]
        gateway.listener = door = Door(gateway, host)
        await door.open(self._ports.port)
        self._stack.callback(door.close)
        self.port = door.port
        self._clockwork(gateway)

    def _clockwork(self, gateway: Gateway) -> None:
        """What happens by the clock: fills that are due, the random walk, the daily restart, the weekly logout."""
        settings = self._settings
        gateway.flush()
        if settings.tick > 0:
            self._start(self._walk(gateway))
        if settings.daily_restart is not None:
            self._start(self._at(gateway, settings.daily_restart, "restart", {"down_ms": settings.restart_ms}))
        if settings.weekly_logout is not None:
            self._start(self._at(gateway, settings.weekly_logout, "logout", {}))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._stack.callback(task.cancel)

    async def _walk(self, gateway: Gateway) -> None:
        while True:
            await asyncio.sleep(self._settings.tick)
            gateway.walk()

    async def _at(self, gateway: Gateway, moment: Moment, fault: str, parameters: dict[str, int]) -> None:
        """Switches the fault on whenever the moment comes."""
        due = moment.after(gateway.now(), gateway.zone)
        while True:
            await asyncio.sleep(min(max(due - gateway.now(), 0.01), _LOOK))
            if gateway.now() >= due:
                gateway.fault_on(fault, parameters)
                due = moment.after(gateway.now(), gateway.zone)


async def run(ports: Ports, settings: Settings, instruments: Sequence[Instrument]) -> int:
    """Runs until SIGTERM or SIGINT; says so when it listens. Returns the exit code."""
    gc.set_threshold(20_000, 50, 50)  # little of what orders leave behind is a cycle: look for it less often
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Stand(ports, settings, instruments) as stand:
            print(_ready(ports.host, stand, settings, people=sys.stdout.isatty()), flush=True)
            await stop.wait()
    except (PortBusyError, JournalError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    return 0


def _ready(host: str, stand: Stand, settings: Settings, people: bool) -> str:
    """What is said when it listens: to people in words, else one JSON line."""
    if not people:
        return json.dumps({"ready": True, "port": stand.port, "control": stand.control_port})
    journal = f"kept in {settings.journal}" if settings.journal else "gone when it ends (keep it with --journal FILE)"
    return (
        f"TWS clients connect to     {host}:{stand.port}\n"
        f"the control port is        http://{host}:{stand.control_port}  (GET /journal, /orders, /faults, ...)\n"
        f"accounts                   {', '.join(settings.accounts)}\n"
        f"the journal is             {journal}\n"
        "Ctrl-C ends it."
    )
