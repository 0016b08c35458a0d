"""Every fault, shown through ib_async on the wire."""

import asyncio

import pytest
from ib_async import IB, LimitOrder, MarketOrder, RequestError, Stock

from ibsim.peer import Peer
from tests.integration.sim_fixture import Sim, errors_of, running_sim, until, until_answer

AAPL = Stock("AAPL", "SMART", "USD")


def _codes(ib: IB) -> list[int]:
    codes: list[int] = []
    ib.errorEvent += lambda _about, code, *_: codes.append(code)
    return codes


async def _round_trip(ib: IB) -> None:
    async with asyncio.timeout(3):
        await ib.reqCurrentTimeAsync()


async def test_drop_acks_takes_the_order_and_says_nothing():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("drop_acks", next=1)
        silent = ib.placeOrder(AAPL, MarketOrder("BUY", 1, orderRef="s"))
        told = ib.placeOrder(AAPL, MarketOrder("BUY", 2))
        await until(told.isDone, "the next order is told")
        assert silent.orderStatus.status == "PendingSubmit"
        assert not silent.fills
        assert [e["order_ref"] for e in await sim.journal("order")] == ["s", ""]
        assert len(await ib.reqExecutionsAsync()) == 2
        assert (await sim.call("GET", "/faults"))["faults"] == {}


async def test_lose_orders_reads_the_order_and_never_takes_it():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("lose_orders", next=2)
        lost = [ib.placeOrder(AAPL, MarketOrder("BUY", 1)) for _ in range(2)]
        taken = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(taken.isDone, "the third order")
        assert all(trade.orderStatus.status == "PendingSubmit" for trade in lost)
        assert [e["order_id"] for e in await sim.journal("order")] == [taken.order.orderId]


async def test_reject_refuses_with_the_code_and_ends_the_order():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("reject", next=1, code=201)
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: any(entry.errorCode == 201 for entry in trade.log), "error 201")
        assert [e["code"] for e in await sim.journal("rejected")] == [201]
        assert (await sim.call("GET", "/orders"))["orders"][0]["state"] == "Inactive"
        after = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: after.fills, "the next order trades")


async def test_delay_makes_every_answer_late_and_keeps_their_order():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("delay", ms=200)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await _round_trip(ib)
        assert 0.2 <= loop.time() - start < 1
        await sim.mend("delay")
        start = loop.time()
        await _round_trip(ib)
        assert loop.time() - start < 0.2


async def test_delay_may_be_drawn_anew_for_each_answer():
    async with running_sim() as sim:
        ib = await sim.client()
        assert "most_ms" in (await sim.call("POST", "/faults/delay", {"ms": 20, "most_ms": 10}, status=400))["error"]
        await sim.fault("delay", ms=20, most_ms=300)
        loop, took = asyncio.get_running_loop(), []
        for _ in range(5):
            start = loop.time()
            await _round_trip(ib)
            took.append(loop.time() - start)
        assert min(took) >= 0.02
        assert max(took) - min(took) > 0.05


async def test_close_sessions_ends_them_now():
    async with running_sim() as sim:
        one, two = await sim.client(1), await sim.client(2)
        await sim.fault("close_sessions", client_id=1)
        await until(lambda: not one.isConnected(), "the end of session 1")
        await _round_trip(two)
        await sim.fault("close_sessions")
        await until(lambda: not two.isConnected(), "the end of session 2")
        assert (await sim.call("GET", "/sessions"))["sessions"] == []


async def test_half_open_keeps_the_client_id_until_dropped():
    async with running_sim() as sim:
        ib = await sim.client(1)
        await sim.fault("half_open")
        ib.client.conn.transport.abort()
        await _state(sim, "half_open")
        with pytest.raises((asyncio.TimeoutError, ConnectionError)):
            await sim.client(1)
        await sim.mend("half_open")
        assert await sim.journal("session_closed")
        await sim.client(1)


async def test_a_half_open_session_is_freed_by_dropping_it_alone():
    async with running_sim() as sim:
        ib = await sim.client(1)
        await sim.fault("half_open")
        ib.client.conn.transport.abort()
        await _state(sim, "half_open")
        await sim.fault("close_sessions", client_id=1)
        await sim.client(1)


async def _state(sim: Sim, state: str) -> None:
    await until_answer(sim, "/sessions", lambda body: [one["state"] for one in body["sessions"]] == [state])


async def test_mute_finishes_the_handshake_and_then_says_nothing():
    async with running_sim() as sim:
        ib = await sim.client(1)
        await sim.fault("mute")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ib.reqCurrentTimeAsync(), 0.2)
        other = IB()
        connecting = asyncio.ensure_future(other.connectAsync("127.0.0.1", sim.port, 2, timeout=0.5))
        await until(lambda: other.client.serverVersion() == 178, "a handshake")
        with pytest.raises(asyncio.TimeoutError):
            await connecting
        await sim.mend("mute")
        ib.wrapper._futures.clear()
        await _round_trip(ib)


