"""The trial refuses exactly what the fold would refuse, and a refused group leaves no trace."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import Book
from engine.events import Draft, Kind, place
from engine.order import State
from engine.trial import Trial
from tests.unit.book_factory import NOON, Ledger


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with a session up."""
    made = Ledger()
    made.session()
    return made


def draft(kind: Kind, oid: str | None = None, /, **payload: Any) -> Draft:
    """A draft with this payload."""
    return Draft(kind, payload, NOON, oid, "local")


def accepted(oid: str, session: int | None = None) -> Draft:
    """An acceptance as the desk drafts it."""
    licence = {} if session is None else {"session": session, "broker_order_id": 1}
    return draft(
        Kind.ORDER_ACCEPTED, oid, client_order_id=oid, body={}, account="DU1", symbol="AAPL", side="BUY", quantity="10",
        order_type="MKT", tif="DAY", sec_type="STK", exchange="SMART", currency="USD", **licence,
    )  # fmt: skip


def executed(oid: str | None, exec_id: str = "0001.01", quantity: str = "10") -> Draft:
    """An execution as inbound drafts it."""
    return draft(
        Kind.EXECUTION, oid, exec_id=exec_id, account="DU1", con_id=1, symbol="AAPL", side="BUY", quantity=quantity,
        price="100", exchange="SMART", perm_id=900, at="2026-01-02T12:00:00Z",
    )  # fmt: skip


def test_what_folds_passes(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    assert Trial(ledger.book).refuses([draft(Kind.ORDER_WORKING, oid, perm_id=900), executed(oid)]) is None


@pytest.mark.parametrize(
    ("state", "kind"),
    [("queued", Kind.ORDER_IN_DOUBT), ("queued", Kind.ORDER_UNLICENSED), ("working", Kind.ORDER_LICENSED),
     ("working", Kind.ORDER_EXPIRED), ("filled", Kind.ORDER_CANCELLED), ("filled", Kind.ORDER_WORKING)],
)  # fmt: skip
def test_move_that_the_table_has_not_is_refused(ledger: Ledger, state: str, kind: Kind) -> None:
    oid = ledger.accept() if state == "queued" else ledger.working()
    if state == "filled":
        ledger.fill(oid)
    why = Trial(ledger.book).refuses([draft(kind, oid, session=1, broker_order_id=3, reason="x")])
    assert why is not None
    assert "no transition" in why


@pytest.mark.rule(37)
def test_order_is_accepted_once(ledger: Ledger) -> None:
    oid = ledger.accept()
    trial = Trial(ledger.book)
    assert trial.refuses([accepted(oid)]) is not None
    assert trial.refuses([accepted("NEW")]) is None
    assert trial.refuses([accepted("NEW")]) is not None  # of the same statement


@pytest.mark.guarantee(5)
def test_execution_is_booked_once_in_each_revision(ledger: Ledger) -> None:
    oid = ledger.working()
    trial = Trial(ledger.book)
    assert trial.refuses([executed(oid, "0001.02", "4")]) is None
    assert trial.refuses([executed(oid, "0001.02", "4")]) is not None
    assert trial.refuses([executed(oid, "0001.01", "4")]) is not None
    assert trial.refuses([executed(oid, "0001.03", "4")]) is None


def test_unknown_order_and_break_that_is_not_open_are_refused(ledger: Ledger) -> None:
    trial = Trial(ledger.book)
    assert trial.refuses([draft(Kind.ORDER_WORKING, "NOBODY")]) is not None
    assert trial.refuses([executed("NOBODY")]) is not None
    assert trial.refuses([draft(Kind.BREAK_RESOLVED, None, id="B1", resolution="x")]) is not None


def test_groups_of_one_statement_are_tried_one_after_another(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    trial = Trial(ledger.book)
    assert trial.refuses([executed(oid)]) is None
    assert trial.refuses([draft(Kind.ORDER_CANCELLED, oid, reason="x")]) is not None  # FILLED by then


@pytest.mark.rule(9)
def test_refused_group_leaves_no_trace(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    trial = Trial(ledger.book)
    assert trial.refuses([executed(oid), draft(Kind.ORDER_CANCELLED, oid, reason="x")]) is not None
    assert trial.refuses([draft(Kind.ORDER_CANCELLED, oid, reason="x")]) is None
    assert ledger.order(oid).state is State.SENDING  # and the book was never touched


def test_trial_touches_nothing(ledger: Ledger) -> None:
    oid = ledger.working()
    before = (ledger.book.digest, repr(ledger.order(oid)))
    Trial(ledger.book).refuses([executed(oid), executed(None, "0002.01")])
    assert (ledger.book.digest, repr(ledger.order(oid))) == before


# ---- what passes folds, and what the fold refuses never passes


_KINDS = [
    Kind.ORDER_LICENSED, Kind.ORDER_UNLICENSED, Kind.ORDER_WORKING, Kind.ORDER_CHANGED, Kind.ORDER_CANCELLED,
    Kind.ORDER_REJECTED, Kind.ORDER_EXPIRED, Kind.ORDER_IN_DOUBT, Kind.CANCEL_REQUESTED, Kind.CANCEL_LICENSED,
    Kind.TWIN_CANCEL_LICENSED,
]  # fmt: skip
_FIELDS = {"session": 1, "broker_order_id": 3, "perm_id": 900, "reason": "x", "quantity": "6"}
_STRANGE = [
    draft(Kind.ORDER_WORKING, None), draft(Kind.EXECUTION, "a", exec_id="0009.01"), draft(Kind.SESSION_OPENED, session="x"),
    draft(Kind.ORDER_LICENSED, "a"), draft(Kind.COMMISSION, None, exec_id="0001.01", commission="much", currency="USD"),
    draft(Kind.ORDER_CHANGED, "a", quantity="many"), draft(Kind.ORDER_ACCEPTED, "b", client_order_id="b"),
    draft(Kind.BREAK_OPENED, None, id="B1"), draft(Kind.BREAK_RESOLVED, None, id="B2"),
    dataclasses.replace(executed("a", "0001.03"), payload=executed("a", "0001.03").payload | {"side": "SELL"}),
    dataclasses.replace(accepted("c"), payload=accepted("c").payload | {"client_order_id": "a"}),
]  # fmt: skip


def _opened(break_id: str) -> Draft:
    return draft(
        Kind.BREAK_OPENED, None, id=break_id, kind="twin", symbol="AAPL", account="DU1", ours={}, broker={}, holds=True
    )


def _drafts(oid: str) -> list[Draft]:
    return [
        accepted(oid),
        accepted(oid, session=1),
        *(draft(kind, oid, **_FIELDS) for kind in _KINDS),
        *(executed(oid, exec_id, q) for exec_id in ("0001.01", "0001.02", "0002.01") for q in ("4", "6", "10")),
    ]


_ANY = st.sampled_from(
    [
        *_drafts("a"),
        *_drafts("b"),
        executed(None),
        *(draft(Kind.COMMISSION, None, exec_id=e, commission="1", currency="USD") for e in ("0001.01", "0002.01")),
        _opened("B1"),
        draft(Kind.BREAK_RESOLVED, None, id="B1", resolution="x"),
        draft(Kind.SESSION_CLOSED, None, session=1),
        *_STRANGE,
    ]
)


def _folds(book: Book, drafts: Sequence[Draft]) -> bool:
    """Whether the fold takes them all, one after the other."""
    try:
        for one in drafts:
            book.apply(place(one, book.seq + 1, 5))
    except Exception:  # noqa: BLE001 - the question is whether anything is raised
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.lists(_ANY, min_size=1, max_size=3), min_size=1, max_size=3), max_size=6))
@pytest.mark.rule(9)
def test_what_passes_folds_and_what_the_fold_refuses_does_not_pass(statements: list[list[list[Draft]]]) -> None:
    ledger = Ledger()
    ledger.session()
    for statement in statements:
        trial, passed = Trial(ledger.book), list[Draft]()
        for group in statement:
            would_fold = _folds(copy.deepcopy(ledger.book), [*passed, *group])
            refused = trial.refuses(group) is not None
            assert refused or would_fold
            passed += () if refused else group
        assert _folds(ledger.book, passed)


