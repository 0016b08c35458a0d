"""Memory is bounded: what ended leaves the book, the same on every replica, and comes back as it left."""

from __future__ import annotations

import copy
import json
from collections import deque
from dataclasses import asdict, fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Api
from engine.archive import Archive, LookedUp, Wanted
from engine.auth import Access
from engine.book import Book
from engine.broker import BrokerError, CommissionFact, OrderStatus
from engine.checkpoint import dump, load
from engine.clock import from_iso
from engine.commit import Committer, Outcome
from engine.digest import written
from engine.errors import Problem
from engine.events import Draft, Event, Kind
from engine.evict import AT_ONCE
from engine.evicted import Evicted, Numbers
from engine.metrics import Metrics
from engine.order import MOVES, State
from engine.plain import execution_from, order_from, plain
from engine.projection import _order
from engine.recall import Recalled, recalled_orders
from engine.reference import order_id
from engine.repeat import Repeats
from engine.request import parse_order
from engine.trial import Trial
from reconcile.diff import compare
from reconcile.left import sift, to_recall
from tests.unit.book_factory import (
    ACCOUNT,
    CLIENT,
    CLUSTER,
    CON_IDS,
    ME,
    NOON,
    Ledger,
    done,
    holds,
    rows,
    shown,
    snap,
    traded,
)
from tests.unit.desk_factory import ASKER, Scene
from tests.unit.test_book import logs

AAPL = (ACCOUNT, CON_IDS["AAPL"])


class Small(Ledger):
    """A ledger whose book keeps few orders that ended, and the book that lets nothing go."""

    def __init__(self, keep: int = 2) -> None:
        super().__init__()
        self.book, self.whole = Book(keep), Book(10**9)
        self.book.observers.append(self.whole.apply)
        self.session()

    def filled(self, n: int, **fields: Any) -> str:
        """An order that ends, filled by execution n."""
        oid = self.working(f"k{n}", perm_id=900 + n)
        self.fill(oid, f"{n:04}.01", perm_id=900 + n, **fields)
        return oid

    def recalled(self, oid: str) -> Recalled:
        """The order as the database has it."""
        executions = [e for e in self.whole.executions.values() if e.order_id == oid]
        return recalled_orders([e for e in self.log if e.order_id == oid], executions)[oid]

    def reconcile(self, *facts: Any) -> tuple[Any, list[str]]:
        """What the leader does with a snapshot: look up, recall, compare. The sifted snapshot, and the ids that were recalled."""
        snapshot, known, back = snap(*facts), LookedUp(), list[str]()
        for _ in range(4):
            sifted, wanted = sift(self.book, snapshot, ME, known)
            if not wanted:
                break
            self.look_up(wanted, known)
            for found in to_recall(self.book, wanted, known):
                self.write(found.draft(NOON))
                back.append(found.order.id if found.order is not None else found.executions[0].root)
        assert not wanted
        return sifted, back

    def look_up(self, wanted: Wanted, known: LookedUp) -> None:
        """Stands for the database: it has all that ever was."""
        ids = {o.perm_id: o.id for o in self.whole.orders.values()}
        known.perm_ids |= {number: ids.get(number) for number in wanted.perm_ids}
        keys = wanted.executions | wanted.loose
        known.executions |= {key: self.whole.executions.get(key) for key in keys}
        every = wanted.orders | {oid for number in wanted.perm_ids if (oid := ids.get(number)) is not None}
        known.orders |= {oid: self.recalled(oid) if oid in self.whole.orders else None for oid in every}


def in_step(ledger: Small) -> None:
    """The small book says what the whole one says, of all that it has."""
    book, whole = ledger.book, ledger.whole
    assert (book.seq, book.digest) == (whole.seq, whole.digest)
    for oid, order in book.orders.items():
        assert (order, order.fingerprint) == (whole.orders[oid], whole.orders[oid].fingerprint)
    for key, execution in book.executions.items():
        assert (execution, execution.fingerprint) == (whole.executions[key], whole.executions[key].fingerprint)
    assert {key: p.quantity for key, p in book.positions.items()} == {
        key: sum(e.signed for e in whole.executions.values() if (e.account, e.con_id) == key) for key in book.positions
    }


# ---- who leaves


def test_the_oldest_end_leaves_first_with_all_that_names_it() -> None:
    ledger = Small()
    first, *others = (ledger.filled(n) for n in range(4))
    book = ledger.book
    assert list(book.orders) == others[1:]
    assert first not in book.keys.values()
    assert (book.evicted.orders, book.evicted.executions) == (2, 2)
    assert (len(book.by_perm_id), len(book.by_broker_id), len(book.keys)) == (2, 2, 2)
    assert (len(book.executions), len(book.exec_by_id), len(book.executions_of), len(book.numbers)) == (2, 2, 2, 2)
    in_step(ledger)


def test_an_order_with_a_negative_number_leaves_as_any_other_and_is_known() -> None:
    ledger = Small()
    oid = ledger.working("negative", perm_id=-5)
    ledger.fill(oid, "0500.01", perm_id=-5)
    for n in range(3):
        ledger.filled(n)
    assert oid not in ledger.book.orders
    assert -5 in ledger.book.evicted.perm_ids
    assert 5 not in ledger.book.evicted.perm_ids
    again = Book(2)
    load(again, dump(ledger.book), written(ledger.book.digest))
    assert -5 in again.evicted.perm_ids
    in_step(ledger)


def test_an_order_that_goes_on_never_leaves() -> None:
    ledger = Small()
    open_one = ledger.working("open", perm_id=1)
    queued = ledger.accept("queued")
    for n in range(5):
        ledger.filled(n)
    assert {open_one, queued} <= ledger.book.orders.keys()
    assert list(ledger.book.open_ids) == [open_one, queued]


