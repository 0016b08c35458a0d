"""Memory is bounded: orders that have ended leave the book, oldest end first. Pure, and a function of the log alone.

The book keeps every order that has not ended, the last `keep_ended` that have, those that an open break names, and brackets whole.
How many these are stands in the log (`memory_bound`, by the leader's setting): whoever reads it lets go of the same at the same
event, whatever its own setting is, and of nothing where the log names no bound. The digest does not change: it goes on to count
what left as it left (G8). What evidence may still say of it is judged by `engine.evicted` and the database, and an order that is
needed again comes back by an event of its own, `order_recalled`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from engine.digest import fingerprint
from engine.order import Order
from engine.position import Execution

if TYPE_CHECKING:
    from engine.book import Book

UNBOUNDED = 1 << 62
"""Where the log names no bound yet: orders that have ended and stay; executions of no order that stay."""

AT_ONCE = 500
"""Leave with one event at most: the first bound of a long log must not stop the event loop."""


def evict(book: Book) -> tuple[str, ...]:
    """Let go of what is too much, or of the oldest of it; ids of the orders that left."""
    left: list[str] = []
    for _ in range(min(len(book.ended) - book.keep_ended, AT_ONCE)):
        oid, _ = book.ended.popitem(last=False)
        if is_held(book, oid):
            book.detained[oid] = None
        else:
            _let_order_go(book, oid)
            left.append(oid)
    for _ in range(min(len(book.loose) - book.keep_ended, AT_ONCE)):
        key, _ = book.loose.popitem(last=False)
        _let_execution_go(book, key)
    return tuple(left)


def is_held(book: Book, oid: str) -> bool:
    """Whether an open break is about this order or another of its bracket (a person has to look at it), or one of them goes on."""
    named = {found.order_id for found in book.open_breaks.values()}
    return oid in named or any(other in named or other in book.open_ids for other in relatives(book, book.orders[oid]))


def relatives(book: Book, order: Order) -> Iterator[str]:
    """Ids of the others of its bracket: the order on which it hangs, what hangs on that too, and what hangs on it."""
    yield from book.children.get(order.id, ())
    if (parent := order.extra.get("parent")) is not None:
        yield parent
        yield from (other for other in book.children.get(parent, ()) if other != order.id)


def _let_order_go(book: Book, oid: str) -> None:
    order, evicted = book.orders.pop(oid), book.evicted
    _keep_until_projected(book, ("order", oid), order)
    if order.key is not None:
        book.keys.pop(order.key, None)
    for index, number in book.numbers.pop(oid, ()):
        ids = book.by_perm_id if index == "perm" else book.by_broker_id
        if ids.get(number) == oid:
            del ids[number]
    if order.id in (siblings := book.children.get(order.extra.get("parent", ""), [])):
        siblings.remove(order.id)
        if not siblings:
            del book.children[order.extra["parent"]]
    perm_ids = {order.perm_id}
    for key in book.executions_of.pop(oid, ()):
        perm_ids.add(book.executions[key].perm_id)
        _let_execution_go(book, key)
    for perm_id in sorted(number for number in perm_ids if number):
        evicted.perm_ids.add(perm_id)
    evicted.orders += 1
    evicted.last_order_seq = max(evicted.last_order_seq, order.seq)


def _let_execution_go(book: Book, key: tuple[str, str]) -> None:
    execution = book.executions.pop(key)
    _keep_until_projected(book, ("execution", key), execution)
    for exec_id in (*book.earlier_exec_ids.pop(key, ()), execution.exec_id):
        book.exec_by_id.pop(exec_id, None)
    book.positions[execution.account, execution.con_id].let_go(execution.signed, execution.price)
    book.evicted.note_execution(*key, execution.revision, execution.seq)


def _keep_until_projected(book: Book, name: tuple[str, object], entity: Order | Execution) -> None:
    """The tables that people query may not have it yet: it stays until they have."""
    if name in book.dirty:
        book.leaving[name] = entity


def take_back(book: Book, order: Order | None, executions: Iterable[Execution]) -> None:
    """An order with its executions, or executions of no order, as they left. The digest counts them already.

    What is in memory stays as it is: a book that keeps more never let it go. Executions come before those in memory, so that the
    last one stays the last one booked.
    """
    if order is not None and order.id in book.orders:
        return
    back = {key: e for e in executions if (key := (e.account, e.root)) not in book.executions}
    book.executions = back | book.executions
    for key, execution in back.items():
        execution.fingerprint = fingerprint(execution)
        book.exec_by_id[execution.exec_id] = key
        if (position := book.positions.get((execution.account, execution.con_id))) is not None:
            position.take_back(execution.signed, execution.price)
        book.touch("execution", key)
    if order is None:
        book.loose.update(dict.fromkeys(back))
    else:
        order.fingerprint = fingerprint(order)
        book.executions_of[order.id] = list(back)
        book.restore(order)
