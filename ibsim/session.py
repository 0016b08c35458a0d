"""One client's connection: requests in from the inbox, answers out to the outbox. Thin."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ibsim.inbox import Inbox
from ibsim.messages import decode, encode
from ibsim.outbox import Outbox
from ibsim.wire import VersionError, WireError, integer, message, negotiate

if TYPE_CHECKING:
    from ibsim.gateway import Gateway


class Session(asyncio.Protocol):
    """State `handshake` until the version is agreed, `connected` until startApi, then `open`.

    `refused`: it was not let in. `half_open`: the peer is gone, the clientId is still held. `closed` is final.
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
        self.data_type = 1
        self.summaries: set[str] = set()
        self.out = Outbox(self)
        self._in = Inbox(self, self._handle)
        self._reading = True

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.out.connected(transport)
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = f"{host}:{port}"
        self.gateway.sessions.connected(self)

    def data_received(self, data: bytes) -> None:
        self._in.feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if (
            not self.reason and self.listening
        ):  # what came before the end was read, as by a gateway with a thread that reads
            self._in.finish(left_unread(self.transport) if exc is not None else b"")
        self.out.close()
        self._in.close()
        reason = self.reason or (str(exc) if exc else "closed by the client")
        if not self.reason and self._in.unfinished:
            reason += f" inside a message, after {self._in.unfinished} bytes of it"
        self.gateway.sessions.peer_gone(self, reason)

    def pause_writing(self) -> None:
        self.out.choke()
        self.regulate()

    def resume_writing(self) -> None:
        self.out.flows()
        self.regulate()

    @property
    def listening(self) -> bool:
        """Whether its requests are handled now: not while the gateway is frozen or the client does not read."""
        return self.state in ("handshake", "connected", "open") and not self.gateway.frozen and not self.out.choked

    def regulate(self) -> None:
        """Reads the socket and works on, or waits."""
        if self.state in ("closed", "half_open"):
            return
        if self.listening:
            self._in.wake()
        self._reading = self.listening and not self._in.full
        if self._reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    # in

    def _handle(self, payload: bytes) -> None:
        if self.state == "handshake":
            self._greet(payload)
            return
        request = decode(payload, self.version)
        if self.state == "open":
            self.gateway.serve(self, request)
            return
        if request.name != "startApi":
            raise WireError(f"{request.name} before startApi")
        self.client_id = integer(request.fields["clientId"])
        self.gateway.sessions.start(self)

    def _greet(self, payload: bytes) -> None:
        highest = self.gateway.settings.server_version
        try:
            self.version = negotiate(payload, highest)
        except VersionError as error:
            self.out.put(encode("error", highest, {"code": "506", "text": f"Unsupported version: {error}"}))
            self.gateway.touched(self, greeting=True)
            self.gateway.sessions.refused(self, 506, str(error))
            return
        self.state = "connected"
        self.out.put(message([str(self.version), self.gateway.handshake_time()]))
        self.gateway.touched(self, greeting=True)

    def turned(self, problem: str) -> None:
        """A turn's requests are handled; `problem` is what was wrong with the last one, if anything was."""
        if problem and self.state == "open":
            self.error(320, f"Server error when reading an API client request.-'bN' : cause - {problem}")
        self.gateway.flush()
        if problem:
            self.end(problem)
        elif self._in.full == self._reading:
            self.regulate()

    # out

    def send(self, name: str, values: Mapping[str, Any]) -> None:
        """Queues one answer; the gateway writes it at the end of its turn, after the journal."""
        if self.state in ("closed", "half_open"):
            return
        self.out.put(encode(name, self.version, values))
        self.gateway.touched(self)

    def error(self, code: int, text: str, about: int = -1) -> None:
        """Queues an error about a request or order, -1 = about none."""
        self.send("error", {"id": str(about), "code": str(code), "text": text})

    def end(self, reason: str) -> None:
        """Ends the session: what is queued is still written."""
        self.reason = self.reason or reason
        self.transport.close()

    def abort(self, reason: str) -> None:
        """Ends the session at once; what is queued is lost."""
        self.reason = self.reason or reason
        self.out.forget()
        self.transport.abort()

    def tear(self, reason: str) -> None:
        """Ends the session in the middle of a message."""
        if not self.transport.is_closing():
            self.transport.write(encode("currentTime", self.version or 178, {"time": "0"})[:-3])
        self.end(reason)


def left_unread(transport: asyncio.BaseTransport) -> bytes:
    """What the kernel still has of a connection that was reset: an answer that could not be written ends it before that is read."""
    found = b""
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as rest,
    ):
        rest.setblocking(False)
        while data := rest.recv(1 << 18):
            found += data
    return found