def test_an_order_that_an_open_break_names_stays_until_it_is_resolved() -> None:
    ledger = Small()
    first = ledger.filled(0)
    fields: dict[str, Any] = {
        "kind": "missing_executions",
        "symbol": "AAPL",
        "account": ACCOUNT,
        "ours": {},
        "broker": {},
    }
    ledger.add(Kind.BREAK_OPENED, first, id="b1", holds=False, **fields)
    for n in range(1, 5):
        ledger.filled(n)
    assert first in ledger.book.orders
    ledger.add(Kind.BREAK_RESOLVED, first, id="b1", resolution="looked")
    assert first in ledger.book.orders, "it leaves as if it had ended now"
    ledger.filled(5)
    ledger.filled(6)
    assert first not in ledger.book.orders
    in_step(ledger)


def test_a_bracket_stays_whole_until_the_last_of_it_has_ended() -> None:
    ledger = Small()
    parent = ledger.filled(0)
    first, second = (
        ledger.accept(f"child{n}", session=1, extra={"parent": parent, "parent_client_order_id": "k0"}) for n in (1, 2)
    )
    ledger.add(Kind.ORDER_CANCELLED, first, reason="x")
    for n in range(1, 5):
        ledger.filled(n)
    assert {parent, first, second} <= ledger.book.orders.keys()
    fields: dict[str, Any] = {"kind": "naked", "symbol": "AAPL", "account": ACCOUNT, "ours": {}, "broker": {}}
    ledger.add(Kind.BREAK_OPENED, parent, id="b1", holds=True, **fields)
    ledger.add(Kind.ORDER_CANCELLED, second, reason="x")
    for n in range(5, 9):
        ledger.filled(n)
    assert {parent, first, second} <= ledger.book.orders.keys(), "a break about one of them is open"
    ledger.add(Kind.BREAK_RESOLVED, parent, id="b1", resolution="looked")
    for n in range(9, 13):
        ledger.filled(n)
    assert not {parent, first, second} & ledger.book.orders.keys()
    assert (ledger.book.children, ledger.book.detained) == ({}, {})
    ledger.write(ledger.recalled(second).draft(NOON), ledger.recalled(first).draft(NOON))
    assert ledger.book.children == {parent: [first, second]}
    in_step(ledger)


def test_an_order_that_is_reopened_is_not_let_go() -> None:
    ledger = Small()
    oid = ledger.working("k", perm_id=77)
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="x")
    ledger.work(oid, 77)  # late evidence (R1)
    for n in range(4):
        ledger.filled(n)
    assert ledger.order(oid).state is State.WORKING


def test_executions_of_no_order_leave_by_count() -> None:
    ledger = Small()
    for n in range(5):
        ledger.fill(None, f"{n:04}.01", perm_id=0)
    assert list(ledger.book.loose) == list(ledger.book.executions) == [(ACCOUNT, "0003"), (ACCOUNT, "0004")]
    assert ledger.book.positions[AAPL].quantity == 50
    in_step(ledger)


def test_ids_that_an_order_had_before_leave_with_it() -> None:
    ledger = Small()
    oid = ledger.accept("k", session=1, broker_id=5)
    ledger.add(Kind.ORDER_UNLICENSED, oid, reason="id used")
    ledger.add(Kind.ORDER_LICENSED, oid, session=1, broker_order_id=6)
    ledger.work(oid, 800)
    ledger.fill(oid, "9.01", quantity="10", perm_id=800)
    ledger.fill(oid, "9.02", quantity="10", perm_id=800)
    for n in range(2):
        ledger.filled(n)
    book = ledger.book
    assert oid not in book.orders
    assert not {5, 6} & book.by_broker_id.keys()
    assert not {"9.01", "9.02"} & book.exec_by_id.keys()
    assert not book.earlier_exec_ids
    in_step(ledger)


@pytest.mark.guarantee(8)
@settings(max_examples=100, deadline=None)
@given(logs(tuple("ABCDEF")), st.integers(1, 3))
def test_leader_and_rebuild_evict_alike_and_count_alike(log: list[Event], keep: int) -> None:
    """Whatever is kept, the digest is the same at every event, and equal books stay equal."""
    one, other, whole = Book(keep), Book(keep), Book(10**9)
    for event in log:
        if event.kind in MOVES - {Kind.EXECUTION} and event.order_id not in one.orders:
            break  # of an order that has left: nobody writes it before the order was recalled
        for book in (one, other, whole):
            book.apply(copy.deepcopy(event))
        assert one.left == other.left
        assert (one.orders, one.executions, one.ended, one.positions) == (
            other.orders, other.executions, other.ended, other.positions
        )  # fmt: skip
        assert one.open_ids == whole.open_ids
        assert {key: p.quantity for key, p in one.positions.items()} == {
            key: p.quantity for key, p in whole.positions.items()
        }
    if not any(event.kind == Kind.EXECUTION and event.payload["exec_id"].endswith(".02") for event in log):
        assert one.digest == whole.digest  # a correction may see another average cost


# ---- what left is not taken for new


@pytest.mark.guarantee(5)
def test_a_days_list_with_what_left_memory_proposes_nothing_and_looks_nothing_up() -> None:
    ledger = Small()
    ids = [ledger.filled(n) for n in range(6)]
    facts = [traded(oid, f"{n:04}.01", perm_id=900 + n) for n, oid in enumerate(ids)]
    ended = [done(oid, perm_id=900 + n) for n, oid in enumerate(ids)]
    sifted, back = ledger.reconcile(*facts, *ended, holds(60))
    assert back == []
    assert len(sifted.executions) == len(sifted.completed_orders) == 2
    assert compare(ledger.book, sifted, ME) == []


