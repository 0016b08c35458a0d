"""The book: the event log folded into orders, executions, positions and breaks. Pure.

One function, `Book.apply`, is used by the leader, the standby, a rebuild and the tests. Equal logs give equal books, and
`digest` says so in one number (G8): the sum modulo 2^64 of a hash of each entity's folded state, kept in O(1) per event, so
that the order of unrelated events does not matter.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from engine.clock import from_iso
from engine.events import Event, Kind, Payload
from engine.order import Order, State, next_state, settle
from engine.position import Break, Execution, Position, execution_root

_MASK = (1 << 64) - 1
_REMEMBERED_DIGESTS = 4096

Entity = Order | Execution | Position | Break


class UnknownKind(Exception):
    """The log holds a kind of event that this version cannot read (R22): do not campaign, upgrade first."""


class Hole(Exception):
    """The next event is not the next number: stop, and read again (R21)."""


def decimal(text: str | None) -> Decimal | None:
    """A decimal from its string, None from None."""
    return None if text is None else Decimal(text)


class Book:
    """The folded state at `seq`. Reads are plain attributes; only `apply` writes."""

    def __init__(self) -> None:
        self.seq = 0
        self.digest = 0
        self.orders: dict[str, Order] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.open_ids: dict[str, None] = {}  # ids of orders that have not ended, in order of acceptance
        self.queued: dict[str, None] = {}  # ids of QUEUED orders, in order of acceptance
        self.cancels_wanted: dict[str, None] = {}  # open orders with a cancel that was never licensed
        self.by_broker_id: dict[int, str] = {}
        self.by_perm_id: dict[int, str] = {}
        self.executions: dict[tuple[str, str], Execution] = {}
        self.exec_by_id: dict[str, tuple[str, str]] = {}
        self.positions: dict[tuple[str, int], Position] = {}
        self.breaks: dict[str, Break] = {}
        self.open_breaks: dict[str, Break] = {}
        self.session = 0  # number of the last broker session that was opened
        self.session_open = False
        self.order_id_floor = 1  # the next broker order id is at least this; never lowered
        self.dirty: set[tuple[str, object]] = set()  # entities touched since somebody last took them (projection)
        self.observers: list[Callable[[Event], None]] = []  # told after each event, in order
        self._digests: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_DIGESTS)

    def reset(self) -> None:
        """Forget everything and stand before the first event; observers stay."""
        observers = self.observers
        self.__init__()  # type: ignore[misc]
        self.observers = observers

    # ---- reading

    def open_orders(self) -> Iterator[Order]:
        """Orders that have not ended, in order of acceptance."""
        return (self.orders[i] for i in self.open_ids)

    def digest_at(self, seq: int) -> int | None:
        """The digest when the book stood at `seq`, None when that is too long ago or not reached."""
        if seq == self.seq:
            return self.digest
        return next((digest for at, digest in reversed(self._digests) if at == seq), None)

    def holding(self, account: str, symbol: str) -> Break | None:
        """The open break that freezes this contract, if any."""
        return next(
            (b for b in self.open_breaks.values() if b.holds and b.symbol == symbol and b.account in ("", account)),
            None,
        )

    # ---- the fold

    def apply(self, event: Event) -> None:
        """Fold one event. Raises Hole, UnknownKind, or IllegalTransition; the book is then unchanged."""
        if event.seq != self.seq + 1:
            raise Hole(f"after event {self.seq} comes {self.seq + 1}, not {event.seq}")
        try:
            fold = _FOLDS[Kind(event.kind)]
        except (ValueError, KeyError):
            raise UnknownKind(
                f"event {event.seq} is of kind {event.kind!r}, which this version does not know"
            ) from None
        fold(self, event, event.payload)
        self.seq = event.seq
        self._digests.append((self.seq, self.digest))
        for observer in self.observers:
            observer(event)

    def touch(self, entity: Entity, write: Callable[[], None]) -> None:
        """Run `write` on an entity and keep the digest right."""
        write()
        self.count(entity)

    def count(self, entity: Entity) -> None:
        """Count `entity` as it is now, instead of as it was counted before."""
        before, entity.fingerprint = entity.fingerprint, _hash(entity)
        self.digest = (self.digest - before + entity.fingerprint) & _MASK

    def raise_floor(self, used: int | None) -> None:
        if used is not None:
            self.order_id_floor = max(self.order_id_floor, used + 1)

    def new_order(self, event: Event, p: Payload, state: State) -> None:
        assert event.order_id is not None
        if event.order_id in self.orders:
            raise ValueError(f"order {event.order_id} is accepted twice")
        order = Order(
            id=event.order_id, subject=event.subject or "", client_order_id=p.get("client_order_id"), body=_sorted(p.get("body")),
            account=p["account"], symbol=p["symbol"], side=p["side"], quantity=Decimal(p["quantity"]),
            order_type=p["order_type"], limit_price=decimal(p.get("limit_price")), stop_price=decimal(p.get("stop_price")),
            tif=p["tif"], sec_type=p["sec_type"], exchange=p["exchange"], currency=p["currency"], con_id=p.get("con_id") or 0,
            created_at=event.at, updated_at=event.at, epoch=p.get("epoch", event.epoch), seq=event.seq,
            accepted_seq=event.seq, state=state, perm_id=p.get("perm_id"), broker_order_id=p.get("broker_order_id"),
            licence_epoch=event.epoch if p.get("session") is not None else None, session=p.get("session"),
            correlation_id=event.correlation_id, valid_until=from_iso(p.get("valid_until")),
            external=event.kind == Kind.ORDER_EXTERNAL, extra=_sorted(p.get("extra")) or {}, reason=p.get("reason"),
        )  # fmt: skip
        self.orders[order.id] = order
        if order.key is not None:
            self.keys[order.key] = order.id
        self.raise_floor(order.broker_order_id if not order.external else None)
        self._index(order)
        self.count(order)

    def _index(self, order: Order) -> None:
        if order.broker_order_id is not None and not order.external:
            self.by_broker_id[order.broker_order_id] = order.id
        if order.perm_id:
            self.by_perm_id[order.perm_id] = order.id
        if order.final:
            self.open_ids.pop(order.id, None)
        else:
            self.open_ids[order.id] = None
        _keep(self.queued, order.id, order.state is State.QUEUED)
        _keep(
            self.cancels_wanted, order.id, order.cancel_requested and order.cancel_session is None and not order.final
        )
        self.dirty.add(("order", order.id))

    def change(self, event: Event, write: Callable[[Order], None]) -> None:
        """Move an order along its table, then let `write` note the details."""
        assert event.order_id is not None
        order = self.orders[event.order_id]
        state = next_state(order.state, Kind(event.kind)) if event.kind in _MOVES else order.state

        def change() -> None:
            order.state = state
            write(order)
            order.seq, order.updated_at = event.seq, event.at

        self.touch(order, change)
        self._index(order)


_MOVES = frozenset(
    {
        Kind.ORDER_LICENSED, Kind.ORDER_UNLICENSED, Kind.ORDER_WORKING, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED,
        Kind.ORDER_EXPIRED, Kind.ORDER_IN_DOUBT,
    }
)  # fmt: skip


def _keep(ids: dict[str, None], oid: str, wanted: bool) -> None:
    if wanted:
        ids[oid] = None
    else:
        ids.pop(oid, None)


def _sorted(fields: dict[str, Any] | None) -> dict[str, Any] | None:
    """In one order of keys: PostgreSQL's jsonb keeps its own, and the digest must not depend on which way an event came."""
    return None if fields is None else dict(sorted(fields.items()))


