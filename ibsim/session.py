"""One client's connection: bytes in, requests out to the gateway, answers back. Thin."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ibsim.messages import decode, encode
from ibsim.wire import PREAMBLE, Frames, WireError, integer, message, negotiate

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

MAX_UNREAD = 32 << 20
"""Bytes that may wait for a client that does not read, before its session ends."""


class Session(asyncio.Protocol):
    """State `handshake` until the version is agreed, `connected` until startApi, then `open`.

    `refused`: the clientId was taken. `half_open`: the peer is gone, the clientId is still held. `closed` is final.
    """

    transport: asyncio.Transport

    def __init__(self, gateway: "Gateway", number: int) -> None:
        self.gateway = gateway
        self.number = number
        self.state = "handshake"
        self.client_id = -1
        self.version = 0
        self.peer = ""
        self.since = 0.0
        self.reason = ""
        self.wants_positions = False
        self.wants_account = ""
        self.auto_bind = False
        self._frames = Frames()
        self._greeting = b""
        self._out: list[bytes] = []
        self._late: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = f"{host}:{port}"
        self.gateway.connected(self)

    def data_received(self, data: bytes) -> None:
        problem = ""
        try:
            for payload in self._payloads(data):
                self._handle(payload)
                if self.state in ("refused", "closed"):
                    break
        except WireError as error:
            problem = str(error)
        self.gateway.flush()
        if problem:
            self.end(problem)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.gateway.peer_gone(self, self.reason or (str(exc) if exc else "closed by the client"))

    def _payloads(self, data: bytes) -> list[bytes]:
        if self._greeting == PREAMBLE:
            return self._frames.feed(data)
        wanted = len(PREAMBLE) - len(self._greeting)
        self._greeting += data[:wanted]
        if not PREAMBLE.startswith(self._greeting):
            raise WireError("the connection does not begin with API")
        return self._frames.feed(data[wanted:])

    def _handle(self, payload: bytes) -> None:
        if self.state == "handshake":
            self.version = negotiate(payload)
            self.state = "connected"
            self._out.append(message([str(self.version), self.gateway.handshake_time()]))
            self.gateway.touched(self, greeting=True)
            return
        request = decode(payload, self.version)
        if self.state == "connected":
            if request.name != "startApi":
                raise WireError(f"{request.name} before startApi")
            self.client_id = integer(request.fields["clientId"])
            self.gateway.start(self)
        else:
            self.gateway.serve(self, request)

    # out

    def send(self, name: str, values: Mapping[str, Any]) -> None:
        """Queues one answer; the gateway writes it at the end of its turn, after the journal."""
        if self.state in ("closed", "half_open"):
            return
        self._out.append(encode(name, self.version, values))
        self.gateway.touched(self)

    def error(self, code: int, text: str, about: int = -1) -> None:
        """Queues an error about a request or order, -1 = about none."""
        self.send("error", {"id": str(about), "code": str(code), "text": text})

    def drop_output(self) -> None:
        """Forgets what is queued."""
        self._out.clear()

    def write(self, delay: float) -> None:
        """Writes what is queued, `delay` seconds late; never before what was queued earlier."""
        data = b"".join(self._out)
        self._out.clear()
        if not data or self.state == "closed":
            return
        if delay <= 0 and not self._late:
            self._write(data)
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time() + delay, self._late[-1][0] if self._late else 0.0)
        self._late.append((due, data))
        if self._timer is None:
            self._timer = loop.call_at(due, self._write_late)

    def _write_late(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self.gateway.frozen:
            self._timer = loop.call_later(0.05, self._write_late)
            return
        while self._late and self._late[0][0] <= loop.time():
            self._write(self._late.popleft()[1])
        if self._late:
            self._timer = loop.call_at(self._late[0][0], self._write_late)

    def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > MAX_UNREAD:
            self.abort("the client does not read")

    def end(self, reason: str) -> None:
        """Ends the session: what is queued is still written."""
        self.reason = self.reason or reason
        self.transport.close()

    def abort(self, reason: str) -> None:
        """Ends the session at once; what is queued is lost."""
        self.reason = self.reason or reason
        self.transport.abort()