async def test_freeze_is_deaf_and_thaws_with_what_was_sent_meanwhile():
    async with running_sim() as sim:
        ib = await sim.client(1)
        await sim.fault("freeze")
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        other = IB()
        with pytest.raises(asyncio.TimeoutError):
            await other.connectAsync("127.0.0.1", sim.port, 2, timeout=0.3)
        assert trade.orderStatus.status == "PendingSubmit"
        assert not await sim.journal("order")
        await sim.mend("freeze")
        await until(trade.isDone, "the order that waited in the socket")


@pytest.mark.parametrize(("data_lost", "code"), [(False, 1102), (True, 1101)])
async def test_link_down_keeps_orders_and_submits_them_later(data_lost: bool, code: int):
    async with running_sim() as sim:
        ib = await sim.client(1)
        codes = _codes(ib)
        await sim.fault("link_down", data_lost=data_lost)
        await until(lambda: 1100 in codes, "error 1100")
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: trade.order.permId, "an order that is kept")
        assert trade.orderStatus.status == "PendingSubmit"
        with pytest.raises(RequestError):
            await ib.reqMatchingSymbolsAsync("AAPL")
        assert await ib.reqCurrentTimeAsync()
        late = await sim.client(2)
        assert late.isConnected()
        assert not await sim.journal("execution")
        await sim.mend("link_down")
        await until(lambda: code in codes and trade.isDone(), "submitted and filled after the outage")


async def test_link_down_without_resubmission_rejects():
    async with running_sim() as sim:
        ib = await sim.client(1)
        await sim.fault("link_down", resubmit=False)
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: any(entry.errorCode == 201 for entry in trade.log), "error 201")


async def test_what_ib_does_during_an_outage_is_seen_only_after_it():
    async with running_sim() as sim:
        ib = await sim.client(1)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 189))
        await until(lambda: trade.orderStatus.status == "Submitted", "an order that rests")
        await sim.fault("link_down")
        await sim.call("POST", "/prices", {"AAPL": "188"})
        assert len(await sim.journal("execution")) == 1
        assert len(await ib.reqAllOpenOrdersAsync()) == 1
        assert await ib.reqExecutionsAsync() == []
        assert await ib.reqCompletedOrdersAsync(False) == []
        assert await ib.reqPositionsAsync() == []
        await sim.mend("link_down")
        assert await ib.reqAllOpenOrdersAsync() == []
        assert len(await ib.reqExecutionsAsync()) == 1
        assert len(await ib.reqCompletedOrdersAsync(False)) == 1
        assert [p.position for p in await ib.reqPositionsAsync()] == [5]


async def test_an_unknown_fault_or_parameter_is_refused_with_a_sentence():
    async with running_sim() as sim:
        assert "no fault" in (await sim.call("POST", "/faults/nonsense", {}, status=400))["error"]
        assert "no parameter" in (await sim.call("POST", "/faults/mute", {"x": 1}, status=400))["error"]
        assert "type int" in (await sim.call("POST", "/faults/delay", {"ms": "1"}, status=400))["error"]


async def test_a_session_may_end_in_the_middle_of_a_message():
    async with running_sim() as sim:
        peer = await Peer.connect("127.0.0.1", sim.port)
        ib = await sim.client(1)
        try:
            assert await peer.named("handshake", 2)
            peer.start(2)
            assert await peer.named("nextValidId", 2)
            await sim.fault("close_sessions", torn=True)
            await until(lambda: not ib.isConnected(), "the end of the session")
            assert await peer.end(2) is not None
            assert peer.unfinished > 4
        finally:
            await peer.close()
        assert (await sim.client(1)).isConnected()


async def test_lost_link_that_the_gateway_has_not_noticed_is_told_to_nobody_and_only_ibs_own_answers_are_missing():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        await sim.fault("link_down", notice_ms=60_000)
        assert await asyncio.wait_for(ib.reqCurrentTimeAsync(), 2), "the gateway itself answers"
        assert errors == []
        with pytest.raises(RequestError, match="Not connected"):
            await asyncio.wait_for(ib.reqMatchingSymbolsAsync("IBM"), 2)
        later = await sim.client(2)
        errors_later = errors_of(later)
        await asyncio.wait_for(later.reqCurrentTimeAsync(), 2)
        assert 1100 not in [code for _, code in errors + errors_later]
        await sim.mend("link_down")
        assert await asyncio.wait_for(ib.reqMatchingSymbolsAsync("IBM"), 2)
        assert {1101, 1102}.isdisjoint(code for _, code in errors + errors_later)


async def test_lost_link_is_told_when_the_gateway_notices_it():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        await sim.fault("link_down", notice_ms=50)
        await until(lambda: (-1, 1100) in errors, "1100")
        await sim.mend("link_down")
        await until(lambda: (-1, 1102) in errors, "1102")