@pytest.mark.parametrize("strange", _STRANGE, ids=lambda d: str(d.kind))
def test_draft_that_the_fold_cannot_read_is_refused_with_a_sentence(ledger: Ledger, strange: Draft) -> None:
    ledger.write(accepted("a", session=1), executed("a", "0001.01", "4"))
    assert Trial(ledger.book).refuses([strange])


@pytest.mark.rule(37)
def test_key_of_another_order_is_refused(ledger: Ledger) -> None:
    trial = Trial(ledger.book)
    assert trial.refuses([accepted("a")]) is None
    same_key = dataclasses.replace(accepted("b"), payload=accepted("b").payload | {"client_order_id": "a"})
    assert "belongs to order a" in (trial.refuses([same_key]) or "")


@pytest.mark.rule(27)
@pytest.mark.parametrize("change", [{"side": "SELL"}, {"con_id": 2}])
def test_correction_that_names_another_contract_or_side_is_refused(ledger: Ledger, change: dict[str, Any]) -> None:
    ledger.write(executed(None, "0001.01"))
    wrong = executed(None, "0001.02")
    assert Trial(ledger.book).refuses([dataclasses.replace(wrong, payload=wrong.payload | change)]) is not None
    assert Trial(ledger.book).refuses([wrong]) is None


def test_cancel_of_an_order_that_is_not_there_is_refused(ledger: Ledger) -> None:
    assert Trial(ledger.book).refuses([draft(Kind.CANCEL_REQUESTED, "NOBODY")]) is not None


def test_moves_of_an_order_that_is_new_in_the_statement_are_tried_too(ledger: Ledger) -> None:
    group = [accepted("NEW", session=1), executed("NEW"), draft(Kind.ORDER_CANCELLED, "NEW", reason="x")]
    assert not _folds(copy.deepcopy(ledger.book), group)
    assert Trial(ledger.book).refuses(group) is not None


def test_break_is_resolved_once_in_a_statement(ledger: Ledger) -> None:
    ledger.add(
        Kind.BREAK_OPENED, id="B1", kind="position", symbol="AAPL", account="DU1", ours={}, broker={}, holds=True
    )
    trial = Trial(ledger.book)
    assert trial.refuses([draft(Kind.BREAK_RESOLVED, None, id="B1", resolution="first")]) is None
    assert trial.refuses([draft(Kind.BREAK_RESOLVED, None, id="B1", resolution="second")]) is not None


def test_break_id_is_used_once(ledger: Ledger) -> None:
    opened = draft(
        Kind.BREAK_OPENED, None, id="B1", kind="twin", symbol="AAPL", account="DU1", ours={}, broker={}, holds=True
    )
    ledger.write(opened)
    assert Trial(ledger.book).refuses([opened]) is not None