@pytest.mark.guarantee(5)
def test_a_late_correction_replaces_what_left_memory() -> None:
    ledger = Small()
    ids = [ledger.filled(n) for n in range(6)]
    sifted, back = ledger.reconcile(traded(ids[0], "0000.02", 7, perm_id=900), holds(57))
    assert back == [ids[0]]
    in_step(ledger)
    plan = ledger.plan(sifted, last=True)
    assert rows(plan) == ["execution_corrected"]
    ledger.write(*plan.drafts)
    assert (ledger.book.positions[AAPL].quantity, ledger.order(ids[0]).filled) == (57, 7)
    assert ledger.order(ids[0]).state is State.WORKING, "a part was taken back"


@pytest.mark.guarantee(5)
def test_the_trial_refuses_a_correction_of_what_left_memory_and_the_same_execution_again() -> None:
    ledger = Small()
    for n in range(6):
        ledger.filled(n)
    for exec_id in ("0000.01", "0000.02"):
        payload = {
            "exec_id": exec_id, "account": ACCOUNT, "con_id": CON_IDS["AAPL"], "symbol": "AAPL", "side": "BUY", "quantity": "10",
            "price": "1", "at": "2026-01-02T12:00:00.000000Z",
        }  # fmt: skip
        assert "recalled first" in (Trial(ledger.book).refuses([Draft(Kind.EXECUTION, payload, NOON)]) or "")


@pytest.mark.rule(19)
def test_an_order_that_left_memory_is_not_restored_and_a_lost_one_still_is() -> None:
    ledger = Small()
    ids = [ledger.filled(n) for n in range(6)]
    lost = order_id(CLUSTER, "local", "lost")
    late = traded(ids[1], "late.01", 1, perm_id=901)  # of an order that left: not booked yet
    sifted, back = ledger.reconcile(late, done(lost, perm_id=5000), traded(lost, "5000.01", perm_id=5000), holds(71))
    assert back == [ids[1]]
    assert rows(ledger.plan(sifted, last=True))[:2] == ["restored", "filled_while_away"]
    assert {d.order_id for d in ledger.plan(sifted, last=True).drafts if d.kind is Kind.ORDER_RESTORED} == {lost}


def test_an_order_that_left_memory_and_is_live_again_is_reopened() -> None:
    ledger = Small()
    oid = ledger.working("k", perm_id=77)
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="x")
    for n in range(3):
        ledger.filled(n)
    assert oid not in ledger.book.orders
    sifted, back = ledger.reconcile(shown(oid, 77), holds(30))
    assert back == [oid]
    assert rows(ledger.plan(sifted, last=True)) == ["reopened"]


def test_a_strangers_order_that_left_memory_is_found_by_its_perm_id() -> None:
    ledger = Small()
    plan = ledger.plan(snap(shown(perm_id=4000)), last=True)
    ledger.write(*plan.drafts)
    [external] = ledger.book.open_externals
    ledger.add(Kind.ORDER_CANCELLED, external, reason="gone")
    for n in range(3):
        ledger.filled(n)
    assert external not in ledger.book.orders
    sifted, back = ledger.reconcile(shown(perm_id=4000), holds(30))
    assert back == [external]
    assert rows(ledger.plan(sifted, last=True)) == ["reopened"]


def test_an_execution_of_no_order_is_corrected_after_it_left_memory() -> None:
    ledger = Small()
    for n in range(5):
        ledger.fill(None, f"{n:04}.01", perm_id=0)
    sifted, back = ledger.reconcile(
        traded(None, "0000.02", 4, perm_id=0), traded(None, "0001.01", perm_id=0), holds(44)
    )
    assert back == ["0000"]
    assert rows(ledger.plan(sifted, last=True)) == ["execution_corrected"]
    in_step(ledger)


def test_an_execution_that_left_as_nobodys_is_no_new_one_of_the_order_that_it_turns_out_to_be_of() -> None:
    ledger = Small()
    for n in range(4):
        ledger.fill(None, f"{n:04}.01", perm_id=77)
    oid = ledger.working("k", perm_id=77)
    sifted, back = ledger.reconcile(traded(oid, "0000.02", 4, perm_id=77), shown(oid, 77), holds(34))
    assert back == ["0000"]
    assert rows(ledger.plan(sifted, last=True)) == ["execution_corrected"]


def test_beyond_the_remembered_numbers_the_database_decides() -> None:
    ledger = Small(keep=1)
    ledger.book.evicted.roots.room = ledger.book.evicted.perm_ids.room = 2
    ids = [ledger.filled(n) for n in range(9)]
    assert ledger.book.evicted.roots.forgotten
    facts = [traded(oid, f"{n:04}.01", perm_id=900 + n) for n, oid in enumerate(ids)]
    sifted, back = ledger.reconcile(*facts, traded(None, "new.01", 3, perm_id=1), holds(93))
    assert back == [], "the database has them as they are shown: nothing to recall"
    assert rows(ledger.plan(sifted, last=True)) == ["execution_missing_here"]
    sifted, back = ledger.reconcile(traded(ids[0], "0000.02", 7, perm_id=900), holds(87))
    assert back == [ids[0]]
    assert rows(ledger.plan(sifted, last=True)) == ["execution_corrected"]


# ---- coming back


