"""The book: one fold for everybody, and one number that says whether two books are equal."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import Book, Hole, UnknownKind
from engine.digest import fingerprint
from engine.errors import IllegalTransition
from engine.events import Event, Kind
from engine.fold import FOLDS
from engine.order import Order, State
from engine.trial import Trial
from tests.unit.book_factory import ACCOUNT, CON_IDS, NOON, Ledger
from tests.unit.test_trial import accepted, draft, executed


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with a session up."""
    made = Ledger()
    made.session()
    return made


def folded(log: list[Event]) -> Book:
    """A new book from a log."""
    book = Book()
    for event in log:
        book.apply(event)
    return book


def entities(book: Book) -> Iterator[Any]:
    """Everything that the digest counts."""
    for group in (book.orders, book.executions, book.positions, book.breaks):
        yield from group.values()


def digest_anew(book: Book) -> int:
    """The digest, counted over everything instead of kept."""
    bare = Book()
    for entity in entities(book):
        bare.count(dataclasses.replace(entity, fingerprint=0, **({"constant": 0} if isinstance(entity, Order) else {})))
    return bare.digest


# ---- logs


def _moves(oid: str) -> list[Any]:
    fields = {"session": 1, "broker_order_id": 3, "perm_id": 900, "reason": "x", "quantity": "8"}
    kinds = [
        Kind.ORDER_LICENSED, Kind.ORDER_UNLICENSED, Kind.ORDER_WORKING, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED,
        Kind.ORDER_EXPIRED, Kind.ORDER_IN_DOUBT, Kind.CANCEL_REQUESTED, Kind.CANCEL_LICENSED, Kind.ORDER_CHANGED,
    ]  # fmt: skip
    return [
        *(draft(kind, oid, **fields) for kind in kinds),
        *(executed(oid, f"{oid}{n}.0{r}", q) for n in "12" for r in "12" for q in ("4", "6", "10")),
        *(draft(Kind.COMMISSION, None, exec_id=f"{oid}1.01", commission="1", currency="USD") for _ in range(2)),
    ]


@st.composite
def logs(draw: st.DrawFn, orders: tuple[str, ...] = ("A", "B", "C")) -> list[Event]:
    """A log that the trial let pass, of a few orders and whatever may happen to them."""
    ledger = Ledger()
    ledger.session()
    steps = st.sampled_from(orders).flatmap(
        lambda oid: st.sampled_from([accepted(oid), accepted(oid, 1), *_moves(oid)])
    )
    for step in draw(st.lists(steps, max_size=30)):
        known = step.order_id is None or step.order_id in ledger.book.orders or step.kind is Kind.ORDER_ACCEPTED
        if known and Trial(ledger.book).refuses([step]) is None:
            ledger.write(dataclasses.replace(step, event_id=str(ledger.book.seq)))
    return ledger.log


# ---- the digest


@settings(max_examples=150, deadline=None)
@given(logs())
@pytest.mark.guarantee(8)
def test_equal_logs_give_equal_books_and_digests_at_every_seq(log: list[Event]) -> None:
    one, other = folded(log), folded(copy.deepcopy(log))
    assert (one.seq, one.digest) == (other.seq, other.digest)
    assert [one.digest_at(seq) for seq in range(1, one.seq + 1)] == [
        other.digest_at(seq) for seq in range(1, one.seq + 1)
    ]


@settings(max_examples=150, deadline=None)
@given(logs())
@pytest.mark.guarantee(8)
def test_digest_that_is_kept_equals_the_one_counted_over_everything(log: list[Event]) -> None:
    book = folded(log)
    assert book.digest == digest_anew(book)
    assert book.digest == sum(entity.fingerprint for entity in entities(book)) % 2**64


@settings(max_examples=150, deadline=None)
@given(logs())
def test_indexes_say_what_the_orders_say(log: list[Event]) -> None:
    book = folded(log)
    assert list(book.open_ids) == [o.id for o in book.orders.values() if not o.final]
    assert list(book.queued) == [o.id for o in book.orders.values() if o.state is State.QUEUED]  # R9
    assert set(book.open_externals) == {o.id for o in book.orders.values() if o.external and not o.final}
    assert set(book.cancels_wanted) == {
        o.id for o in book.orders.values() if o.cancel_requested and o.cancel_session is None and not o.final
    }
    for order in book.orders.values():
        assert order.filled == sum(e.quantity for e in book.executions.values() if e.order_id == order.id)
    total = sum(e.signed for e in book.executions.values())
    assert sum(p.quantity for p in book.positions.values()) == total


