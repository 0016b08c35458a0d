"""A small TWS client: what the conformance run, the bench and tests speak with. Knows no gateway but what it is told."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from ibsim.messages import Request, decode_answer, encode_request
from ibsim.wire import PREAMBLE, Frames, WireError, fields_of, frame

PLAIN_ORDER: Mapping[str, str] = {
    "secType": "STK",
    "exchange": "SMART",
    "currency": "USD",
    "strike": "0.0",
    "orderType": "LMT",
    "auxPrice": "0.0",
    "tif": "DAY",
    "openClose": "O",
    "origin": "0",
    "transmit": "1",
    "exemptCode": "-1",
    "whatIf": "0",
    "deltaNeutralContract": "0",
}
"""The fields of a placeOrder that every simple order has."""


class Peer:
    """One connection. Everything that comes is in `got`, in order; `lost` says why the connection ended, if it did."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._frames = Frames()
        self.version = 0
        self.got: list[Request] = []
        self.lost = ""

    @classmethod
    async def connect(cls, host: str, port: int, versions: str = "v157..178") -> "Peer":
        """Connects and shakes hands; `version` is 0 if the gateway did not agree. Raises OSError if nobody listens."""
        reader, writer = await asyncio.open_connection(host, port)
        peer = cls(reader, writer)
        writer.write(PREAMBLE + frame(versions.encode()))
        peer._reading = asyncio.get_running_loop().create_task(peer._read())
        return peer

    @property
    def unfinished(self) -> int:
        """Bytes that came of a message that has not ended."""
        return self._frames.unfinished

    async def _read(self) -> None:
        frames = self._frames
        try:
            while data := await self._reader.read(1 << 18):
                for payload in frames.feed(data):
                    self._take(fields_of(payload))
                self._changed.set()
            self.lost = "closed by the gateway"
        except (OSError, WireError) as error:
            self.lost = str(error) or "the connection was reset"
        self._changed.set()

    def _take(self, fields: list[str]) -> None:
        if not self.version and len(fields) == 2:
            self.version = int(fields[0])
            self.got.append(Request("handshake", {"version": fields[0], "time": fields[1]}))
            return
        try:
            self.got.append(decode_answer(fields, self.version or 178))
        except WireError as error:
            self.got.append(Request("unknown", {"number": fields[0], "why": str(error), "fields": fields}))

    def send(self, name: str, **values: Any) -> None:
        """Sends one request by its API name; `version` is the message's own, 1 where nothing else is given."""
        self._writer.write(encode_request(name, self.version, {"version": "1", **values}))

    def start(self, client_id: int) -> None:
        """startApi."""
        self.send("startApi", version="2", clientId=str(client_id))

    def order(self, order_id: int, **values: str) -> None:
        """placeOrder with the usual fields."""
        self.send("placeOrder", **{**PLAIN_ORDER, "orderId": str(order_id), **values})

    async def until(self, test: Callable[[Request], object], seconds: float, start: int = 0) -> Request | None:
        """The first message from number `start` on that passes the test; None if none comes in time or ever will."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        at = start
        while True:
            self._changed.clear()
            while at < len(self.got):
                if test(self.got[at]):
                    return self.got[at]
                at += 1
            left = end - loop.time()
            if left <= 0 or self.lost:
                return None
            await self._wait(left)

    async def named(self, name: str, seconds: float, start: int = 0) -> Request | None:
        """The first message of this name from number `start` on."""
        return await self.until(lambda one: one.name == name, seconds, start)

    async def quiet(self, seconds: float) -> None:
        """Returns when for so long nothing came, or the connection ended."""
        count = -1
        while count != len(self.got) and not self.lost:
            count = len(self.got)
            self._changed.clear()
            await self._wait(seconds)

    async def end(self, seconds: float) -> float | None:
        """Waits for the gateway to close the connection; returns how long that took, None if it did not."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not self.lost:
            left = start + seconds - loop.time()
            if left <= 0:
                return None
            self._changed.clear()
            await self._wait(left)
        return loop.time() - start

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Its end of the connection."""
        return self._writer.transport

    async def drain(self) -> None:
        """Waits until what was sent is on its way."""
        await self._writer.drain()

    def reset(self) -> None:
        """Ends the connection with a reset; what was sent and not read is lost."""
        if self._reading is not None:
            self._reading.cancel()
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Closes the connection; what was sent is still written."""
        if self._reading is not None:
            self._reading.cancel()
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            self.lost = self.lost or "the connection was reset"