@pytest.mark.guarantee(8)
def test_a_recall_leaves_the_digest_and_the_positions_as_they_are() -> None:
    ledger = Small()
    ids = [ledger.filled(n, side="BUY" if n % 3 else "SELL", price=str(100 + n)) for n in range(7)]
    before, positions = ledger.book.digest, copy.deepcopy(ledger.book.positions)
    ledger.write(ledger.recalled(ids[0]).draft(NOON))
    assert (ledger.book.digest, ledger.book.positions[AAPL].quantity) == (before, positions[AAPL].quantity)
    assert ledger.book.positions[AAPL].average_cost == positions[AAPL].average_cost
    assert next(iter(ledger.book.executions)) == (ACCOUNT, "0000"), "the last one stays the last one booked"
    in_step(ledger)
    ledger.add(Kind.COMMISSION, None, exec_id="0000.01", commission="1", currency="USD")
    in_step(ledger)
    for n in range(7, 10):
        ledger.filled(n)
    assert ids[0] not in ledger.book.orders, "it leaves again"
    in_step(ledger)


def test_a_recall_of_what_is_in_memory_is_refused_and_a_book_that_kept_it_folds_it() -> None:
    ledger = Small()
    ids = [ledger.filled(n) for n in range(5)]
    back = ledger.recalled(ids[0]).draft(NOON)
    ledger.write(back)
    assert "in memory" in (Trial(ledger.book).refuses([replace(back, event_id="another")]) or "")
    assert ledger.whole.seq == ledger.book.seq, "the book that keeps more folds it too"
    twice = [ledger.recalled(ids[1]).draft(NOON), ledger.recalled(ids[1]).draft(NOON)]
    assert "in memory" in (Trial(ledger.book).refuses(twice) or "")


def test_an_order_that_took_over_a_strangers_record_leaves_and_comes_back_with_its_executions() -> None:
    """Its executions were booked on that record, and for nobody, before an operator said whose they are."""
    ledger = Small()
    ledger.write(*ledger.plan(snap(shown(perm_id=4000)), last=True).drafts)
    [record] = ledger.book.open_externals
    ledger.fill(record, "e1.01", perm_id=4000, quantity="4")
    ledger.fill(None, "e2.01", perm_id=4000, quantity="6")
    oid = ledger.accept("k", session=1)
    ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="gone")
    mine = [[ACCOUNT, "e1"], [ACCOUNT, "e2"]]
    ledger.write(
        Draft(Kind.ORDER_MERGED, {"into": oid, "reason": "x"}, NOON, record),
        Draft(Kind.ORDER_ADOPTED, {"perm_id": 4000, "executions": mine, "reason": "x", "status": "Filled"}, NOON, oid),
    )
    assert ledger.order(oid).state is State.FILLED
    assert list(ledger.book.loose) == []
    in_step(ledger)
    for n in range(3):
        ledger.filled(n)
    assert not {oid, record} & ledger.book.orders.keys()
    assert not {(ACCOUNT, "e1"), (ACCOUNT, "e2")} & ledger.book.executions.keys()
    for one in (oid, record):
        ledger.write(ledger.recalled(one).draft(NOON))
    in_step(ledger)
    assert ledger.book.executions_of[oid] == [(ACCOUNT, "e1"), (ACCOUNT, "e2")]
    assert ledger.order(record).filled == 0


@settings(max_examples=100, deadline=None)
@given(logs())
def test_what_is_written_plainly_is_read_as_it_was(log: list[Event]) -> None:
    book = Book()
    for event in log:
        book.apply(event)
    for order in book.orders.values():
        assert order_from(plain(order)) == order
    for execution in book.executions.values():
        assert execution_from(plain(execution)) == execution


@settings(max_examples=100, deadline=None)
@given(logs())
def test_an_order_folded_from_its_own_events_is_the_order(log: list[Event]) -> None:
    book = Book()
    for event in log:
        book.apply(event)
    for order in book.orders.values():
        mine = [e for e in book.executions.values() if e.order_id == order.id]
        found = recalled_orders([e for e in log if e.order_id == order.id], mine)[order.id]
        assert found.order == order
        assert {e.root: e for e in found.executions} == {
            e.root: e for e in mine
        }  # in the order of their last revisions


class CutLog:
    """A database whose log no longer holds the order's beginning; its tables do."""

    is_open = True

    def __init__(self, ledger: Small, oid: str) -> None:
        o = ledger.whole.orders[oid]
        self._events = [e for e in ledger.log if e.order_id == oid][1:]
        more = {"user_id": o.subject, "average_price": o.average_price}
        self._order = {f.name: getattr(o, f.name) for f in fields(o)} | more | {"state": o.state.value}
        self._executions = [asdict(e) for e in ledger.whole.executions.values() if e.order_id == oid]

    async def run(self, name: str, _parameters: Any) -> list[dict[str, Any]]:
        events = [
            {"seq": e.seq, "epoch": e.epoch, "event_type": e.kind, "payload": e.payload, "timestamp": e.at, "order_id": e.order_id,
             "user_id": e.subject, "correlation_id": None, "event_id": e.event_id} for e in self._events
        ]  # fmt: skip
        return {
            "events_of_orders": events,
            "executions_of_orders": self._executions,
            "orders_of_archived_parts": [self._order],
        }[name]


async def test_an_order_whose_events_were_cut_off_the_log_is_read_from_its_row() -> None:
    ledger = Small()
    oid = ledger.filled(0)
    for n in range(1, 4):
        ledger.filled(n)
    del ledger.book.leaving["order", oid]  # the table of orders has it as it left
    found = (await Archive(ledger.book, CutLog(ledger, oid)).orders([oid]))[oid]  # type: ignore[arg-type]
    order, whole = found.order, ledger.whole.orders[oid]
    assert order is not None
    assert order.body is None
    assert order == replace(
        whole, body=None, accepted_seq=0, licence_epoch=None, con_id=order.con_id, notional=order.notional
    )
    assert order.notional == whole.notional
    assert [e.exec_id for e in found.executions] == ["0000.01"]
    ledger.write(found.draft(NOON))
    assert ledger.book.positions[AAPL].quantity == ledger.whole.positions[AAPL].quantity


