"""The door to the gateway on a real socket: every message counts in one pace, requests wait for it within their deadline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest

from engine.broker import (
    Admitted,
    ContractQuery,
    ExecutionFact,
    Fact,
    OpenOrder,
    OrderStatus,
    Outgoing,
    Paced,
    RequestFailed,
    Throttled,
)
from engine.broker_ib import IbBroker
from engine.pace import OVERTAKE
from tests.integration.sim_fixture import Sim, sim_process, until

HOST = "127.0.0.1"


def outgoing(number: int, price: str = "1.00") -> Outgoing:
    """A resting order."""
    return Outgoing(
        number, f"ref{number}", "DU1234567", "AAPL", "STK", "SMART", "USD", 0, "BUY", Decimal(1), "LMT", Decimal(price),
        None, "DAY", {},
    )  # fmt: skip


class Door:
    """A broker door with a session, and what came through it."""

    def __init__(self, sim: Sim, rate: float) -> None:
        self.facts: list[Fact] = []
        self.broker = IbBroker(HOST, sim.port, 7, self.facts.append, rate=rate)

    def place(self, number: int) -> None:
        """Write a resting order under this orderId."""
        self.broker.place(outgoing(number))

    def shown(self) -> set[int]:
        """OrderIds that the gateway showed."""
        return {fact.broker_order_id for fact in self.facts if isinstance(fact, OpenOrder)}


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    """A stand-in gateway."""
    async with sim_process() as running:
        yield running


async def opened(sim: Sim, rate: float) -> Door:
    """A door that was admitted."""
    door = Door(sim, rate)
    assert isinstance(await door.broker.connect(3.0), Admitted)
    return door


async def test_order_above_the_pace_is_not_written_and_says_so(sim: Sim) -> None:
    door = await opened(sim, rate=10.0)
    for number in range(1, 10):  # startApi was the first message
        door.place(number)
    with pytest.raises(Paced):
        door.place(10)
    await until(lambda: len(door.shown()) == 9, "nine orders shown")
    assert not any(isinstance(fact, Throttled) for fact in door.facts)
    door.broker.abort()


async def test_message_made_beforehand_is_what_is_written_but_for_no_other_order_than_its_own(sim: Sim) -> None:
    door = Door(sim, rate=0.0)
    door.broker.prepare(outgoing(1))  # without a session: a hint that comes too early costs nothing
    assert isinstance(await door.broker.connect(3.0), Admitted)
    for number in (1, 2):
        door.broker.prepare(outgoing(number))
    await door.broker.current_time(3.0)
    assert await sim.journal("order") == []
    door.broker.place(outgoing(1))
    door.broker.place(outgoing(2, price="2.00"))
    door.broker.place(outgoing(3))
    await until(lambda: len(door.shown()) == 3, "three orders shown")
    told = {order["order_id"]: order for order in (await sim.call("GET", "/orders"))["orders"]}
    assert {number: order["limit_price"] for number, order in told.items()} == {1: "1", 2: "2", 3: "1"}
    kept = ("order_id", "perm_id", "order_ref")
    plain = [{k: v for k, v in told[number].items() if k not in kept} for number in (1, 3)]
    assert plain[0] == plain[1]
    door.broker.abort()


async def test_request_waits_for_its_turn_and_comes_within_a_second(sim: Sim) -> None:
    door = await opened(sim, rate=10.0)
    for number in range(1, 10):
        door.place(number)
    started = asyncio.get_running_loop().time()
    orders = await door.broker.open_orders(3.0)
    assert len(orders) == 9
    assert 0.5 < asyncio.get_running_loop().time() - started < 2.5
    door.broker.abort()


async def test_request_whose_turn_does_not_come_in_time_failed_and_says_nothing_of_the_broker(sim: Sim) -> None:
    door = await opened(sim, rate=10.0)
    for number in range(1, 10):
        door.place(number)
    with pytest.raises(RequestFailed):
        await door.broker.open_orders(0.1)
    assert (await door.broker.current_time(3.0)) > 0  # and the next one is not confused by it
    door.broker.abort()


async def test_cancel_overtakes_and_is_not_queued_by_the_client_library(sim: Sim) -> None:
    door = await opened(sim, rate=10.0)
    for number in range(1, 10):
        door.place(number)
    for number in range(1, 1 + OVERTAKE):
        door.broker.cancel(number)

    async def cancelled() -> int:
        return len(await sim.journal("cancelled"))

    async with asyncio.timeout(0.9):  # before the window of ten has moved on
        while await cancelled() < OVERTAKE:
            await asyncio.sleep(0.01)
    assert not any(isinstance(fact, Throttled) for fact in door.facts)
    door.broker.abort()


async def test_two_requests_at_once_are_answered_one_after_the_other(sim: Sim) -> None:
    door = await opened(sim, rate=45.0)
    door.place(1)
    now, orders, again = await asyncio.gather(
        door.broker.current_time(3.0), door.broker.open_orders(3.0), door.broker.open_orders(3.0)
    )
    assert now > 0
    assert len(orders) == len(again) == 1
    door.broker.abort()


@pytest.mark.guarantee(6)
async def test_a_late_answer_to_a_request_that_was_given_up_is_not_the_next_ones(sim: Sim) -> None:
    """An order is accepted for the contract that it names, whatever IB says late about another one."""
    door = await opened(sim, rate=0.0)
    await sim.fault("delay", ms=300)
    with pytest.raises(RequestFailed):
        await door.broker.contract_details(ContractQuery("AAPL"), 0.1)
    [found] = await door.broker.contract_details(ContractQuery("MSFT"), 3.0)
    assert found.symbol == "MSFT"
    door.broker.abort()


async def test_executions_are_asked_for_from_a_moment_on_in_utc_whatever_zone_the_gateway_is_in() -> None:
    async with sim_process("--zone", "Asia/Tokyo") as sim:
        door = await opened(sim, rate=0.0)
        door.broker.place(
            Outgoing(
                1,
                "ref1",
                "DU1234567",
                "AAPL",
                "STK",
                "SMART",
                "USD",
                0,
                "BUY",
                Decimal(1),
                "MKT",
                None,
                None,
                "DAY",
                {},
            )
        )
        await until(lambda: any(isinstance(fact, ExecutionFact) for fact in door.facts), "the execution")
        [known] = await door.broker.executions(3.0)
        assert await door.broker.executions(3.0, known.at) == [known]
        assert await door.broker.executions(3.0, known.at - timedelta(seconds=10)) == [known]
        assert await door.broker.executions(3.0, known.at + timedelta(seconds=2)) == []
        door.broker.abort()


@pytest.mark.rule(12)
async def test_a_long_list_leaves_the_event_loop_to_others_again_and_again(sim: Sim) -> None:
    """A leader whose loop stands still for half a second steps down: a list of a thousand orders must not do that to it."""
    door = await opened(sim, rate=0.0)
    for number in range(1, 1001):
        door.place(number)
        if number % 100 == 0:
            await until(lambda number=number: len(door.shown()) == number, f"{number} orders shown")
    told = [len(door.facts)]

    async def count_each_turn() -> None:
        while True:
            told.append(len(door.facts))
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_each_turn())
    assert len(await door.broker.open_orders(10.0)) == 1000
    counting.cancel()
    assert max(after - before for before, after in itertools.pairwise(told)) < 100
    door.broker.abort()


@pytest.mark.rule(6)
async def test_ibs_own_servers_answer_once_a_second_and_not_while_the_gateway_has_lost_them(sim: Sim) -> None:
    door = await opened(sim, 45.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await door.broker.ask_ib(2.0)
    first = loop.time() - began
    await door.broker.ask_ib(2.0)
    assert first < 0.9
    assert loop.time() - began >= 1.0
    with pytest.raises(RequestFailed, match="once a second"):
        await door.broker.ask_ib(0.2)
    await sim.fault("link_down", notice_ms=60_000)
    assert await door.broker.current_time(2.0), "the gateway itself answers"
    with pytest.raises(RequestFailed, match="504"):
        await door.broker.ask_ib(2.0)


@pytest.mark.rule(5)
async def test_a_list_that_is_being_sent_is_a_sign_of_life_until_it_ends_or_is_given_up(sim: Sim) -> None:
    door = Door(sim, rate=0)
    assert isinstance(await door.broker.connect(3.0), Admitted)
    door.place(1)
    await until(lambda: 1 in door.shown(), "the order is acknowledged")
    assert door.broker.listing_at == float("-inf"), "news of an order are no list"
    await door.broker.open_orders(3.0)
    assert door.broker.listing_at == float("-inf"), "it has ended"
    await sim.fault("no_end", request="open_orders")
    work = asyncio.create_task(door.broker.open_orders(1.0))
    await until(lambda: door.broker.listing_at > float("-inf"), "an order of the list")
    with pytest.raises(RequestFailed):
        await work
    assert door.broker.listing_at == float("-inf"), "given up"
    door.broker.abort()


async def test_open_orders_read_the_same_when_the_gateway_repeats_itself_and_anew_when_it_does_not(sim: Sim) -> None:
    door = Door(sim, rate=0)
    assert isinstance(await door.broker.connect(3.0), Admitted)
    for number in range(1, 4):
        door.place(number)
    await until(lambda: door.shown() == {1, 2, 3}, "the orders are acknowledged")
    first = await door.broker.open_orders(3.0)
    told = len(door.facts)
    assert await door.broker.open_orders(3.0) == first
    assert len(door.facts) - told == 2 * len(first), "each order and its status are told again"
    door.broker.place(outgoing(2, "2.00"))
    await until(
        lambda: any(isinstance(f, OpenOrder) and f.limit_price == Decimal("2.00") for f in door.facts), "changed"
    )
    again = await door.broker.open_orders(3.0)
    assert {f.broker_order_id: f.limit_price for f in again} == {
        1: Decimal("1.00"), 2: Decimal("2.00"), 3: Decimal("1.00"),
    }  # fmt: skip
    door.broker.abort()


class Narrow:
    """A relay in front of the gateway that lets only so many of its bytes through."""

    def __init__(self, port: int) -> None:
        self._port, self._room = port, asyncio.Condition()
        self.allowed: float = float("inf")
        self.passed = 0
        self.port = 0

    async def __aenter__(self) -> Narrow:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def allow(self, more: float) -> None:
        """From now on let so many bytes more through."""
        async with self._room:
            self.allowed = self.passed + more
            self._room.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(HOST, self._port)
        asking = asyncio.create_task(self._pass(reader, there, counted=False))
        try:
            await self._pass(there_reader, writer, counted=True)
        finally:
            asking.cancel()
            there.close()
            writer.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await source.read(1024):
            if counted:
                async with self._room:
                    await self._room.wait_for(lambda: self.passed < self.allowed)
                self.passed += len(data)
            sink.write(data)
            await sink.drain()


async def with_open_orders(door: Door, count: int) -> None:
    """A session with so many orders that rest."""
    assert isinstance(await door.broker.connect(3.0), Admitted)
    for number in range(1, count + 1):
        door.place(number)
    await until(lambda: len(door.shown()) == count, "the orders are acknowledged")


@pytest.mark.guarantee(6)
@pytest.mark.rule(23)
@pytest.mark.parametrize("what", ["open_orders", "completed_orders"])
async def test_the_rest_of_a_list_that_was_given_up_is_not_taken_for_the_next_one(sim: Sim, what: str) -> None:
    """Neither has an id: its End would end the next one, which would look complete and have half of the orders."""
    async with Narrow(sim.port) as narrow:
        door = Door(sim, rate=0)
        door.broker.port = narrow.port
        await with_open_orders(door, 60)
        if what == "completed_orders":
            for number in range(1, 61):
                door.broker.cancel(number)
            await until(
                lambda: sum(isinstance(f, OrderStatus) and f.status == "Cancelled" for f in door.facts) >= 60, "ended"
            )
        ask = getattr(door.broker, what)
        await narrow.allow(8_000)
        with pytest.raises(RequestFailed):
            await ask(0.2)
        work = asyncio.create_task(ask(5.0))
        await asyncio.sleep(0)  # it has been asked before the rest of the first one comes
        await narrow.allow(float("inf"))
        assert len(await work) == 60
        door.broker.abort()


@pytest.mark.rule(24)
async def test_a_list_that_is_coming_is_waited_for_beyond_its_deadline(sim: Sim) -> None:
    async with Narrow(sim.port) as narrow:
        door = Door(sim, rate=0)
        door.broker.port = narrow.port
        await with_open_orders(door, 60)
        await narrow.allow(8_000)
        work = asyncio.create_task(door.broker.open_orders(0.3))
        while not work.done():  # a kilobyte now and then
            await asyncio.sleep(0.1)
            await narrow.allow(2_000)
        assert len(work.result()) == 60
        door.broker.abort()
