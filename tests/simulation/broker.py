"""The broker port of one process over the simulated gateway: a socket whose bytes arrive later, in order, or not at all."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine.broker import (
    Admitted,
    ContractDetail,
    ContractQuery,
    ExecutionFact,
    InUse,
    Known,
    OpenOrder,
    Outgoing,
    PositionFact,
    RequestFailed,
    SessionClosed,
    Sink,
    Unreachable,
)
from engine.pace import DoorPace
from tests.simulation.gateway import Session
from tests.simulation.world import Way, World

if TYPE_CHECKING:
    from tests.simulation.replica import Process

NUMBERED = frozenset({"executions", "contract_details", "ask_ib"})
"""Requests whose answers carry their number; a late answer to one of the others is taken for the next one's."""
UNSOLICITED = {OpenOrder: "open_orders", PositionFact: "positions"}


class _Stream:
    """One direction of a TCP connection: in order, however long each message takes."""

    def __init__(self, world: World, way: Way) -> None:
        self._world, self._way, self._last = world, way, 0.0

    def send(self, arrive: Any) -> None:
        at = max(self._last, self._world.now + self._world.fate.gateway.draw(self._world.chance))
        self._last = at
        self._way.send(arrive, at - self._world.now)


class _Socket:
    """The client's end of one connection."""

    def __init__(self, broker: SimBroker) -> None:
        process, world = broker.process, broker.world
        self.broker = broker
        self.session: Session | None = None
        self.closed = False
        self.admitted: asyncio.Future[Any] = world.loop.create_future()
        self.collecting: dict[str, tuple[list[Any], asyncio.Future[None], int]] = {}
        self.requests = 0
        self.out = _Stream(world, process.gateway_link.there)
        self.back = _Stream(world, process.gateway_link.back)

    def dial(self, client_id: int) -> None:
        world, process = self.broker.world, self.broker.process

        def arrive() -> None:
            if self.closed:
                return
            if not world.gateway.up:
                self.back.send(lambda: self._hear(None))
                return
            self.session = world.gateway.accept(process.name, process.gateway_link, self._from_gateway)
            world.gateway.start(self.session, client_id)

        self.out.send(arrive)

    def write(self, what: str, argument: Any) -> None:
        """Bytes leave the process; what was written before it froze leaves it only when it thaws."""
        self.broker.process.when_running(lambda: self.out.send(lambda: self._arrive(what, argument)))

    def _arrive(self, what: str, argument: Any) -> None:
        if self.session is not None:
            self.broker.world.gateway.read(self.session, what, argument)

    def close(self, *, silently: bool = False) -> None:
        """The client's end is gone: what is under way still arrives, and then the end of file; or all is reset.

        `silently`: the host is gone, and the gateway is told nothing.
        """
        if self.closed:
            return
        self.closed = True
        if silently:
            return
        world = self.broker.world
        if self.session is not None and world.chance.random() < 0.3:
            session = self.session
            self.session = None
            self.out.send(lambda: world.gateway.over(session, "reset by its client", tell=False))
        else:
            self.out.send(self._end_of_file)

    def fail_requests(self) -> None:
        """In the process: whoever waits for a list learns that it will not come."""
        for _, ended, _ in self.collecting.values():
            if not ended.done():
                ended.set_exception(RequestFailed("the session ended"))

    def _end_of_file(self) -> None:
        if self.session is not None:
            self.broker.world.gateway.over(self.session, "its client closed it", tell=False)

    def _from_gateway(self, news: Any) -> None:
        self.back.send(lambda: self._hear(news))

    def _hear(self, news: Any) -> None:
        process = self.broker.process
        process.world.loop.call_soon(self._take, news, context=process.owner.context)

    def _take(self, news: Any) -> None:
        """In the process: what the gateway said."""
        if self.closed:
            return
        if news is None:
            self.broker.closed_by_gateway(self)
        elif isinstance(news, Admitted | InUse):
            if not self.admitted.done():
                self.admitted.set_result(news)
        elif isinstance(news, tuple):
            what, number, items = news
            collection = self.collecting.get(what)
            if collection is not None and what in NUMBERED and collection[2] != number:
                return  # to a request that was given up
            if collection is not None:
                collection[0].extend(items)
            if what in UNSOLICITED.values():
                for item in items:
                    self.broker.sink(item)
            if collection is not None and not collection[1].done():
                collection[1].set_result(None)
        else:
            if (what := UNSOLICITED.get(type(news), "")) in self.collecting:
                self.collecting[what][0].append(news)
            self.broker.sink(news)


