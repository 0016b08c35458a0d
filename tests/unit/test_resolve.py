"""An operator's word on a break, one decision at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from engine.auth import Access
from engine.commit import Outcome
from engine.errors import Problem
from engine.events import Draft, Event, Kind
from engine.http import Request, Response
from engine.order import State as OrderState
from ha.resolve import Resolve
from ha.role import State
from reconcile.snapshot import Snapshot
from tests.unit.book_factory import ACCOUNT, FoldingCommitter, Ledger, shown
from tests.unit.led_factory import Led


class SlowCommitter(FoldingCommitter):
    """An adoption is on its way until it is let through; everything else is folded at once."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.on_its_way, self.let_through = asyncio.Event(), asyncio.Event()

    def may_write(self, *_: Kind) -> str | None:
        """Everything."""
        return None

    async def commit(self, drafts: Sequence[Draft]) -> tuple[Outcome, Sequence[Event], str]:
        if any(draft.kind is Kind.ORDER_ADOPTED for draft in drafts):
            self.on_its_way.set()
            await self.let_through.wait()
        return await super().commit(drafts)


def doubtful(led: Led, key: str, break_id: str) -> str:
    """An order in doubt with its break."""
    oid = led.ledger.accept(key, session=1)
    led.ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="not shown")
    led.ledger.add(
        Kind.BREAK_OPENED, oid, id=break_id, kind="in_doubt", symbol="AAPL", account=ACCOUNT, ours={}, broker={}, holds=True
    )  # fmt: skip
    return oid


def word(break_id: str, **body: Any) -> Request:
    """An operator's request."""
    text = json.dumps({"reason": "a test", **body}).encode()
    return Request("POST", f"/api/v1/breaks/{break_id}", {}, {}, {"id": break_id}, text, "127.0.0.1", "c")


def resolver(led: Led) -> Resolve:
    """The room of a leader."""
    node: Any = SimpleNamespace(
        book=led.ledger.book,
        permit=led.permit,
        desk=led.desk,
        takeover=led.takeover,
        tender=led.tender,
        state=State.LEADING,
    )
    nobody: Any = None
    return Resolve(node, Access(), nobody, nobody)


class Looked:
    """The snapshots that were taken for operators: each waits until it is let go."""

    def __init__(self, led: Led) -> None:
        self.begun, self._look = 0, led.tender.look_now
        self.let_go = asyncio.Event()
        self.let_go.set()
        led.tender.look_now = self._counted  # type: ignore[method-assign]

    async def _counted(self) -> Snapshot:
        self.begun += 1
        await self.let_go.wait()
        return await self._look()

    async def until(self, begun: int) -> None:
        """So many have begun."""
        async with asyncio.timeout(5.0):
            while self.begun < begun:
                await asyncio.sleep(0)


def states(led: Led, *oids: str) -> list[OrderState]:
    """What the book says of these orders."""
    return [led.order(oid).state for oid in oids]


@pytest.mark.rule(1)
async def test_words_that_come_together_are_decided_on_one_snapshot() -> None:
    led = Led(SlowCommitter)
    oids = [doubtful(led, f"k{number}", f"b{number}") for number in range(40)]
    led.next_session()
    looked, resolve = Looked(led), resolver(led)
    answers = await asyncio.gather(*(resolve.resolve(word(f"b{number}", resolution="dead")) for number in range(40)))
    assert all(answer.status == 200 for answer in answers)
    assert set(states(led, *oids)) == {OrderState.CANCELLED}
    assert looked.begun == 1


@pytest.mark.rule(1)
async def test_word_that_comes_during_a_look_is_decided_on_a_later_one() -> None:
    led = Led(SlowCommitter)
    first, second = doubtful(led, "a", "ba"), doubtful(led, "b", "bb")
    led.next_session()
    looked, resolve = Looked(led), resolver(led)
    looked.let_go.clear()
    one = asyncio.create_task(resolve.resolve(word("ba", resolution="dead")))
    await looked.until(1)
    two = asyncio.create_task(resolve.resolve(word("bb", resolution="dead")))
    await asyncio.sleep(0)
    looked.let_go.set()
    assert [answer.status for answer in await asyncio.gather(one, two)] == [200, 200]
    assert states(led, first, second) == [OrderState.CANCELLED] * 2
    assert looked.begun == 2


@pytest.mark.rule(1)
@pytest.mark.rule(3)
async def test_look_on_a_session_that_has_ended_meanwhile_decides_nothing() -> None:
    led = Led(SlowCommitter)
    first, second = doubtful(led, "a", "ba"), doubtful(led, "b", "bb")
    led.next_session()
    led.wire.show(shown(None, 777))
    looked, resolve = Looked(led), resolver(led)
    adopted = asyncio.create_task(resolve.resolve(word("ba", resolution="adopt", perm_id=777)))
    await asyncio.wait_for(led.committer.on_its_way.wait(), 5.0)
    dead = asyncio.create_task(resolve.resolve(word("bb", resolution="dead")))
    await looked.until(2)
    await asyncio.wait([dead], timeout=0.1)  # it has looked, and waits for the other decision
    led.next_session(3)
    led.committer.let_through.set()
    await asyncio.gather(adopted, dead)
    assert states(led, first, second) == [OrderState.WORKING, OrderState.CANCELLED]
    assert looked.begun == 3


@pytest.mark.rule(1)
async def test_two_operators_who_say_the_same_of_one_order_are_not_both_obeyed() -> None:
    led = Led(SlowCommitter)
    oid = doubtful(led, "a", "ba")
    led.next_session()
    resolve = resolver(led)
    answers = await asyncio.gather(
        *(resolve.resolve(word("ba", resolution="dead")) for _ in range(2)), return_exceptions=True
    )
    assert isinstance(answers[0], Response)
    assert isinstance(answers[1], Problem)
    assert answers[1].kind == "no-such-break"
    assert led.committer.refused == []
    assert states(led, oid) == [OrderState.CANCELLED]


@pytest.mark.rule(1)
async def test_two_operators_decide_one_after_the_other_so_that_one_of_the_brokers_orders_is_one_of_ours() -> None:
    led = Led(SlowCommitter)
    first, second = doubtful(led, "a", "ba"), doubtful(led, "b", "bb")
    led.next_session()
    led.wire.show(shown(None, 777))
    resolve = resolver(led)
    one = asyncio.create_task(resolve.resolve(word("ba", resolution="adopt", perm_id=777)))
    await asyncio.wait_for(led.committer.on_its_way.wait(), 5.0)
    two = asyncio.create_task(resolve.resolve(word("bb", resolution="adopt", perm_id=777)))
    await asyncio.wait([two], timeout=0.2)  # time enough to decide on the same book, if it were let
    led.committer.let_through.set()
    answers = await asyncio.gather(one, two, return_exceptions=True)
    assert isinstance(answers[0], Response)
    assert isinstance(answers[1], Problem)
    assert (answers[1].kind, f"belongs to order {first}" in answers[1].detail) == ("cannot-adopt", True)
    assert led.committer.refused == [], "nothing was decided on a book that was about to change"
    assert [led.order(oid).perm_id for oid in (first, second)] == [777, None]
    assert list(led.ledger.book.open_breaks) == ["bb"]
