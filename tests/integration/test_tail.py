"""The standby's book, on a real PostgreSQL: the same log gives the same digest, whichever way an event came (G8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.book import Book
from engine.events import Draft, Kind
from ha import tail as tail_module
from ha.tail import Tail
from tests.integration.pg_fixture import Urls
from tests.integration.sim_fixture import until
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


class Told(Tail):
    """A tail that only hints wake, once it has pulsed; it notes the statements that it runs."""

    def __init__(self, urls: Urls) -> None:
        super().__init__(Book(), urls.adapter, "b")
        self.book, self.statements, self.meanwhile = self._book, list[str](), list[Any]()
        self.writer: Any = None
        run = self.connection.run

        async def noted(name: str, *given: Any, **named: Any) -> Any:
            self.statements.append(name)
            rows = await run(name, *given, **named)
            for do in self.meanwhile:
                await do()
            return rows

        self.connection.run = noted  # type: ignore[method-assign]


@pytest.fixture
async def told(urls: Urls, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    """It stands at the head of a log of one event, and nothing but a hint makes it look again."""
    monkeypatch.setattr(tail_module, "PULSE_EVERY", 3600.0)
    made = Told(urls)
    writer = await committer(urls, Book())
    await writer.commit([Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))])
    made.writer = writer
    made.start()
    await until(lambda: made._listener.is_open and made.caught_up_at > 0 and not made._reading.locked(), "it tails")
    await writer.commit(
        [Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))]
    )  # LISTEN may have come after the first hint
    await until(lambda: made.book.seq == 2, "a hint wakes it")
    yield made
    await made.close()
    await writer.close()


@pytest.mark.rule(21)
async def test_a_hint_is_answered_by_reading_the_events_alone(told: Told) -> None:
    told.statements.clear()
    before = told.caught_up_at
    await told.writer.commit([Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))])
    await until(lambda: told.book.seq == 3 and told.caught_up_at > before, "it stands at the head, and knows it")
    assert set(told.statements) == {"events_after"}


@pytest.mark.rule(21)
async def test_a_hint_that_comes_while_the_log_is_read_is_not_lost(told: Told) -> None:
    """What was committed behind the reading statement's back has no other hint."""
    writer = told.writer

    async def commit_once() -> None:
        told.meanwhile.clear()
        await writer.commit([Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))])
        told._wake.set()  # its hint, at the worst moment: the answer without it is here, and not folded yet

    told.meanwhile.append(commit_once)
    await writer.commit([Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))])
    await until(lambda: told.book.seq == 4, "both are read")


@pytest.mark.rule(21)
async def test_hints_that_come_together_are_one(told: Told) -> None:
    writer = told.writer
    told.statements.clear()
    for _ in range(50):
        await writer.commit([Draft(Kind.SESSION_CLOSED, {}, datetime.now(UTC))])
    await until(lambda: told.book.seq == 52, "all of them are read")
    assert len(told.statements) < 50