# ---- the tables that people query


def test_what_leaves_before_it_is_in_the_tables_is_kept_for_them() -> None:
    ledger = Small()
    ids = [ledger.filled(n) for n in range(4)]
    assert set(ledger.book.leaving) == {
        *(("order", oid) for oid in ids[:2]), *(("execution", (ACCOUNT, f"{n:04}")) for n in range(2))
    }  # fmt: skip
    ledger.book.projected_to(ledger.book.seq)
    assert (ledger.book.leaving, ledger.book.dirty) == ({}, {})
    ledger.filled(4)
    assert len(ledger.book.leaving) == 0
    assert {kind for kind, _ in ledger.book.dirty} == {"order", "execution", "position"}


def test_a_standby_notes_nothing_that_is_in_the_tables() -> None:
    leader = Small()
    for n in range(4):
        leader.filled(n)
    standby = Book(2)
    standby.projected_to(leader.book.seq - 1)
    for event in leader.log:
        standby.apply(event)
    assert set(standby.dirty.values()) == {leader.book.seq}


# ---- read back


class Racing:
    """A connection whose answers were taken before the projector's commit, and come after it."""

    is_open = True

    def __init__(self, ledger: Small, **answers: list[dict[str, Any]]) -> None:
        self.ledger, self.answers = ledger, answers

    async def run(self, name: str, _parameters: Any, *_: Any) -> list[dict[str, Any]]:
        self.ledger.book.projected_to(self.ledger.book.seq)
        return self.answers.get(name, [])


def log_rows(ledger: Small) -> list[dict[str, Any]]:
    names = {"kind": "event_type", "at": "timestamp", "subject": "user_id"}
    return [{names.get(f.name, f.name): getattr(event, f.name) for f in fields(event)} for event in ledger.log]


@pytest.mark.guarantee(5)
async def test_a_read_that_the_projector_overtakes_loses_nothing_of_what_left() -> None:
    ledger = Small()
    oid = ledger.filled(0)
    for n in range(1, 4):
        ledger.filled(n)
    key = (ACCOUNT, "0000")
    assert ("execution", key) in ledger.book.leaving
    book = copy.deepcopy(ledger.book)
    archive = Archive(
        ledger.book, Racing(ledger, events_of_orders=[r for r in log_rows(ledger) if r["order_id"] == oid])
    )  # type: ignore[arg-type]
    found = (await archive.orders([oid]))[oid]
    assert found == ledger.recalled(oid)
    for asked, answer in (
        (Wanted(executions={key}), LookedUp(executions={key: ledger.whole.executions[key]})),
        (Wanted(perm_ids={900}), LookedUp(perm_ids={900: oid}, orders={oid: None})),
    ):
        ledger.book = copy.deepcopy(book)
        known = LookedUp()
        await Archive(ledger.book, Racing(ledger)).look_up(asked, known)  # type: ignore[arg-type]
        assert (known.executions, known.perm_ids) == (answer.executions, answer.perm_ids)


async def test_an_order_whose_beginning_was_archived_comes_back_as_it_left_also_before_the_tables_have_it() -> None:
    ledger = Small()
    oid = ledger.working("k0", perm_id=900)
    row = _order(ledger.order(oid))
    for name in ("created_at", "updated_at", "sent_at", "acknowledged_at", "valid_until"):
        row[name] = from_iso(row[name])
    for name in ("quantity", "filled", "limit_price", "stop_price"):
        row[name] = None if row[name] is None else Decimal(row[name])
    ledger.fill(oid, "0000.01", perm_id=900)
    for n in range(1, 4):
        ledger.filled(n)
    assert oid not in ledger.book.orders
    archive = Archive(ledger.book, Racing(ledger, orders_of_archived_parts=[row]))  # type: ignore[arg-type]
    found = (await archive.orders([oid]))[oid]
    assert found.order is not None
    assert (found.order.state, found.order.filled, len(found.executions)) == (State.FILLED, 10, 1)
    assert found.order == ledger.whole.orders[oid]


# ---- how many stay


@pytest.mark.guarantee(8)
def test_how_many_stay_is_a_fact_of_the_log_and_no_reader_has_a_say() -> None:
    ledger = Ledger()
    ledger.session()
    for keep, keys in ((3, "abcde"), (1, "fgh"), (4, "ijklmn")):
        ledger.add(Kind.MEMORY_BOUND, keep_ended=keep)
        for key in keys:
            oid = ledger.working(key, perm_id=900 + ord(key))
            ledger.fill(oid, f"{key}.01", perm_id=900 + ord(key))
            if keep > 1:
                ledger.fill(oid, f"{key}.02", perm_id=900 + ord(key), price="7")
    assert len(ledger.book.orders) == 4
    again = Book()
    for event in ledger.log:
        again.apply(event)
    assert (again.digest, again.orders.keys()) == (ledger.book.digest, ledger.book.orders.keys())
    assert {key: p.quantity for key, p in again.positions.items()} == {AAPL: 140}
    again.reset()
    for event in ledger.log:
        again.apply(event)
    assert (again.digest, again.orders.keys()) == (ledger.book.digest, ledger.book.orders.keys())


