"""A book that was written down and read again is the book that was folded, whatever is added to either."""

from __future__ import annotations

import zlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.book import Book
from engine.checkpoint import TRANSIENT, BadCheckpoint, dump, form, load
from engine.digest import written
from engine.events import Event, Kind
from tests.unit.book_factory import NOON, Ledger


def busy() -> Ledger:
    """A ledger with something in every corner of the book."""
    ledger = Ledger()
    ledger.session()
    ledger.working("k1")
    filled = ledger.working("k2", perm_id=901)
    ledger.fill(filled, "0002.01", perm_id=901)
    ledger.add(Kind.COMMISSION, exec_id="0002.01", commission="1.25", currency="USD", realized_pnl=None)
    ledger.fill(None, "0003.01")
    ledger.accept("k3")
    ledger.add(
        Kind.BREAK_OPENED, id="b1", kind="position", symbol="AAPL", account="DU1", ours={"quantity": "1", "a": None},
        broker={"quantity": "2"}, holds=True,
    )  # fmt: skip
    ledger.add(Kind.BREAK_OPENED, id="b2", kind="orphan", symbol="IBM", account="", ours={}, broker={}, holds=False)
    ledger.add(Kind.BREAK_RESOLVED, id="b2", resolution="looked")
    return ledger


def state(book: Book) -> dict[str, Any]:
    return {name: value for name, value in vars(book).items() if name not in TRANSIENT}


def loaded(book: Book) -> Book:
    fresh = Book()
    load(fresh, dump(book), written(book.digest))
    return fresh


def test_a_loaded_book_has_every_attribute_of_the_folded_one() -> None:
    book = busy().book
    assert vars(loaded(book)).keys() == vars(book).keys() >= TRANSIENT
    assert state(loaded(book)) == state(book)
    empty = [name for name, value in state(book).items() if not value and value != 0]
    assert set(empty) <= {
        "open_externals",
        "cancels_wanted",
        "earlier_exec_ids",
        "children",
        "detained",
    }, "the ledger of this test leaves these empty"


def test_an_attribute_that_is_added_to_the_book_is_in_the_next_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    book, before = busy().book, form()
    data = dump(book)
    made = Book.__init__

    def with_more(self: Book, *given: int) -> None:
        made(self, *given)
        self.noticed = {"a": [Decimal("1.50"), NOON], ("b", 1): None}  # type: ignore[attr-defined]

    monkeypatch.setattr(Book, "__init__", with_more)
    assert form() != before
    with pytest.raises(BadCheckpoint, match=before):
        load(Book(), data, written(book.digest))  # an older version's says nothing of it
    newer = Book()
    newer.noticed["c"] = [Decimal(2)]  # type: ignore[attr-defined]
    assert state(loaded(newer)) == state(newer)


def test_a_value_of_an_unknown_type_is_refused_when_it_is_written() -> None:
    book = Book()
    book.noticed = timedelta(seconds=1)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="timedelta"):
        dump(book)


@pytest.mark.guarantee(8)
def test_both_books_go_on_alike_and_share_what_they_shared() -> None:
    ledger = busy()
    again = loaded(ledger.book)
    assert again.open_breaks["b1"] is again.breaks["b1"]
    for event in (*later(ledger, "b1"),):
        again.apply(event)
    assert again.digest == ledger.book.digest
    assert state(again) == state(ledger.book)


def later(ledger: Ledger, break_id: str) -> list[Event]:
    before = len(ledger.log)
    ledger.add(Kind.BREAK_RESOLVED, id=break_id, resolution="looked")
    ledger.fill(next(iter(ledger.book.open_ids)), "0009.01", quantity="3")
    ledger.fill(next(iter(ledger.book.open_ids)), "0009.02", quantity="4")
    ledger.working("k4", perm_id=904)
    return ledger.log[before:]


@pytest.mark.parametrize("spoil", ["digest", "cut", "field", "text"])
def test_a_checkpoint_that_is_not_whole_is_refused_and_the_book_is_as_it_was(spoil: str) -> None:
    book = busy().book
    data, digest = dump(book), written(book.digest)
    if spoil == "digest":
        digest = written(book.digest ^ 1)
    elif spoil == "cut":
        data = data[:-20]
    elif spoil == "field":
        text = zlib.decompress(data)
        assert b'"limit_price"' in text
        data = zlib.compress(text.replace(b"WORKING", b"EXPIRED"))
    else:
        data = zlib.compress(b'{"form": "' + form().encode() + b'", "state": [], "kinds": [], "objects": []}')
    target = Ledger()
    target.session(3)
    before = dict(vars(target.book))
    with pytest.raises(BadCheckpoint):
        load(target.book, data, digest)
    assert vars(target.book) == before


def test_who_listens_to_the_book_goes_on_to_listen() -> None:
    heard: list[Event] = []
    ledger, target = busy(), Book()
    target.observers.append(heard.append)
    load(target, dump(ledger.book), written(ledger.book.digest))
    target.apply(later(ledger, "b1")[0])
    assert len(heard) == 1


def test_a_book_that_let_orders_go_is_the_same_again_with_the_bound_that_the_log_named() -> None:
    ledger = Ledger()
    ledger.add(Kind.MEMORY_BOUND, keep_ended=2)
    ledger.session()
    for n in range(5):
        ledger.fill(ledger.working(f"e{n}", perm_id=700 + n), f"7{n}.01", perm_id=700 + n)
    assert ledger.book.evicted.any
    again = Book()
    load(again, dump(ledger.book), written(ledger.book.digest))
    assert state(again) == state(ledger.book)
    assert again.keep_ended == 2