@pytest.mark.guarantee(8)
def test_any_change_of_any_entity_changes_the_digest(ledger: Ledger) -> None:
    seen = {ledger.book.digest}
    oid = ledger.accept(session=1)
    for step in (
        lambda: ledger.work(oid),
        lambda: ledger.add(Kind.CANCEL_REQUESTED, oid),
        lambda: ledger.fill(oid, quantity="4"),
        lambda: ledger.add(Kind.COMMISSION, exec_id="0001.01", commission="1", currency="USD"),
        lambda: ledger.add(Kind.BREAK_OPENED, id="B", kind="twin", symbol="AAPL", ours={}, broker={}, holds=True),
        lambda: ledger.add(Kind.BREAK_RESOLVED, id="B", resolution="x"),
    ):
        assert ledger.book.digest not in seen
        seen.add(ledger.book.digest)
        step()
    assert ledger.book.digest not in seen


_OTHER: dict[str, Any] = {
    "str": "other", "int": 99, "bool": True, "Decimal": Decimal("3.5"), "datetime": NOON + timedelta(days=9), "dict": {"z": "9"},
    "State": State.REJECTED,
}  # fmt: skip
_NOT_COUNTED = {"seq", "accepted_seq", "constant", "fingerprint", "base_quantity", "base_cost"}


def _other(value: Any, annotation: str) -> Any:
    """Another value of a field's type."""
    name = annotation.removesuffix(" | None").partition("[")[0]
    return (not value) if name == "bool" else _OTHER[name]


@pytest.mark.guarantee(8)
def test_every_field_of_every_entity_counts_but_its_place_in_the_log(ledger: Ledger) -> None:
    ledger.fill(ledger.working())
    ledger.add(Kind.BREAK_OPENED, id="B", kind="twin", symbol="AAPL", ours={}, broker={}, holds=True)
    tried = set()
    for entity in entities(ledger.book):
        anew = {"constant": 0} if isinstance(entity, Order) else {}
        before = fingerprint(dataclasses.replace(entity, **anew))
        for item in dataclasses.fields(entity):
            if item.name == "constant":
                continue
            change = {item.name: _other(getattr(entity, item.name), str(item.type))}
            after = fingerprint(dataclasses.replace(entity, **(anew | change)))
            assert (after == before) == (item.name in _NOT_COUNTED), item.name
            tried.add(type(entity).__name__)
    assert tried == {"Order", "Execution", "Position", "Break"}


@settings(max_examples=100, deadline=None)
@given(logs())
def test_part_of_an_orders_hash_that_is_kept_is_what_it_would_be_now(log: list[Event]) -> None:
    for order in folded(log).orders.values():
        assert fingerprint(dataclasses.replace(order, constant=0)) == order.fingerprint


def test_digest_is_remembered_for_a_while_and_unknown_before_and_after(ledger: Ledger) -> None:
    at = {ledger.book.seq: ledger.book.digest}
    for n in range(3):
        ledger.accept(f"k{n}")
        at[ledger.book.seq] = ledger.book.digest
    assert {seq: ledger.book.digest_at(seq) for seq in at} == at
    assert ledger.book.digest_at(ledger.book.seq + 1) is None
    assert ledger.book.digest_at(-1) is None


def _interleaved(first: str, second: str) -> Book:
    ledger = Ledger()
    for oid, other in ((first, second), (second, first)):
        del other
        ledger.write(dataclasses.replace(accepted(oid), at=NOON))
        ledger.write(draft(Kind.ORDER_CANCELLED, oid, reason="x"))
    return ledger.book


@pytest.mark.guarantee(8)
def test_digest_does_not_depend_on_the_order_of_unrelated_events() -> None:
    assert _interleaved("A", "B").digest == _interleaved("B", "A").digest