def test_a_log_that_names_no_bound_lets_nothing_go() -> None:
    ledger = Ledger()
    ledger.session()
    first = ledger.working("first", perm_id=1)
    ledger.fill(first, "1000.01", perm_id=1)
    for n in range(20_001):
        ledger.book.ended[f"{n}"] = None
    ledger.fill(first, "1000.02", perm_id=1, quantity="9")
    assert first in ledger.book.orders


def test_the_first_bound_of_a_long_log_lets_go_a_part_with_each_event() -> None:
    ledger, most = Ledger(), AT_ONCE
    ledger.session()
    for n in range(most + 10):
        ledger.add(Kind.ORDER_CANCELLED, ledger.working(f"k{n}", perm_id=900 + n))
    ledger.add(Kind.MEMORY_BOUND, keep_ended=5)
    assert len(ledger.book.ended) == 10
    ledger.accept("next")
    assert len(ledger.book.ended) == 5


@pytest.mark.parametrize("keep", [0, -1, "3", None, True])
def test_a_bound_that_is_no_number_of_orders_is_not_written(keep: Any) -> None:
    ledger = Ledger()
    assert Trial(ledger.book).refuses([Draft(Kind.MEMORY_BOUND, {"keep_ended": keep}, NOON)]) is not None


@pytest.mark.guarantee(5)
def test_a_correction_of_what_left_memory_is_never_booked_beside_it() -> None:
    ledger = Small()
    oid = ledger.filled(0)
    for n in range(1, 4):
        ledger.filled(n)
    wrong = replace(
        next(e for e in ledger.log if e.order_id == oid and e.kind == Kind.EXECUTION), seq=ledger.book.seq + 1
    )
    wrong = replace(wrong, payload=wrong.payload | {"exec_id": "0000.02", "quantity": "9"})
    before = (ledger.book.seq, ledger.book.digest, ledger.book.positions[AAPL].quantity)
    with pytest.raises(ValueError, match="twice"):
        ledger.book.apply(wrong)
    assert (ledger.book.seq, ledger.book.digest, ledger.book.positions[AAPL].quantity) == before


@pytest.mark.guarantee(5)
def test_evidence_of_what_leaves_with_the_same_statement_is_refused_before_it_is_written() -> None:
    ledger = Small()
    oldest, second = (ledger.working(f"o{n}", perm_id=700 + n) for n in range(2))
    for oid in (oldest, second):
        ledger.add(Kind.ORDER_CANCELLED, oid, reason="by hand")
    third = ledger.working("third", perm_id=720)
    ends = Draft(Kind.ORDER_CANCELLED, {"reason": "by hand"}, NOON, third, "local")
    lives = Draft(Kind.ORDER_WORKING, {"status": "Submitted", "perm_id": 700}, NOON, oldest, "local")
    other = Draft(Kind.ORDER_WORKING, {"status": "Submitted", "perm_id": 701}, NOON, second, "local")
    bound = Draft(Kind.MEMORY_BOUND, {"keep_ended": 1}, NOON)
    for before in (ends, bound):
        trial = Trial(ledger.book)
        assert trial.refuses([before]) is None
        assert "leaves memory" in str(trial.refuses([lives]))
        assert trial.refuses([other]) is None
        assert "leaves memory" in str(Trial(ledger.book).refuses([before, lives]))
    assert Trial(ledger.book).refuses([lives, ends]) is None
    ledger.write(ends)
    assert oldest not in ledger.book.orders


def test_a_correction_of_an_execution_of_no_order_that_leaves_with_the_same_statement_is_refused() -> None:
    ledger = Small()
    for n in range(2):
        ledger.fill(None, f"{n:04}.01")
    *_, one = (e for e in ledger.log if e.kind == Kind.EXECUTION)
    new, late = (
        Draft(Kind.EXECUTION, one.payload | {"exec_id": exec_id, "quantity": "9"}, NOON)
        for exec_id in ("0009.01", "0000.02")
    )
    assert Trial(ledger.book).refuses([late]) is None
    trial = Trial(ledger.book)
    assert trial.refuses([new]) is None
    assert "leaves memory" in str(trial.refuses([late]))


class Proving:
    """A connection that proves, at a level."""

    is_open = True

    def __init__(self) -> None:
        self.level = 1

    async def run(self, _name: str, _parameters: Any, **_: Any) -> list[dict[str, Any]]:
        return [
            {
                "now": NOON,
                "control": None,
                "level": self.level,
                "commands": None,
                "system": "",
                "timeline": "",
                "head": 10**9,
            }
        ]


@pytest.mark.rule(22)
async def test_a_leader_writes_its_bound_once_where_the_log_has_another_one_and_the_level_admits_it() -> None:
    ledger, wire = Ledger(), Proving()
    committer = Committer(
        wire, "a", "i", 5, ledger.book, on_fenced=print, on_proof=lambda _: None, level=1, keep_ended=7
    )  # type: ignore[arg-type]
    await committer.prove_now()
    assert committer.waiting == 0
    wire.level = 2
    await committer.prove_now()
    await committer.prove_now()
    [group] = committer._queue
    ledger.write(*group.drafts)
    group.done(Outcome.COMMITTED, (), "")
    assert ledger.book.keep_ended == 7
    await committer.prove_now()
    assert committer.waiting == 1, "no second one"


# ---- the way in


def scene_with_ended(count: int = 5) -> tuple[Scene, list[str]]:
    scene = Scene()
    scene.ledger.book.keep_ended = 2
    ids = []
    for n in range(count):
        oid = scene.ledger.working(f"k{n}", perm_id=900 + n)
        scene.ledger.fill(oid, f"{n:04}.01", perm_id=900 + n)
        ids.append(oid)
    return scene, ids


