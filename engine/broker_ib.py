"""The one door to ib_async: its client and decoder, and a wrapper of our own that turns raw callbacks into facts.

ib_async's `IB` and `Trade` objects are not used: errors overwrite a Trade's status, a failed request returns `[]`, requests of
one kind share a future, and state is reset under one's feet when the socket goes. Raw callbacks have none of that. Every
request here has its own deadline, and a failed one raises: unknown is never empty (G6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar

from ib_async.client import Client
from ib_async.contract import Contract
from ib_async.objects import ExecutionFilter
from ib_async.order import Order as IbOrder

from engine import ib_accounts, ib_facts, ib_fields
from engine.broker import (
    AccountFact,
    Admitted,
    ContractDetail,
    ContractQuery,
    DecoderLoss,
    ExecutionFact,
    InUse,
    Known,
    OpenOrder,
    Outgoing,
    Paced,
    PositionFact,
    RequestFailed,
    Sink,
    Throttled,
    Unreachable,
)  # fmt: skip
from engine.clock import Clock, boottime, utcnow
from engine.feed import Feed
from engine.ib_callbacks import FIRST_REQUEST_ID, LISTS, Callbacks
from engine.ib_messages import NewOrders
from engine.ib_socket import Collection, DecoderWatch, harden
from engine.pace import MESSAGES, OVERTAKE, DoorPace

ASK_IB_EVERY = 1.0
"""Seconds between two searches for symbols, as IB wants it."""

STILL, AT_MOST = 0.5, 10.0
"""Seconds after its last item for which a list counts as coming, and for which it is waited for in all beyond its deadline."""

WITHOUT_ID = frozenset({"current_time", "open_orders", "completed_orders", "positions"})
"""Requests whose answers do not say to which one of them they belong."""

T = TypeVar("T")


class _Session(Callbacks):
    """One session: ib_async's client, and what its decoder calls."""

    defaultTimezone = UTC

    def __init__(self, sink: Sink, time_zone: str) -> None:
        self.ib = SimpleNamespace(TimezoneTWS=time_zone)
        self.client: Any = Client(self)  # type: ignore[no-untyped-call]
        handlers = self.client.decoder.handlers
        super().__init__(sink, handlers)
        ib_fields.hasten(self.client, Contract)
        self.orders = NewOrders(self.client, Contract(), IbOrder())
        self.address = ""
        connection: Any = self.client.conn
        connection.connection_made = self.connected  # a hook of asyncio's that ib_async leaves empty
        self.feed = Feed(self.client._onSocketHasData, self.client._onSocketDisconnected, self.pause)
        connection.hasData -= self.client._onSocketHasData
        connection.disconnected -= self.client._onSocketDisconnected
        connection.hasData += self.received
        self.heard_at = float("-inf")
        connection.disconnected += self.feed.closed
        self.client.throttleStart += lambda: self.tell(Throttled(True))
        self.client.throttleEnd += lambda: self.tell(Throttled(False))
        decode = handlers[11]
        handlers[11] = lambda fields: decode(ib_facts.with_zone(fields))
        self.known: Known | None = None  # which completed orders are not worth decoding
        self._completed, handlers[101] = handlers[101], self.completed

    def connected(self, transport: asyncio.Transport) -> None:
        host, port = transport.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"

    def pause(self, yes: bool) -> None:
        """Let the kernel, and in the end the gateway, hold back what comes faster than it is decoded."""
        if (transport := self.client.conn.transport) is not None:
            (transport.pause_reading if yes else transport.resume_reading)()

    def received(self, data: bytes) -> None:
        """Bytes came, to be decoded in their turn."""
        self.heard_at = boottime()
        self.feed.received(data)

    def completed(self, fields: list[str]) -> None:
        """One message completedOrder, before it is decoded."""
        self.coming("completed_orders")
        perm_id = ib_facts.completed_perm_id(fields)
        if self.known is None or perm_id is None or not self.known(perm_id):
            self._completed(fields)