def _hash(entity: Entity) -> int:
    """64 bits of BLAKE2 over an entity's state. Version 1 of the digest: the entity's repr."""
    return int.from_bytes(hashlib.blake2b(repr(entity).encode(), digest_size=8).digest(), "big")


# ---- one small function per kind


def _accepted(book: Book, event: Event, p: Payload) -> None:
    book.new_order(event, p, State.QUEUED if p.get("session") is None else State.SENDING)


def _external(book: Book, event: Event, p: Payload) -> None:
    book.new_order(event, p, State.WORKING)


def _licensed(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.session, order.broker_order_id, order.licence_epoch = p["session"], p["broker_order_id"], event.epoch
        order.reason = None

    book.change(event, write)
    book.raise_floor(p["broker_order_id"])


def _unlicensed(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.session, order.licence_epoch, order.reason = None, None, p.get("reason")

    book.change(event, write)


def _evidence(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.perm_id = p.get("perm_id") or order.perm_id
        order.broker_order_id = p.get("broker_order_id") or order.broker_order_id
        order.con_id = p.get("con_id") or order.con_id
        order.sent_at = from_iso(p.get("sent_at")) or order.sent_at
        order.acknowledged_at = order.acknowledged_at or event.at
        order.reason = p.get("reason")
        settle(order)

    book.change(event, write)
    book.raise_floor(p.get("broker_order_id"))


def _ended(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.perm_id = p.get("perm_id") or order.perm_id
        order.reason = p.get("reason")
        order.sent_at = from_iso(p.get("sent_at")) or order.sent_at

    book.change(event, write)


def _cancel_requested(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.cancel_requested = True
        order.cancel_session = p.get("session") or order.cancel_session

    book.change(event, write)


def _execution(book: Book, event: Event, p: Payload) -> None:
    root, revision = execution_root(p["exec_id"])
    new = Execution(
        p["exec_id"], root, revision, event.order_id, p["account"], p["con_id"], p["symbol"], p["side"],
        Decimal(p["quantity"]), Decimal(p["price"]), p.get("exchange", ""), p.get("perm_id") or 0,
        from_iso(p["at"]) or event.at, event.seq,
    )  # fmt: skip
    old = book.executions.get((new.account, root))
    if old is not None and old.revision >= revision:
        return  # G5: booked already, in this revision or a later one
    position = book.positions.get((new.account, new.con_id))
    if position is None:
        position = book.positions[(new.account, new.con_id)] = Position(new.account, new.con_id, new.symbol)
        book.count(position)
    if event.order_id is not None and event.order_id in book.orders:
        _fill(book, event, old, new)
    if old is not None:
        new.fingerprint = old.fingerprint  # takes the old one's place in the digest
        new.commission, new.commission_currency, new.realized_pnl = (
            old.commission,
            old.commission_currency,
            old.realized_pnl,
        )
    book.executions[(new.account, root)] = new
    book.exec_by_id[new.exec_id] = (new.account, root)
    book.count(new)

    def move() -> None:
        if old is None:
            position.add(new.signed, new.price)
        else:  # as if it had been booked like this from the start
            position.rebuild(e for e in book.executions.values() if (e.account, e.con_id) == (new.account, new.con_id))

    book.touch(position, move)
    book.dirty.update({("execution", (new.account, root)), ("position", (new.account, new.con_id))})


def _fill(book: Book, event: Event, old: Execution | None, new: Execution) -> None:
    def write(order: Order) -> None:
        order.state = next_state(order.state, Kind.EXECUTION)
        order.filled += new.quantity - (old.quantity if old else 0)
        order.notional += new.quantity * new.price - (old.quantity * old.price if old else 0)
        order.perm_id = new.perm_id or order.perm_id
        order.acknowledged_at = order.acknowledged_at or event.at
        settle(order)

    book.change(event, write)


def _commission(book: Book, event: Event, p: Payload) -> None:
    where = book.exec_by_id.get(p["exec_id"])
    if where is None:
        return
    execution = book.executions[where]

    def write() -> None:
        execution.commission, execution.commission_currency = decimal(p["commission"]), p["currency"]
        execution.realized_pnl = decimal(p.get("realized_pnl"))

    book.touch(execution, write)
    book.dirty.add(("execution", where))


def _in_doubt(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.reason = p.get("reason")

    book.change(event, write)


def _break_opened(book: Book, event: Event, p: Payload) -> None:
    ours, broker = _sorted(p["ours"]) or {}, _sorted(p["broker"]) or {}
    found = Break(
        p["id"],
        p["kind"],
        p["symbol"],
        p.get("account", ""),
        event.order_id,
        ours,
        broker,
        event.at,
        bool(p.get("holds")),
    )
    book.breaks[found.id] = book.open_breaks[found.id] = found
    book.count(found)
    book.dirty.add(("break", found.id))


def _break_resolved(book: Book, event: Event, p: Payload) -> None:
    found = book.breaks[p["id"]]

    def write() -> None:
        found.resolved_at, found.resolution = event.at, p["resolution"]

    book.touch(found, write)
    book.open_breaks.pop(found.id, None)
    book.dirty.add(("break", found.id))


def _session_opened(book: Book, event: Event, p: Payload) -> None:
    book.session, book.session_open = p["session"], True
    book.order_id_floor = max(book.order_id_floor, p["next_valid_id"])


def _session_closed(book: Book, event: Event, p: Payload) -> None:
    book.session_open = False


_FOLDS: dict[Kind, Callable[[Book, Event, Payload], None]] = {
    Kind.SESSION_OPENED: _session_opened,
    Kind.SESSION_CLOSED: _session_closed,
    Kind.ORDER_ACCEPTED: _accepted,
    Kind.ORDER_EXTERNAL: _external,
    Kind.ORDER_RESTORED: _external,
    Kind.ORDER_LICENSED: _licensed,
    Kind.ORDER_UNLICENSED: _unlicensed,
    Kind.ORDER_WORKING: _evidence,
    Kind.ORDER_CANCELLED: _ended,
    Kind.ORDER_REJECTED: _ended,
    Kind.ORDER_EXPIRED: _ended,
    Kind.ORDER_IN_DOUBT: _in_doubt,
    Kind.CANCEL_REQUESTED: _cancel_requested,
    Kind.CANCEL_LICENSED: _cancel_requested,
    Kind.EXECUTION: _execution,
    Kind.COMMISSION: _commission,
    Kind.BREAK_OPENED: _break_opened,
    Kind.BREAK_RESOLVED: _break_resolved,
}