@pytest.mark.guarantee(5)
def test_a_repeated_execution_of_what_left_memory_is_nothing_and_a_correction_is_looked_up() -> None:
    scene, ids = scene_with_ended()
    before = scene.ledger.book.seq
    scene.take(traded(ids[0], "0000.01", perm_id=900), traded(None, "0000.01", perm_id=900))
    assert (scene.ledger.book.seq, scene.doubts) == (before, [])
    scene.take(traded(None, "0000.02", 7, perm_id=900), traded(ids[1], "0001.02", 7, perm_id=901))
    assert scene.ledger.book.seq == before, "nothing is booked on a guess"
    assert len(scene.doubts) == 2


def test_a_status_after_the_end_leaves_nothing_behind_for_ever() -> None:
    scene, ids = scene_with_ended(2)
    scene.take(shown(ids[0], 900, status="Filled", broker_order_id=scene.order(ids[0]).broker_order_id))
    assert scene.desk.cancels.pair(ids[0]) is not None
    for n in range(2, 5):
        oid = scene.ledger.working(f"k{n}", perm_id=900 + n)
        scene.ledger.fill(oid, f"{n:04}.01", perm_id=900 + n)
    assert scene.desk.cancels.pair(ids[0]) is None


def test_the_commissions_of_what_left_memory_do_not_push_out_those_that_are_waited_for() -> None:
    scene, _ = scene_with_ended()
    early = scene.inbound._early
    scene.take(CommissionFact("0000.01", Decimal(1), "USD", None))
    assert len(early._held) == 0
    scene.take(CommissionFact("0000.02", Decimal(1), "USD", None))
    assert len(early._held) == 1


async def lives(scene: Scene, first: int, last: int) -> None:
    """Orders from their acceptance to the last of what the gateway says of them."""
    for n in range(first, last):
        oid = (await scene.place(f"k{n}")).id
        broker_id, perm_id = scene.order(oid).broker_order_id or 0, 900 + n
        of = {"perm_id": perm_id, "broker_order_id": broker_id}
        filled = OrderStatus(broker_id, perm_id, CLIENT, "Filled", Decimal(10), Decimal(0))
        if n % 3 < 2:
            scene.take(shown(oid, status="PreSubmitted", **of), shown(oid, **of))
        if n % 3 == 0:
            scene.take(traded(oid, f"{n:06}.01", **of), CommissionFact(f"{n:06}.01", Decimal(1), "USD", None))
            scene.take(filled, shown(oid, status="Filled", **of))
        elif n % 3 == 1:
            await scene.desk.cancel(oid, ASKER)
            scene.take(shown(oid, status="Cancelled", **of), shown(oid, status="Cancelled", **of))
        else:
            scene.take(shown(oid, status="Inactive", **of), BrokerError(broker_id, 201, "no margin"))
            scene.take(shown(oid, status="Inactive", **of))
        scene.clock.now += 1


def sizes(thing: Any, name: str, found: dict[str, int], seen: set[int]) -> dict[str, int]:
    """How much each container holds that is reached from `thing`, by where it is; a container's own items are not told apart."""
    if (
        id(thing) in seen
        or isinstance(thing, (str, bytes, int, float, Decimal, type, Ledger, Evicted))
        or callable(thing)
    ):
        return found
    seen.add(id(thing))
    if isinstance(thing, (dict, list, set, tuple, deque, frozenset)):
        found[name] = found.get(name, 0) + len(thing)
        for item in [*thing, *(thing.values() if isinstance(thing, dict) else ())]:
            sizes(item, f"{name}[]", found, seen)
    for attribute, value in getattr(thing, "__dict__", {}).items():
        sizes(value, f"{name}.{attribute}", found, seen)
    return found


async def test_nothing_of_a_replica_grows_with_the_orders_that_ended() -> None:
    scene = Scene()
    scene.ledger.book.keep_ended = 6
    metrics = Metrics(scene.ledger.book)
    api = Api(scene.ledger.book, scene.desk, scene.inbound, Access(), lambda: None, Archive(scene.ledger.book, None))  # type: ignore
    scene.wire.placed = scene.wire.prepared = scene.wire.written = deque(maxlen=1)  # type: ignore[assignment]  # its own record
    scene.ledger.book._digests = deque(maxlen=1)
    measured = []
    for first, last in ((0, 60), (60, 300)):
        await lives(scene, first, last)
        scene.ledger.book.projected_to(scene.ledger.book.seq)
        of = {"desk": scene.desk, "inbound": scene.inbound, "book": scene.ledger.book, "api": api, "metrics": metrics}
        measured.append({k: n for name, one in of.items() for k, n in sizes(one, name, {}, set()).items()})
    before, after = measured
    assert {k: (before.get(k, 0), n) for k, n in after.items() if n > before.get(k, 0) + 6} == {}
    assert scene.ledger.book.evicted.orders == 294
    assert len(scene.ledger.book.orders) == 6


class Keys:
    """The table of keys, as it knows the bodies of orders whose events were archived."""

    is_open = True

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.bodies, self.asked = {order_id(CLUSTER, "local", b["client_order_id"]): b for b in bodies}, 0

    async def run(self, name: str, parameters: Any, *_: Any) -> list[dict[str, Any]]:
        assert name == "body_is"
        self.asked += 1
        known = self.bodies.get(parameters["id"])
        return [{"same": None if known is None else known == json.loads(parameters["body"])}]


def without_body(scene: Scene, key: str, **fields: Any) -> None:
    """An order that came back into memory when its first event was archived."""
    scene.ledger.add(
        Kind.ORDER_CANCELLED, scene.ledger.working(key, perm_id=1, body=None, order_type="MKT", limit_price=None)
    )