def _as_jsonb(value: Any) -> Any:
    """How PostgreSQL gives a JSON object back: keys by length, then by bytes."""
    if isinstance(value, dict):
        return {key: _as_jsonb(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    return value


def _read_back(log: list[Event], zone: ZoneInfo | None = None) -> list[Event]:
    """The log as a standby reads it: payloads through JSONB, times in the database session's zone."""
    return [
        dataclasses.replace(
            event,
            payload=_as_jsonb(json.loads(json.dumps(event.payload))),
            at=event.at.astimezone(zone) if zone is not None else event.at,
        )
        for event in log
    ]


def _with_a_body() -> list[Event]:
    ledger = Ledger()
    ledger.session()
    oid = ledger.accept(
        body={"client_order_id": "k1", "limit_price": "190.5", "side": "BUY", "symbol": "AAPL"}, session=1
    )
    ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="x")
    ledger.add(
        Kind.BREAK_OPENED, oid, id="B", kind="in_doubt", symbol="AAPL", account=ACCOUNT, holds=True,
        ours={"state": "SENDING", "quantity": "10"}, broker={"shown": "nothing", "filled": None},
    )  # fmt: skip
    return ledger.log


@pytest.mark.guarantee(8)
def test_log_that_went_through_the_database_gives_the_leaders_digest() -> None:
    log = _with_a_body()
    assert folded(_read_back(log)).digest == folded(log).digest


@pytest.mark.guarantee(8)
@pytest.mark.parametrize("zone", ["Etc/UTC", "America/New_York"])
def test_zone_of_the_database_session_does_not_change_the_digest(zone: str) -> None:
    ledger = Ledger()
    ledger.accept()
    assert folded(_read_back(ledger.log, ZoneInfo(zone))).digest == ledger.book.digest


# ---- the fold


@pytest.mark.rule(21)
def test_hole_or_repeat_in_the_log_stops_the_fold_and_changes_nothing(ledger: Ledger) -> None:
    ledger.accept()
    before = ledger.book.digest
    for seq in (ledger.book.seq, ledger.book.seq + 2, 1):
        with pytest.raises(Hole):
            ledger.book.apply(dataclasses.replace(ledger.log[-1], seq=seq))
    assert (ledger.book.seq, ledger.book.digest) == (2, before)


@pytest.mark.rule(22)
def test_kind_that_this_version_does_not_know_stops_the_fold_and_changes_nothing(ledger: Ledger) -> None:
    with pytest.raises(UnknownKind, match="order_teleported"):
        ledger.book.apply(dataclasses.replace(ledger.log[-1], seq=2, kind="order_teleported"))
    assert ledger.book.seq == 1


def test_move_that_the_table_has_not_raises_and_changes_nothing(ledger: Ledger) -> None:
    oid = ledger.accept()
    before = (ledger.book.seq, ledger.book.digest, repr(ledger.order(oid)))
    with pytest.raises(IllegalTransition):
        ledger.book.apply(Event(3, 5, Kind.ORDER_IN_DOUBT, {}, NOON, oid, None, None, "e"))
    assert (ledger.book.seq, ledger.book.digest, repr(ledger.order(oid))) == before


def test_every_kind_has_its_fold() -> None:
    assert set(FOLDS) == set(Kind)


@pytest.mark.rule(2)
def test_accepting_commit_with_a_session_is_the_licence(ledger: Ledger) -> None:
    queued, sending = ledger.order(ledger.accept("a")), ledger.order(ledger.accept("b", session=1, broker_id=17))
    assert (queued.state, queued.session, queued.licence_epoch) == (State.QUEUED, None, None)
    assert (sending.state, sending.session, sending.broker_order_id, sending.licence_epoch) == (State.SENDING, 1, 17, 5)


@pytest.mark.rule(4)
def test_floor_of_order_ids_is_raised_by_every_id_seen_and_never_lowered(ledger: Ledger) -> None:
    ledger.accept("a", session=1, broker_id=17)
    assert ledger.book.order_id_floor == 18
    ledger.session(2, next_valid_id=5)  # rolled back
    assert ledger.book.order_id_floor == 18
    ledger.session(3, next_valid_id=40)
    assert ledger.book.order_id_floor == 40
    queued = ledger.accept("b")
    ledger.add(Kind.ORDER_LICENSED, queued, session=3, broker_order_id=44)
    assert ledger.book.order_id_floor == 45


@pytest.mark.rule(4)
def test_licence_that_was_taken_back_leaves_the_order_queued_with_its_reference(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.add(Kind.ORDER_UNLICENSED, oid, reason="the session is gone")
    order = ledger.order(oid)
    assert (order.state, order.session, order.licence_epoch, order.epoch) == (State.QUEUED, None, None, 5)
    assert list(ledger.book.queued) == [oid]


@pytest.mark.rule(9)
def test_queue_stays_in_order_of_acceptance(ledger: Ledger) -> None:
    first, second = ledger.accept("a", session=1), ledger.accept("b")
    ledger.add(Kind.ORDER_UNLICENSED, first, reason="the session is gone")
    assert list(ledger.book.queued) == [first, second]


@pytest.mark.guarantee(5)
def test_execution_is_booked_once_and_a_correction_replaces_it(ledger: Ledger) -> None:
    oid = ledger.working()
    key = (ACCOUNT, CON_IDS["AAPL"])
    ledger.fill(oid, "0001.01", quantity="4")
    repeat = dataclasses.replace(ledger.log[-1], seq=ledger.book.seq + 1)
    before = ledger.book.digest
    ledger.book.apply(repeat)  # the fold itself shrugs, whoever wrote it
    assert (ledger.book.digest, ledger.book.positions[key].quantity) == (before, 4)
    ledger.fill(oid, "0001.02", quantity="3")
    assert (ledger.order(oid).filled, ledger.book.positions[key].quantity, len(ledger.book.executions)) == (3, 3, 1)


def test_correction_keeps_the_commission(ledger: Ledger) -> None:
    ledger.fill(None, "0001.01")
    ledger.add(Kind.COMMISSION, exec_id="0001.01", commission="1.25", currency="USD", realized_pnl=None)
    ledger.fill(None, "0001.02", quantity="9")
    assert str(ledger.book.executions[ACCOUNT, "0001"].commission) == "1.25"


@pytest.mark.rule(26)
def test_execution_of_a_twin_does_not_give_the_order_the_twins_perm_id(ledger: Ledger) -> None:
    oid = ledger.working(perm_id=900)
    ledger.fill(oid, quantity="4", perm_id=901)
    assert (ledger.order(oid).perm_id, ledger.order(oid).filled) == (900, 4)
    assert ledger.book.by_perm_id == {900: oid}


def test_correction_of_an_execution_that_was_nobodys_then_counts_wholly_for_its_order(ledger: Ledger) -> None:
    ledger.fill(None, "0001.01", quantity="4")
    oid = ledger.working()
    ledger.fill(oid, "0001.02", quantity="5")
    assert (ledger.order(oid).filled, ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity) == (5, 5)
    ledger.fill(None, "0001.03", quantity="6")  # said of nobody, it is still that order's
    assert (ledger.order(oid).filled, ledger.book.executions[ACCOUNT, "0001"].order_id) == (6, oid)


def test_execution_that_comes_before_all_other_evidence_tells_when_the_order_was_sent(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.fill(oid, sent_at="2026-01-02T11:59:59.000000Z")
    assert ledger.order(oid).sent_at == NOON - timedelta(seconds=1)
    assert ledger.order(oid).con_id == CON_IDS["AAPL"]


@pytest.mark.rule(28)
def test_order_that_was_changed_at_the_broker_has_the_brokers_figures_and_another_revision(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.add(Kind.ORDER_CHANGED, oid, quantity="6", limit_price="191")
    order = ledger.order(oid)
    assert (order.quantity, order.limit_price, order.revision, order.state) == (6, 191, 2, State.WORKING)
    ledger.fill(oid, quantity="6")
    assert order.state is State.FILLED
    ledger.add(Kind.ORDER_CHANGED, oid, quantity="9")  # made larger after it was filled
    assert (order.state, order.remaining, oid in ledger.book.open_ids) == (State.WORKING, 3, True)


@pytest.mark.rule(28)
def test_order_made_as_small_as_its_fills_is_filled(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, quantity="4")
    ledger.add(Kind.ORDER_CHANGED, oid, quantity="4")
    assert ledger.order(oid).state is State.FILLED


def test_break_id_that_is_opened_twice_stops_the_fold_and_changes_nothing(ledger: Ledger) -> None:
    opened = ledger.add(Kind.BREAK_OPENED, id="B", kind="twin", symbol="AAPL", ours={}, broker={}, holds=True)
    before = ledger.book.digest
    with pytest.raises(ValueError, match="opened twice"):
        ledger.book.apply(dataclasses.replace(opened, seq=opened.seq + 1))
    assert (ledger.book.seq, ledger.book.digest) == (opened.seq, before)


def test_id_of_somebody_elses_order_does_not_raise_the_floor(ledger: Ledger) -> None:
    external = accepted("E")
    ledger.write(dataclasses.replace(external, kind=Kind.ORDER_EXTERNAL, payload=external.payload | {"body": None}))
    ledger.add(Kind.ORDER_WORKING, "E", broker_order_id=900, perm_id=5)
    assert (ledger.book.order_id_floor, ledger.book.by_broker_id) == (1, {})


def test_execution_of_nobody_moves_the_position_and_no_order(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(None, side="SELL", perm_id=5)
    assert ledger.order(oid).filled == 0
    assert ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]].quantity == -10


@pytest.mark.rule(27)
def test_correction_that_names_another_contract_does_not_move_two_positions(ledger: Ledger) -> None:
    ledger.fill(None, "0001.01")
    booked = ledger.log[-1]
    wrong = booked.payload | {"exec_id": "0001.02", "con_id": CON_IDS["IBM"], "symbol": "IBM"}
    before = ledger.book.digest
    ledger.book.apply(dataclasses.replace(booked, seq=booked.seq + 1, payload=wrong))  # the trial would refuse it
    assert {p.symbol: p.quantity for p in ledger.book.positions.values()} == {"AAPL": 10}
    assert ledger.book.digest == before


@pytest.mark.rule(19)
def test_restored_order_has_its_own_epoch_and_raises_the_floor_and_an_external_one_does_not(ledger: Ledger) -> None:
    fields: dict[str, Any] = {
        "client_order_id": None, "body": None, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY", "quantity": "10",
        "order_type": "LMT", "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD",
    }  # fmt: skip
    ledger.add(Kind.ORDER_EXTERNAL, "E" * 16, **fields, perm_id=1, broker_order_id=900)
    assert ledger.book.order_id_floor == 1
    ledger.add(Kind.ORDER_RESTORED, "R" * 16, **fields, perm_id=2, broker_order_id=300, epoch=3)
    assert ledger.book.order_id_floor == 301
    restored, external = ledger.order("R" * 16), ledger.order("E" * 16)
    assert (restored.epoch, restored.external, restored.key) == (3, False, None)
    assert (external.epoch, external.external, external.state) == (5, True, State.WORKING)
    assert ledger.book.by_broker_id == {300: "R" * 16}


def test_open_break_that_holds_freezes_its_contract_until_it_is_resolved(ledger: Ledger) -> None:
    fields: dict[str, Any] = {"symbol": "AAPL", "ours": {}, "broker": {}}
    ledger.add(Kind.BREAK_OPENED, id="soft", kind="external_position", account=ACCOUNT, holds=False, **fields)
    assert ledger.book.holding(ACCOUNT, "AAPL") is None
    ledger.add(Kind.BREAK_OPENED, id="hard", kind="position", account=ACCOUNT, holds=True, **fields)
    ledger.add(Kind.BREAK_OPENED, id="all", kind="position", account="", holds=True, **(fields | {"symbol": "IBM"}))
    assert (ledger.book.holding(ACCOUNT, "AAPL") or Any).id == "hard"
    assert ledger.book.holding("DU2", "AAPL") is None
    assert (ledger.book.holding("DU2", "IBM") or Any).id == "all"  # of every account
    ledger.add(Kind.BREAK_RESOLVED, id="hard", resolution="booked")
    assert ledger.book.holding(ACCOUNT, "AAPL") is None
    assert ledger.book.breaks["hard"].resolution == "booked"


def test_touched_entities_are_named_for_the_projection(ledger: Ledger) -> None:
    ledger.book.dirty.clear()
    oid = ledger.working()
    ledger.fill(oid)
    key = (ACCOUNT, CON_IDS["AAPL"])
    assert set(ledger.book.dirty) == {("order", oid), ("execution", (ACCOUNT, "0001")), ("position", key)}


def test_events_times_are_those_of_the_log(ledger: Ledger) -> None:
    oid = ledger.accept()
    ledger.write(dataclasses.replace(draft(Kind.ORDER_CANCELLED, oid, reason="x"), at=NOON + timedelta(seconds=9)))
    order: Order = ledger.order(oid)
    assert (order.updated_at - NOON, order.seq, order.accepted_seq) == (timedelta(seconds=9), 3, 2)


@pytest.mark.rule(28)
@pytest.mark.guarantee(5)
def test_adjustment_moves_the_position_for_good_and_counts_in_the_digest(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.01", quantity="4")
    before, contract = ledger.book.digest, (ACCOUNT, CON_IDS["AAPL"])
    flow = {"account": ACCOUNT, "con_id": contract[1], "symbol": "AAPL", "by": "ops", "break_id": "B"}
    ledger.add(Kind.POSITION_ADJUSTED, None, quantity="-1.5", **flow)
    assert (ledger.book.positions[contract].quantity, ledger.book.positions[contract].average_cost) == (
        Decimal("2.5"), Decimal("190.50"),
    )  # fmt: skip
    assert ledger.book.digest != before
    ledger.fill(oid, "0001.02", quantity="3")  # a correction books the executions anew, upon the adjustment
    assert ledger.book.positions[contract].quantity == Decimal("1.5")
    other = (ACCOUNT, CON_IDS["IBM"])
    ledger.add(Kind.POSITION_ADJUSTED, None, quantity="7", **(flow | {"con_id": other[1], "symbol": "IBM"}))
    assert ledger.book.positions[other].quantity == 7
