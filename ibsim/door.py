"""The TWS port: open, or shut and still ours, so that nobody else gets it while the gateway restarts. Thin."""

import asyncio
import socket

from ibsim.gateway import Gateway


class PortBusyError(OSError):
    """A port that the stand-in should listen on is not free; the message names it."""


class Door:
    """Accepts connections for one gateway."""

    def __init__(self, gateway: Gateway, host: str) -> None:
        self._gateway = gateway
        self._host = host
        self._server: asyncio.Server | None = None
        self._shut: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None
        self.port = 0

    async def open(self, port: int) -> None:
        """Listens. Raises PortBusyError."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._gateway.sessions.new, self._host, port, backlog=1024)
        except OSError as error:
            raise PortBusyError(
                f"cannot listen on {self._host}:{port}: {error.strerror}; --port names another"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]

    def down(self) -> None:
        """No connection is accepted any more; nothing happens if it is shut already."""
        if self._server is None:
            return
        family = self._server.sockets[0].family
        self._server.close()
        self._server = None
        self._shut = socket.socket(family, socket.SOCK_STREAM)
        self._shut.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._shut.bind((self._host, self.port))

    def up(self) -> None:
        """Connections are accepted again; nothing happens if they are already."""
        if self._shut is not None and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._reopen(self._shut))

    async def _reopen(self, shut: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._gateway.sessions.new, sock=shut, backlog=1024)
        self._shut = self._opening = None

    def close(self) -> None:
        """Shuts it for good."""
        if self._opening is not None:
            self._opening.cancel()
        if self._shut is not None:
            self._shut.close()
        if self._server is not None:
            self._server.close()