class SimBroker:
    """`engine.broker.Broker` of one process."""

    def __init__(self, world: World, process: Process, client_id: int, sink: Sink) -> None:
        self.world, self.process, self.client_id, self.sink = world, process, client_id, sink
        self.socket: _Socket | None = None
        self._ready = False
        self._one_request = asyncio.Lock()
        self.pace = DoorPace(0.0)

    @property
    def session(self) -> Session | None:
        """The gateway's end of the present session."""
        return self.socket.session if self.socket is not None and self._ready else None

    async def connect(self, deadline: float) -> Admitted | InUse | Unreachable:
        """See Broker."""
        self.abort()
        self.world.judge.dials(self.process)
        socket = self.socket = _Socket(self)
        socket.dial(self.client_id)
        try:
            await asyncio.wait({socket.admitted}, timeout=deadline)
        finally:
            if not (socket.admitted.done() and isinstance(socket.admitted.result(), Admitted)):
                self.abort()
        if not socket.admitted.done():
            return Unreachable(f"no answer within {deadline:g} s")
        answer = socket.admitted.result()
        if isinstance(answer, Admitted):
            self._ready = True
        return answer  # type: ignore[no-any-return]

    def abort(self) -> None:
        """See Broker."""
        socket, self.socket, self._ready = self.socket, None, False
        if socket is not None:
            socket.close()
            socket.fail_requests()

    def closed_by_gateway(self, socket: _Socket) -> None:
        """The gateway's end is gone."""
        was_ready = self._ready and self.socket is socket
        if not socket.admitted.done():
            socket.admitted.set_result(Unreachable("connection refused"))
        socket.fail_requests()
        socket.closed = True
        if self.socket is socket:
            self.socket, self._ready = None, False
        if was_ready:
            self.sink(SessionClosed("the gateway closed the connection"))

    def _writable(self) -> _Socket:
        if self.socket is None or not self._ready:
            raise ConnectionError("there is no broker session")
        return self.socket

    def place(self, order: Outgoing) -> None:
        """See Broker."""
        socket = self._writable()
        self.world.judge.writes(self.process, socket.session, order)
        if self.world.maybe(self.world.fate.freeze_before_write):
            self.process.freeze(self.world.chance.uniform(0.2, 4.0), "between the permit check and the write")
        self.world.say(self.process.name, f"writes {order.reference} as {order.broker_order_id}")
        socket.write("place", order)

    def prepare(self, order: Outgoing) -> None:
        """See Broker."""

    def cancel(self, broker_order_id: int) -> None:
        """See Broker."""
        socket = self._writable()
        self.world.judge.writes_cancel(self.process, socket.session, broker_order_id)
        socket.write("cancel", broker_order_id)

    @property
    def heard_at(self) -> float:
        """See Broker. Lists come whole or not at all here."""
        return float("-inf")

    @property
    def listing_at(self) -> float:
        """See Broker. Lists come whole or not at all here."""
        return float("-inf")

    @property
    def unsent_bytes(self) -> int:
        """See Broker. The kernel takes what a few orders need."""
        return 0

    async def current_time(self, deadline: float) -> int:
        """See Broker."""
        return int((await self._request("current_time", deadline))[0])

    async def ask_ib(self, deadline: float) -> None:
        """See Broker. As often as anybody asks."""
        await self._request("ask_ib", deadline)

    async def open_orders(self, deadline: float) -> list[OpenOrder]:
        """See Broker."""
        return await self._request("open_orders", deadline)

    async def completed_orders(self, deadline: float, known: Known | None = None) -> list[OpenOrder]:
        """See Broker."""
        ended = await self._request("completed_orders", deadline)
        return [fact for fact in ended if known is None or not known(fact.perm_id)]

    async def executions(self, deadline: float, since: datetime | None = None) -> list[ExecutionFact]:
        """See Broker. The filter goes out in whole seconds."""
        return await self._request("executions", deadline, since and since.replace(microsecond=0))

    async def positions(self, deadline: float) -> list[PositionFact]:
        """See Broker."""
        return await self._request("positions", deadline)

    async def contract_details(self, query: ContractQuery, deadline: float) -> list[ContractDetail]:
        """See Broker."""
        return await self._request("contract_details", deadline, query)

    async def _request(self, what: str, deadline: float, argument: Any = None) -> list[Any]:
        try:
            async with asyncio.timeout(deadline), self._one_request:
                return await self._collect(what, argument)
        except TimeoutError as error:
            raise RequestFailed(f"{what}: no End within {deadline:g} s") from error
        except ConnectionError as error:
            raise RequestFailed(f"{what}: {error}") from error

    async def _collect(self, what: str, argument: Any) -> list[Any]:
        socket = self._writable()
        ended: asyncio.Future[None] = self.world.loop.create_future()
        items: list[Any] = []
        socket.requests += 1
        socket.collecting[what] = (items, ended, socket.requests)
        try:
            socket.write(what, (socket.requests, argument))
            await ended
        finally:
            del socket.collecting[what]
        return items