@pytest.mark.rule(37)
async def test_a_key_whose_body_no_event_has_any_more_is_compared_with_what_the_key_keeps_of_it() -> None:
    scene, wanted = (
        Scene(),
        {"client_order_id": "k1", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "MKT"},
    )
    without_body(scene, "k1")
    keys = Keys(parse_order(wanted).canonical())
    repeats = Repeats(scene.ledger.book, scene.desk, Archive(scene.ledger.book, keys))  # type: ignore[arg-type]
    new = parse_order(wanted | {"client_order_id": "new"})
    [(status, _)] = await repeats.place_all([parse_order(wanted)], ASKER)
    assert (status, keys.asked) == (200, 1)
    for other in ({"tif": "IOC"}, {"account": ACCOUNT}, {"outside_rth": True}, {"quantity": "11"}):
        before = scene.ledger.book.seq
        with pytest.raises(Problem, match="k1") as caught:
            await repeats.place_all([new, parse_order(wanted | other)], ASKER)
        assert (caught.value.status, scene.ledger.book.seq) == (409, before)
    asked = keys.asked
    [(status, _)] = await repeats.place_all([new], ASKER)
    assert (status, keys.asked) == (201, asked), "a new order costs no read"


@pytest.mark.rule(19)
async def test_a_key_that_keeps_nothing_of_its_body_is_compared_with_the_evidence() -> None:
    scene, wanted = (
        Scene(),
        {"client_order_id": "k1", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "MKT"},
    )
    without_body(scene, "k1")
    repeats = Repeats(scene.ledger.book, scene.desk, Archive(scene.ledger.book, Keys()))  # type: ignore[arg-type]
    [(status, _)] = await repeats.place_all([parse_order(wanted | {"tif": "DAY"})], ASKER)
    assert status == 200
    with pytest.raises(Problem, match="k1"):
        await repeats.place_all([parse_order(wanted | {"side": "SELL"})], ASKER)


@pytest.mark.rule(36)
@pytest.mark.rule(37)
def test_a_standby_that_does_not_have_the_body_does_not_call_anything_its_repetition() -> None:
    ledger, wanted = (
        Ledger(),
        {"client_order_id": "k1", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "MKT"},
    )
    ledger.accept("k1", body=None, order_type="MKT", limit_price=None)
    whole = ledger.accept("k2", body=parse_order(wanted | {"client_order_id": "k2"}).canonical())
    scene = Scene()
    standby = Api(ledger.book, scene.desk, scene.inbound, Access(), lambda: None, Archive(ledger.book, None))  # type: ignore
    for other in ({}, {"side": "SELL"}, {"quantity": "500"}):
        assert standby._repeated(parse_order(wanted | other), ASKER) is None
    known = standby._repeated(parse_order(wanted | {"client_order_id": "k2"}), ASKER)
    assert known is not None
    assert known.id == whole
    with pytest.raises(Problem, match="k2"):
        standby._repeated(parse_order(wanted | {"client_order_id": "k2", "tif": "IOC"}), ASKER)


# ---- numbers


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=200), st.integers(1, 50))
def test_numbers_remember_the_newest_and_say_when_they_forgot(numbers: list[int], room: int) -> None:
    kept = Numbers(room)
    for number in numbers:
        kept.add(number)
    assert all(number in kept for number in numbers[-room:])
    if not kept.forgotten:
        assert all(number in kept for number in numbers)
    assert sum(map(len, (*kept.young.values(), *kept.old.values()))) <= 2 * room


def test_an_execution_that_left_twice_counts_in_its_last_revision() -> None:
    evicted = Evicted()
    evicted.note_execution("DU1", "0001", 1, 5)
    assert (evicted.revision("DU1", "0001"), evicted.revision("DU2", "0001")) == (1, None)
    evicted.note_execution("DU1", "0001", 3, 9)
    assert (evicted.revision("DU1", "0001"), evicted.last_execution_seq) == (3, 9)
    assert [evicted.has("DU1", "0001", n) for n in (1, 2, 3, 4)] == [True, True, True, False]


def test_a_position_goes_on_from_what_left() -> None:
    ledger = Small()
    ledger.filled(0, price="100")
    ledger.filled(1, price="200")
    for n in range(2, 6):
        ledger.filled(n, quantity="10", price="300")
    position = ledger.book.positions[AAPL]
    assert (position.base_quantity, position.base_cost, position.quantity) == (40, 225, 60)
    assert position.average_cost == ledger.whole.positions[AAPL].average_cost == 250


@pytest.mark.rule(9)
@pytest.mark.parametrize("ended_behind_it", [0, 1, 2, 3])
def test_what_ends_and_leaves_within_one_statement_is_spoken_of_no_more_in_it(ended_behind_it: int) -> None:
    """Found by the simulation: a cancel that was asked for while its order filled, and three more ended in the same commit."""
    ledger = Ledger()
    ledger.session()
    ledger.book.keep_ended = 2
    first, *others = (ledger.working(f"k{n}", perm_id=900 + n) for n in range(1 + ended_behind_it))
    ends = [Draft(Kind.ORDER_CANCELLED, {"reason": "cancelled"}, NOON, oid, "local") for oid in (first, *others)]
    trial = Trial(ledger.book)
    for draft in ends:
        assert trial.refuses([draft]) is None
    late = Draft(Kind.CANCEL_REQUESTED, {}, NOON, first, "local")
    passes = trial.refuses([late]) is None
    stays = ended_behind_it < 2
    assert passes == stays
    ledger.write(*ends)
    assert (first in ledger.book.orders) == stays
