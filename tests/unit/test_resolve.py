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
from ha.resolve import Resolve
from ha.role import State
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


@pytest.mark.rule(1)
async def test_two_operators_decide_one_after_the_other_so_that_one_of_the_brokers_orders_is_one_of_ours() -> None:
    led = Led(SlowCommitter)
    first, second = doubtful(led, "a", "ba"), doubtful(led, "b", "bb")
    led.next_session()
    led.wire.show(shown(None, 777))
    node: Any = SimpleNamespace(
        book=led.ledger.book,
        permit=led.permit,
        desk=led.desk,
        takeover=led.takeover,
        tender=led.tender,
        state=State.LEADING,
    )
    nobody: Any = None
    resolve = Resolve(node, Access(), nobody, nobody)
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
