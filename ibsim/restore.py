"""The broker's truth from its journal: what a restarted gateway knows. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from ibsim.book import Book
from ibsim.orders import Order, Stage
from ibsim.records import Record, corrected_of, execution_of, order_of

_ENDS = {"cancelled": "Cancelled", "rejected": "Inactive"}


class Memory(Protocol):
    """Who remembers what the book forgets."""

    def over(self, order: Order, entry: Record) -> None:
        """The order ended with this entry."""

    def executed(self, entry: Record) -> None:
        """An `execution` or `correction` entry."""

    def corrected(self, order: Order | None, entry: Record) -> None:
        """An execution was corrected; the order, if it is open."""

    def midnight(self) -> None:
        """The fault of that name struck."""


def restore(book: Book, entries: Iterable[Record], memory: Memory) -> int:
    """Folds the journal into an empty book; returns the highest session number.

    Open orders stand as they did; call `resume` of the book's course for each when the clock may run.
    """
    sessions = 0
    for entry in entries:
        sessions = max(sessions, entry.get("session") or 0)
        kind = entry["kind"]
        if kind == "order":
            _adopt(book, entry)
        elif kind == "restart" and "rollback_ids" in entry:
            book.orders.roll_back(entry["rollback_ids"])
        elif kind == "fault":
            _fault(book, entry, memory)
        elif kind == "correction":
            _correct(book, entry, memory)
        else:
            _fold(book, entry, memory)
    return sessions


def _fault(book: Book, entry: Record, memory: Memory) -> None:
    if entry["fault"] == "midnight":
        memory.midnight()
    elif entry["fault"] == "hold_inside" and "order_id" in entry:
        book.ids(entry["client_id"]).add(entry["order_id"])
    elif entry["fault"] == "forget_untransmitted" and (order := book.orders.by_perm_id.get(entry.get("perm_id", 0))):
        order.done = True
        book.course.forget(order)


def _adopt(book: Book, entry: Record) -> None:
    order = order_of(entry, book.universe)
    order.taken_at = datetime.fromisoformat(entry["at"]).timestamp()
    parent_id = int(str(order.fields.get("parentId", "0")))
    order.parent = book.orders.find(order.client_id, parent_id) if parent_id else None
    book.course.adopt(order)


def _fold(book: Book, entry: Record, memory: Memory) -> None:
    kind = entry["kind"]
    if kind == "execution":
        memory.executed(entry)
    order = book.orders.by_perm_id.get(entry.get("perm_id", 0))
    if order is None:
        return
    if kind == "modify":
        changed = order_of(entry, book.universe)
        order.quantity, order.tif, order.fields = changed.quantity, changed.tif, changed.fields
        order.limit_price, order.aux_price = changed.limit_price, changed.aux_price
        order.expires, order.starts, order.inactive = changed.expires, changed.starts, changed.inactive
    elif kind == "working":
        order.status = entry["status"]
        order.transmit = True
        order.triggered = entry.get("triggered", False)
        order.stage = Stage.WAITING
    elif kind == "execution":
        _execute(order, entry, book)
    elif kind in _ENDS:
        order.status, order.done = _ENDS[kind], True
    if order.done:
        book.course.forget(order)
        memory.over(order, entry)


def _execute(order: Order, entry: Record, book: Book) -> None:
    execution = execution_of(entry, book.universe)
    book.course.count_execution()
    book.accounts.book(order.account, order.instrument, execution.signed, execution.price, execution.commission)
    order.filled += execution.shares
    order.cost += execution.shares * execution.price
    order.last_price = execution.price
    order.triggered = True
    order.done = order.remaining <= 0
    order.status = "Filled" if order.done else "Submitted"


def _correct(book: Book, entry: Record, memory: Memory) -> None:
    execution, was = corrected_of(entry, book.universe)
    book.accounts.correct(was, execution)
    order = book.orders.by_perm_id.get(execution.perm_id)
    if order is not None:
        order.filled += execution.shares - was.shares
        order.cost += execution.shares * execution.price - was.shares * was.price
    memory.executed(entry)
    memory.corrected(order, entry)
