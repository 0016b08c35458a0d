"""The broker's truth from its journal: what a restarted gateway knows. Pure."""

from collections.abc import Callable, Iterable

from ibsim.book import Book
from ibsim.orders import ZERO, Order
from ibsim.records import Record, execution_of, order_of

_ENDS = {"cancelled": "Cancelled", "rejected": "Inactive"}


def restore(
    book: Book, entries: Iterable[Record], done: Callable[[Order, Record], None], executed: Callable[[Record], None]
) -> int:
    """Folds the journal into an empty book; returns the highest session number.

    `done` gets each order that ended, with the entry that ended it; `executed` each execution's entry. Open orders rest
    as they did; the market's prices start anew.
    """
    sessions = 0
    for entry in entries:
        sessions = max(sessions, entry.get("session", 0))
        kind = entry["kind"]
        if kind == "order":
            book.adopt(order_of(entry, book.universe))
            continue
        order = book.live.get(entry.get("perm_id", 0))
        if kind == "execution":
            executed(entry)
        if order is None:
            continue
        if kind == "modify":
            _modify(order, entry, book)
        elif kind == "working":
            order.sent = True
            order.status = entry["status"]
        elif kind == "execution":
            _execute(order, entry, book)
        elif kind in _ENDS:
            order.status = _ENDS[kind]
        if order.done:
            book.forget(order)
            done(order, entry)
    return sessions


def _modify(order: Order, entry: Record, book: Book) -> None:
    changed = order_of(entry, book.universe)
    order.quantity, order.tif, order.fields = changed.quantity, changed.tif, changed.fields
    order.limit_price, order.aux_price = changed.limit_price, changed.aux_price


def _execute(order: Order, entry: Record, book: Book) -> None:
    execution = execution_of(entry)
    book.count_execution()
    signed = execution.shares if order.side == "BUY" else -execution.shares
    book.accounts.book((order.account, order.instrument.symbol), signed, execution.price, execution.commission)
    order.filled = execution.cumulative
    order.cost = execution.cumulative * execution.average
    order.last_price = execution.price
    order.triggered = True
    if order.remaining <= ZERO:
        order.status = "Filled"
    else:
        order.status = "Submitted"
