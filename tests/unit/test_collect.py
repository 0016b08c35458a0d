"""A collection asks for every part, bounds each, and never takes "did not come" for "none"."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from engine.events import Kind
from reconcile.collect import collect
from reconcile.snapshot import LINK, Snapshot
from tests.unit.book_factory import NOON, Ledger, ScriptedBroker, done, holds, shown, traded

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


async def test_a_long_list_has_the_time_that_is_added_for_lists_and_a_mute_gateway_has_not() -> None:
    broker = ScriptedBroker(shown(perm_id=77), holds(10))
    broker.slow["open_orders"] = 0.3
    assert (await collect(broker, deadline=0.2, book=Ledger().book, session=1)).missing == ("open_orders",)
    assert (await collect(broker, deadline=0.2, lists=2.0, book=Ledger().book, session=1)).missing == ()
    broker.silent.update(PARTS)
    async with asyncio.timeout(2.0):
        assert (await collect(broker, deadline=0.2, lists=60.0, book=Ledger().book, session=1)).silent


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

    def license_another() -> None:
        ledger.accept("meanwhile", session=1)

    broker.before["positions"] = license_another
    snapshot = await collect(broker, deadline=1.0, book=ledger.book, session=2)
    [order] = ledger.book.orders.values()
    assert not snapshot.judges(order)


# ---- only what is new


class Afternoon:
    """A ledger that has traded, and whose leader died; the broker shows its day."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ledger.session(1)
        self.done = self.ledger.working("filled", perm_id=800)
        self.ledger.fill(self.done, "0000.01", perm_id=800)
        self.open = self.ledger.working("open")
        self.known = traded(self.done, "0000.01", perm_id=800)
        self.long_ago = traded(exec_id="0009.01", perm_id=70, at=NOON - timedelta(hours=2))

    async def collect(self, broker: ScriptedBroker) -> Snapshot:
        return await collect(broker, deadline=1.0, book=self.ledger.book, session=2, recent=True)


RECENT = ["round_trip", "open_orders", "recent_executions", "positions"]
WHOLE_AFTER_ALL = [*RECENT[:3], "completed_orders", "executions", "positions"]


async def test_recent_collection_asks_for_nothing_of_the_day_when_all_is_explained() -> None:
    day = Afternoon()
    broker = ScriptedBroker(shown(day.open), done(day.done, perm_id=800), day.known, day.long_ago, holds(10))
    snapshot = await day.collect(broker)
    assert broker.asked == RECENT
    assert snapshot.executions == (day.known,)
    assert snapshot.missing == ()


async def test_fill_since_then_explains_an_order_that_is_open_no_more() -> None:
    day = Afternoon()
    broker = ScriptedBroker(day.known, traded(day.open, at=NOON + timedelta(seconds=1)), holds(20))
    assert (await day.collect(broker)).recent
    assert broker.asked == RECENT


@pytest.mark.guarantee(6)
async def test_recent_snapshot_proves_no_absence() -> None:
    day = Afternoon()
    snapshot = await day.collect(ScriptedBroker(shown(day.open), day.known, holds(10)))
    assert snapshot.recent
    assert not snapshot.complete
    assert not snapshot.came("completed_orders")


@pytest.mark.parametrize("state", ["working", "sending"])
async def test_order_without_an_explanation_makes_it_ask_for_what_may_be_about_it(state: str) -> None:
    day = Afternoon()
    if state == "sending":
        day.ledger.accept("on its way", session=1)
    broker = ScriptedBroker(
        *([shown(day.open)] if state == "sending" else []), done(day.done, perm_id=800), done(perm_id=77), day.known,
        day.long_ago, holds(10),
    )  # fmt: skip
    snapshot = await day.collect(broker)
    assert broker.asked == [*RECENT[:3], "completed_orders", "recent_executions", "positions"]
    assert snapshot.complete
    assert snapshot.executions == (day.known,)  # what happened before the order was accepted says nothing of it
    assert [fact.perm_id for fact in snapshot.completed_orders] == [77]  # and what has ended here too is not looked at


