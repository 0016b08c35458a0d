"""A collection asks for every part, bounds each, and never takes "did not come" for "none"."""

from __future__ import annotations

import asyncio
import time

import pytest

from reconcile.collect import collect
from tests.unit.book_factory import Ledger, ScriptedBroker, done, holds, shown, traded

PARTS = ["round_trip", "open_orders", "completed_orders", "executions", "positions"]


async def test_every_part_is_asked_for_once_after_a_round_trip_and_in_the_order_in_which_things_move_on() -> None:
    ledger = Ledger()
    ledger.session(1)
    oid = ledger.working()
    broker = ScriptedBroker(shown(oid), done(perm_id=5), traded(oid), holds(10))
    snapshot = await collect(broker, deadline=1.0, book=ledger.book, session=1)
    assert broker.asked == PARTS
    assert snapshot.complete
    assert (len(snapshot.open_orders), len(snapshot.completed_orders)) == (1, 1)
    assert (len(snapshot.executions), len(snapshot.positions)) == (1, 1)
    assert (snapshot.session, snapshot.first_unjudged_seq) == (1, ledger.book.seq + 1)
    assert snapshot.started_at <= snapshot.ended_at


@pytest.mark.guarantee(6)
@pytest.mark.parametrize("part", PARTS)
async def test_part_that_fails_is_missing_and_the_others_still_come(part: str) -> None:
    broker = ScriptedBroker(shown(perm_id=77), holds(10))
    broker.failing.add(part)
    snapshot = await collect(broker, deadline=1.0, book=Ledger().book, session=1)
    assert snapshot.missing == (part,)
    assert broker.asked == PARTS


@pytest.mark.rule(24)
@pytest.mark.parametrize("part", PARTS)
async def test_part_that_never_ends_costs_a_share_of_the_deadline_and_not_the_others(part: str) -> None:
    broker = ScriptedBroker(shown(perm_id=77), holds(10))
    broker.silent.add(part)
    started = time.monotonic()
    snapshot = await collect(broker, deadline=0.2, book=Ledger().book, session=1)
    assert snapshot.missing == (part,)
    assert time.monotonic() - started < 1.0


async def test_collection_of_a_mute_gateway_ends_within_its_deadline_with_everything_missing() -> None:
    broker = ScriptedBroker()
    broker.silent.update(PARTS)
    async with asyncio.timeout(2.0):
        snapshot = await collect(broker, deadline=0.3, book=Ledger().book, session=1)
    assert list(snapshot.missing) == PARTS


@pytest.mark.rule(23)
async def test_message_that_could_not_be_decoded_makes_the_collection_incomplete() -> None:
    losses = iter([0, 1])
    snapshot = await collect(ScriptedBroker(), deadline=1.0, book=Ledger().book, session=1, losses=lambda: next(losses))
    assert snapshot.missing == ("decoded",)


@pytest.mark.rule(3)
async def test_what_is_licensed_while_the_collection_runs_is_not_judged_by_it() -> None:
    ledger = Ledger()
    ledger.session(1)
    broker = ScriptedBroker()
    broker.before["positions"] = lambda: ledger.accept("meanwhile", session=1) and None
    snapshot = await collect(broker, deadline=1.0, book=ledger.book, session=2)
    [order] = ledger.book.orders.values()
    assert not snapshot.judges(order)
