"""The standby's book, on a real PostgreSQL: the same log gives the same digest, whichever way an event came (G8)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from engine.book import Book
from engine.events import Draft, Kind
from ha.tail import Tail
from tests.integration.pg_fixture import Urls
from tests.integration.test_fence import committer
from tests.integration.test_operate import go_back

ORDER = {
    "client_order_id": "k-1", "account": "DU1", "symbol": "AAPL", "side": "BUY", "quantity": "10.50", "order_type": "LMT",
    "limit_price": "190.10", "stop_price": None, "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD",
    "body": {"symbol": "AAPL", "a": "1", "client_order_id": "k-1"}, "extra": {"z": "1", "outside_rth": "1"},
    "valid_until": "2026-01-02T03:04:05.000006Z",
}  # fmt: skip
BREAK = {
    "id": "b-1", "kind": "position", "symbol": "AAPL", "account": "DU1", "ours": {"quantity": "1", "a": None},
    "broker": {"quantity": "2", "a": None}, "holds": True,
}  # fmt: skip


@pytest.mark.guarantee(8)
async def test_the_standby_and_the_leader_have_the_same_digest_at_the_same_event(urls: Urls) -> None:
    leader, standby = Book(), Book()
    writer = await committer(urls, leader)
    now = datetime.now(UTC)
    await writer.commit([Draft(Kind.SESSION_OPENED, {"session": 1, "next_valid_id": 7}, now)])
    await writer.commit([Draft(Kind.ORDER_ACCEPTED, ORDER, now, "ORDER00000000001", "local", "c-1")])
    await writer.commit([Draft(Kind.BREAK_OPENED, BREAK, now)])
    tail = Tail(standby, urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert standby.seq == leader.seq == 3
    assert standby.digest == leader.digest != 0
    await writer.prove_now()
    await tail.catch_up()
    assert tail.digest_differs is None
    standby.digest ^= 1  # a book that went another way is noticed at the next proof
    await writer.prove_now()
    await tail.catch_up()
    assert tail.digest_differs is not None
    await tail.close()
    await writer.close()


@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
async def test_a_hold_that_was_answered_long_ago_does_not_answer_the_next_loss(urls: Urls) -> None:
    """What was seen is forgotten when an operator has looked at its loss, not when that old answer is read once more."""
    writer = await committer(urls, Book())
    now, hold = datetime.now(UTC), BREAK | {"id": "hold-1-0", "kind": "everything", "symbol": "", "account": ""}
    await writer.commit([Draft(Kind.BREAK_OPENED, hold, now)])
    await writer.commit([Draft(Kind.BREAK_RESOLVED, {"id": "hold-1-0", "resolution": "looked"}, now)])
    for _ in range(4):
        await writer.commit([Draft(Kind.SESSION_CLOSED, {}, now)])
    await writer.close()
    tail = Tail(Book(), urls.adapter, "b")
    await tail.connection.open()
    await tail.catch_up()
    assert tail.seen_seq == 6
    await asyncio.to_thread(go_back, urls.owner, to_seq=4, epoch_too=False)
    await tail.catch_up()
    assert (tail.seen_seq, tail.changed) == (6, True)
    await tail.close()


@pytest.mark.rule(21)
async def test_a_hint_at_the_moment_of_the_stop_does_not_keep_the_tail_running(urls: Urls) -> None:
    """The tail stands still for the claim at whatever step of its own waking it is told to."""
    tail = Tail(Book(), urls.adapter, "b")
    for steps in range(6):
        tail.start()
        while tail.pulsed_at == float("-inf") or tail._reading.locked() or tail._wake.is_set():
            await asyncio.sleep(0.005)
        tail._wake.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(3.0):
            await tail.stop()
    await tail.close()