@pytest.mark.rule(23)
async def test_broker_that_means_something_else_by_the_filter_is_asked_for_the_whole_day() -> None:
    day = Afternoon()
    broker = ScriptedBroker(shown(day.open), day.long_ago, holds(10))  # without the execution that is known
    snapshot = await day.collect(broker)
    assert broker.asked == WHOLE_AFTER_ALL
    assert snapshot.complete


@pytest.mark.parametrize("part", ["round_trip", "open_orders", "recent_executions"])
async def test_recent_part_that_fails_makes_it_ask_for_the_whole_day(part: str) -> None:
    day = Afternoon()
    broker = ScriptedBroker(shown(day.open), day.known, holds(10))
    broker.failing.add(part)
    snapshot = await day.collect(broker)
    assert broker.asked == WHOLE_AFTER_ALL
    assert snapshot.missing == (() if part == "recent_executions" else (part,))


async def test_ledger_that_knows_no_execution_asks_for_the_whole_day() -> None:
    ledger = Ledger()
    ledger.session(1)
    broker = ScriptedBroker()
    snapshot = await collect(broker, deadline=1.0, book=ledger.book, session=2, recent=True)
    assert broker.asked == PARTS
    assert snapshot.complete


async def test_what_waits_or_is_parked_or_was_just_licensed_needs_no_explanation() -> None:
    day = Afternoon()
    day.ledger.accept("queued")
    doubtful = day.ledger.accept("doubtful", session=1)
    day.ledger.add(Kind.ORDER_IN_DOUBT, doubtful, reason="parked", session=2)
    day.ledger.session(2)
    day.ledger.accept("just licensed", session=2)
    broker = ScriptedBroker(shown(day.open), day.known, holds(10))
    assert (await day.collect(broker)).recent


@pytest.mark.guarantee(6)
@pytest.mark.parametrize("up", [[False, True], [True, False], [False, False]])
async def test_collection_without_a_link_to_ib_before_or_after_it_proves_nothing_absent(up: list[bool]) -> None:
    links = iter(up)
    snapshot = await collect(
        ScriptedBroker(), deadline=1.0, book=Ledger().book, session=1, link_up=lambda: next(links, up[-1])
    )
    assert snapshot.missing == ("link",)


@pytest.mark.rule(6)
async def test_proof_of_the_link_is_asked_for_before_and_after_everything_else() -> None:
    broker = ScriptedBroker()
    snapshot = await collect(broker, deadline=1.0, book=Ledger().book, session=1, prove_link=True)
    assert broker.asked == ["round_trip", "ask_ib", *PARTS[1:], "ask_ib"]
    assert (snapshot.missing, snapshot.linked, snapshot.came(LINK)) == ((), True, True)


@pytest.mark.rule(6)
@pytest.mark.parametrize("answers", [0, 1])
@pytest.mark.parametrize("how", ["failing", "silent"])
async def test_link_that_ib_does_not_prove_before_or_after_is_missing_and_the_lists_still_come(
    how: str, answers: int
) -> None:
    broker = ScriptedBroker()

    def ask() -> None:
        if broker.asked.count("ask_ib") > answers:
            getattr(broker, how).add("ask_ib")

    broker.before["ask_ib"] = ask
    snapshot = await collect(broker, deadline=0.4, book=Ledger().book, session=1, prove_link=True)
    assert snapshot.missing == (LINK,)
    assert [part for part in broker.asked if part != "ask_ib"] == PARTS


@pytest.mark.rule(6)
async def test_snapshot_for_which_nobody_asked_ib_is_complete_and_proves_no_link() -> None:
    snapshot = await collect(ScriptedBroker(), deadline=1.0, book=Ledger().book, session=1)
    assert (snapshot.complete, snapshot.linked, snapshot.came(LINK)) == (True, False, False)
