"""One client's connection: bytes in, requests out to the gateway, answers back. Thin."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ibsim.messages import decode, encode
from ibsim.outbox import Outbox
from ibsim.pace import VIOLATIONS, Pace
from ibsim.wire import PREAMBLE, Frames, VersionError, WireError, integer, message, negotiate

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

NOW, LATER, NEVER = "now", "later", "never"

MAX_INBOX = 1000
"""Requests that wait for the pacing limit, before the socket is read no further."""


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
        self._frames = Frames()
        self._greeting = b""
        self._inbox: deque[bytes] = deque()
        self._pace = Pace()
        self._choked = False
        self._inbox_timer: asyncio.TimerHandle | None = None

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.out.connected(transport)
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = f"{host}:{port}"
        self.gateway.sessions.connected(self)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.out.close()
        if self._inbox_timer is not None:
            self._inbox_timer.cancel()
        reason = self.reason or (str(exc) if exc else "closed by the client")
        if not self.reason and self._frames.unfinished:
            reason += f" inside a message, after {self._frames.unfinished} bytes of it"
        self.gateway.sessions.peer_gone(self, reason)

    def pause_writing(self) -> None:
        self._choked = True
        self.regulate()

    def resume_writing(self) -> None:
        self._choked = False
        self.regulate()

    def regulate(self) -> None:
        """Reads the socket, or not: while the gateway is frozen, the client does not read, or too much waits."""
        if self.state in ("closed", "half_open"):
            return
        if self.gateway.frozen or self._choked or len(self._inbox) > MAX_INBOX:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # in

    def data_received(self, data: bytes) -> None:
        problem = ""
        try:
            for payload in self._payloads(data):
                verdict = LATER if self._inbox else self._verdict()
                if verdict == NOW:
                    self._handle(payload)
                elif verdict == LATER:
                    self._inbox.append(payload)
                if self.state in ("refused", "closed"):
                    break
        except WireError as error:
            problem = str(error)
        self._turned(problem)

    def _turned(self, problem: str) -> None:
        if problem and self.state == "open":
            self.error(320, f"Server error when reading an API client request.-'bN' : cause - {problem}")
        self.gateway.flush()
        if problem:
            self.end(problem)
        if self._inbox:
            self.regulate()

    def _payloads(self, data: bytes) -> Iterator[bytes]:
        if self._greeting == PREAMBLE:
            return self._frames.feed(data)
        wanted = len(PREAMBLE) - len(self._greeting)
        self._greeting += data[:wanted]
        if not PREAMBLE.startswith(self._greeting):
            raise WireError("the connection does not begin with API")
        return self._frames.feed(data[wanted:])

    def _verdict(self) -> str:
        """What the pacing limit means for the next request: NOW, LATER or NEVER."""
        pacing = self.gateway.faults.active.get("pacing")
        if pacing is None or self.state != "open":
            return NOW
        loop = asyncio.get_running_loop()
        wait = self._pace.wait(loop.time(), pacing["limit"])
        if not wait:
            return NOW
        if pacing["over"] == "delay":
            if self._inbox_timer is None:
                self._inbox_timer = loop.call_later(wait, self._work_off)
            return LATER
        if self._pace.violated(loop.time()):
            count, limit = self._pace.violations, pacing["limit"]
            text = f"Max rate of messages per second has been exceeded:max={limit} rec={limit + 1} ({count})"
            self.error(100, text)
            if count >= VIOLATIONS:
                raise WireError(f"the pacing limit was exceeded in {count} seconds")
        return NOW if pacing["over"] == "error" else NEVER

    def _work_off(self) -> None:
        """Handles what waited for the pacing limit, as far as it goes."""
        self._inbox_timer = None
        problem = ""
        try:
            while self._inbox and (verdict := self._verdict()) != LATER:
                payload = self._inbox.popleft()
                if verdict == NOW:
                    self._handle(payload)
        except WireError as error:
            problem = str(error)
        self._turned(problem)
        self.regulate()

    def _handle(self, payload: bytes) -> None:
        if self.state == "handshake":
            self._greet(payload)
            return
        request = decode(payload, self.version)
        if self.state == "connected":
            if request.name != "startApi":
                raise WireError(f"{request.name} before startApi")
            self.client_id = integer(request.fields["clientId"])
            self.gateway.sessions.start(self)
        else:
            self.gateway.serve(self, request)

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