class IbBroker:
    """`engine.broker.Broker` over ib_async. One session at a time; facts go to `sink` on the event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        client_id: int,
        sink: Sink,
        *,
        time_zone: str = "UTC",
        rate: float = MESSAGES,
        clock: Clock = boottime,
    ) -> None:
        """`rate`: messages in any second, 0 = no limit; orders get RESERVED fewer, cancels OVERTAKE more."""
        self.host, self.port, self.client_id = host, port, client_id
        self._sink, self._time_zone, self._clock = sink, time_zone, clock
        self._pace = DoorPace(rate)
        self._session: _Session | None = None
        self._one_request = asyncio.Lock()
        self._request_id = FIRST_REQUEST_ID
        self._ib_asked_at = float("-inf")
        self._losses = DecoderWatch(lambda text: sink(DecoderLoss(text)))

    async def connect(self, deadline: float) -> Admitted | InUse | Unreachable:
        """See `Broker.connect`. 326 and a closed connection are told at once: ib_async itself would wait for its whole timeout."""
        self.abort()
        session = self._session = _Session(self._sink, self._time_zone)
        # ib_async queues what is above its limit and loses it with the socket: our own pace keeps below, this is the net
        session.client.MaxRequests = int(self._pace.rate) + OVERTAKE if self._pace.rate else 0
        self._pace.wrote(self._clock())  # startApi
        dial = asyncio.ensure_future(session.client.connectAsync(self.host, self.port, self.client_id, deadline))
        try:
            await asyncio.wait({dial, session.in_use, session.ended}, return_when=asyncio.FIRST_COMPLETED)
            if session.in_use.done():
                return InUse(session.in_use.result(), session.address)
            if not dial.done():  # a relay takes the connection of a gateway that is away, and closes it
                return Unreachable("the connection was closed before the handshake was done", session.address)
            dial.result()
            harden(session.client.conn.transport)
            return Admitted(session.next_valid_id, session.accounts, session.address)
        except (OSError, TimeoutError, ConnectionError) as error:
            return Unreachable(str(error) or f"no answer within {deadline:g} s", session.address)
        finally:
            if not dial.done():
                dial.cancel()
                await asyncio.wait({dial})
            if session.in_use.done() or dial.cancelled() or dial.exception() is not None:
                self.abort()

    def abort(self) -> None:
        """See `Broker.abort`: `disconnect` would flush, so the queue is cleared and the socket reset."""
        session, self._session = self._session, None
        if session is None:
            return
        session.sink = None
        session.feed.cut()
        session.setEventsDone()
        session.client._msgQ.clear()
        if (transport := session.client.conn.transport) is not None:
            transport.abort()  # what the kernel has goes out before the end of file: the gateway frees the id only after it

    @property
    def heard_at(self) -> float:
        """See `Broker.heard_at`."""
        return self._session.heard_at if self._session is not None else float("-inf")

    @property
    def listing_at(self) -> float:
        """See `Broker.listing_at`."""
        session = self._session
        return session.listed_at if session is not None and LISTS & session.collecting.keys() else float("-inf")

    @property
    def unsent_bytes(self) -> int:
        """See `Broker.unsent_bytes`."""
        transport = self._session.client.conn.transport if self._session is not None else None
        return transport.get_write_buffer_size() if transport is not None else 0

    @property
    def pace(self) -> DoorPace:
        """See `Broker.pace`."""
        return self._pace

    def _ready(self) -> _Session:
        if self._session is None or not self._session.client.isReady():
            raise ConnectionError("there is no broker session")
        return self._session

    def place(self, order: Outgoing) -> None:
        """See `Broker.place`."""
        session, now = self._ready(), self._clock()
        if self._pace.full(now):
            raise Paced(f"{self._pace.used(now)} messages were written in the last second")
        session.client.sendMsg(session.orders.message(order))
        self._pace.wrote(now)

    def prepare(self, order: Outgoing) -> None:
        """See `Broker.prepare`."""
        if self._session is not None and self._session.client.isReady():
            self._session.orders.prepare(order)

    def cancel(self, broker_order_id: int) -> None:
        """See `Broker.cancel`."""
        self._ready().client.cancelOrder(broker_order_id)
        self._pace.wrote(self._clock())

    # ---- requests

    async def current_time(self, deadline: float) -> int:
        """See `Broker.current_time`."""
        items: list[int] = await self._request("current_time", deadline, lambda client, _: client.reqCurrentTime())
        return items[0]

    async def ask_ib(self, deadline: float) -> None:
        """See `Broker.ask_ib`. IB searches for contracts whose name begins with a letter, another one each time: no cache helps."""
        if (wait := self._ib_asked_at + ASK_IB_EVERY - self._clock()) > deadline:
            raise RequestFailed("ask_ib: IB may be asked once a second only")
        await asyncio.sleep(max(wait, 0.0))
        self._ib_asked_at = self._clock()
        pattern = chr(ord("A") + self._request_id % 26)
        left = max(deadline - max(wait, 0.0), 0.05)
        await self._request("ask_ib", left, lambda client, rid: client.reqMatchingSymbols(rid, pattern))

    async def open_orders(self, deadline: float) -> list[OpenOrder]:
        """See `Broker.open_orders`."""

        def ask(client: Any, _: int) -> None:
            self._ready().list_begins()
            client.reqAllOpenOrders()

        return await self._request("open_orders", deadline, ask)

    async def completed_orders(self, deadline: float, known: Known | None = None) -> list[OpenOrder]:
        """See `Broker.completed_orders`. A day's list is long, and decoding is most of its cost."""

        def ask(client: Any, _: int) -> None:
            self._ready().known = known
            client.reqCompletedOrders(False)

        return await self._request("completed_orders", deadline, ask)

    async def executions(self, deadline: float, since: datetime | None = None) -> list[ExecutionFact]:
        """See `Broker.executions`. The time goes out in the form that is UTC whatever zone the gateway is in."""
        wanted = ExecutionFilter(time="" if since is None else f"{since.astimezone(UTC):%Y%m%d-%H:%M:%S}")
        return await self._request("executions", deadline, lambda client, rid: client.reqExecutions(rid, wanted))

    async def positions(self, deadline: float) -> list[PositionFact]:
        """See `Broker.positions`."""
        return await self._request("positions", deadline, lambda client, _: client.reqPositions())

    async def accounts(self, deadline: float) -> list[AccountFact]:
        """See `Broker.accounts`."""
        return await ib_accounts.summary(self._request, lambda: self._ready().client, deadline)

    async def contract_details(self, query: ContractQuery, deadline: float) -> list[ContractDetail]:
        """See `Broker.contract_details`."""
        wanted = Contract(**ib_facts.contract(query))
        return await self._request("contract_details", deadline, lambda c, rid: c.reqContractDetails(rid, wanted))

    async def _request(self, what: str, deadline: float, send: Callable[[Any, int], None]) -> list[Any]:
        """One request at a time, when the pace has room for it; within `deadline`, unless its list is coming then."""
        ends = boottime() + deadline
        try:
            async with asyncio.timeout(deadline) as limit, self._one_request:
                while (wait := self._pace.wait(self._clock())) > 0.0:  # noqa: ASYNC110 - time itself is the condition
                    await asyncio.sleep(wait)
                limit.reschedule(None)
                if what in WITHOUT_ID & self._ready().owed:
                    await self._pass_what_is_owed(ends)
                return await self._collect(what, send, ends)
        except TimeoutError as error:
            raise RequestFailed(f"{what}: no End within {deadline:g} s") from error
        except ConnectionError as error:
            raise RequestFailed(f"{what}: {error}") from error

    async def _pass_what_is_owed(self, ends: float) -> None:
        """G6: an End without a request's id may be that of a list that was given up, and what came since then half of it: ask for
        something that carries one and is answered behind all that. Raises TimeoutError, ConnectionError."""
        nothing = ExecutionFilter(time=f"{utcnow():%Y%m%d-%H:%M:%S}")
        await self._collect("executions", lambda client, rid: client.reqExecutions(rid, nothing), ends)
        self._ready().owed.clear()

    async def _collect(self, what: str, send: Callable[[Any, int], None], ends: float) -> list[Any]:
        """A list that is coming is waited for beyond its time: whatever is asked next stands behind it. Raises TimeoutError."""
        session = self._ready()
        self._request_id += 1
        collection = session.collecting[what] = Collection(self._request_id)
        try:
            send(session.client, self._request_id)
            self._pace.wrote(self._clock())
            while not collection.ended.done():
                left = min(max(ends, session.listed_at + STILL), ends + AT_MOST) - boottime()
                if left <= 0.0:
                    raise TimeoutError
                await asyncio.wait({collection.ended}, timeout=left)
        finally:
            del session.collecting[what]
            if not collection.ended.done():
                session.owed.add(what)
        collection.ended.result()
        return collection.items
