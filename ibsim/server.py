"""Listens on both ports and runs until told to stop."""

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass

from aiohttp import web

from ibsim.contracts import Instrument
from ibsim.control import Control
from ibsim.gateway import Gateway, Settings


class PortBusyError(OSError):
    """A port that the stand-in should listen on is not free; the message names it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where it listens; 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 4002
    control: int = 4080


class Stand:
    """A running stand-in gateway: `async with Stand(...) as stand`, then `stand.port` and `stand.control_port`."""

    def __init__(self, ports: Ports, settings: Settings, instruments: list[Instrument]) -> None:
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
        loop = asyncio.get_running_loop()
        self.gateway = gateway = Gateway(self._settings, self._instruments)
        self._stack.callback(gateway.close)
        runner = web.AppRunner(Control(gateway).app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        host = self._ports.host
        try:
            await web.TCPSite(runner, host, self._ports.control).start()
        except OSError as error:
            raise PortBusyError(f"cannot listen on {host}:{self._ports.control}: {error.strerror}") from None
        self.control_port = runner.addresses[0][1]
        try:
            server = await loop.create_server(gateway.new_session, host, self._ports.port, backlog=1024)
        except OSError as error:
            raise PortBusyError(f"cannot listen on {host}:{self._ports.port}: {error.strerror}") from None
        self._stack.callback(server.close)
        self.port = server.sockets[0].getsockname()[1]
        if self._settings.tick > 0:
            task = loop.create_task(self._walk(gateway))
            self._stack.callback(task.cancel)

    async def _walk(self, gateway: Gateway) -> None:
        while True:
            await asyncio.sleep(self._settings.tick)
            gateway.walk()


async def run(ports: Ports, settings: Settings, instruments: list[Instrument]) -> int:
    """Runs until SIGTERM or SIGINT; prints one JSON line when it listens. Returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Stand(ports, settings, instruments) as stand:
            print(json.dumps({"ready": True, "port": stand.port, "control": stand.control_port}), flush=True)
            await stop.wait()
    except PortBusyError as error:
        print(f"ibsim: {error}", file=sys.stderr)
        return 1
    return 0
