"""What each kind of event does to the book: one small function per kind, and the table of them. Pure.

A function looks before it writes: what it cannot fold, it refuses with the book unchanged. `engine.trial` runs the same functions
on copies before anything is committed, so that the log never holds an event that is refused here.
"""

from __future__ import annotations

# ruff: noqa: ARG001 - one signature for every kind
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from engine import adopt
from engine.clock import from_iso
from engine.events import Event, Kind, Payload
from engine.evict import take_back
from engine.order import Order, State, next_state, settle
from engine.plain import execution_from, order_from
from engine.position import Break, Execution, Position, execution_root

if TYPE_CHECKING:
    from engine.book import Book


def decimal(text: str | None) -> Decimal | None:
    """A decimal from its string, None from None."""
    return None if text is None else Decimal(text)


def new_order(event: Event, p: Payload, state: State) -> Order:
    """The order that this first event of its life makes."""
    assert event.order_id is not None
    return Order(
        id=event.order_id, subject=event.subject or "", client_order_id=p.get("client_order_id"), body=_sorted(p.get("body")),
        account=p["account"], symbol=p["symbol"], side=p["side"], quantity=Decimal(p["quantity"]),
        order_type=p["order_type"], limit_price=decimal(p.get("limit_price")), stop_price=decimal(p.get("stop_price")),
        tif=p["tif"], sec_type=p["sec_type"], exchange=p["exchange"], currency=p["currency"], con_id=p.get("con_id") or 0,
        created_at=event.at, updated_at=event.at, epoch=p.get("epoch", event.epoch), seq=event.seq,
        accepted_seq=event.seq, state=state, perm_id=p.get("perm_id"), broker_order_id=p.get("broker_order_id"),
        licence_epoch=event.epoch if p.get("session") is not None else None, session=p.get("session"),
        kept=not p.get("transmit", True), correlation_id=event.correlation_id, valid_until=from_iso(p.get("valid_until")),
        external=event.kind == Kind.ORDER_EXTERNAL, extra=_sorted(p.get("extra")) or {}, reason=p.get("reason"),
    )  # fmt: skip


def _sorted(fields: dict[str, Any] | None) -> dict[str, Any] | None:
    """In one order of keys: PostgreSQL's jsonb keeps its own, and what people read must not depend on which way an event came."""
    return None if fields is None else dict(sorted(fields.items()))


# ---- orders


def _accepted(book: Book, event: Event, p: Payload) -> None:
    book.add_order(new_order(event, p, State.QUEUED if p.get("session") is None else State.SENDING))


def _recorded(book: Book, event: Event, p: Payload) -> None:
    book.add_order(new_order(event, p, State.WORKING))


def _licensed(book: Book, event: Event, p: Payload) -> None:
    session, broker_order_id = p["session"], p["broker_order_id"]

    def write(order: Order) -> None:
        order.session, order.broker_order_id, order.licence_epoch = session, broker_order_id, event.epoch
        order.kept, order.reason = not p.get("transmit", True), None

    book.change(event, write)
    book.raise_floor(broker_order_id)


def _repeated(book: Book, event: Event, p: Payload) -> None:
    """R1: a new licence under the same broker order id, which must be the highest that was ever used."""
    session, broker_order_id, known = p["session"], p["broker_order_id"], book.orders.get(event.order_id or "")
    if known is not None and known.broker_order_id != broker_order_id:
        raise ValueError(f"order {known.id} has the broker order id {known.broker_order_id}, not {broker_order_id}")
    if book.order_id_floor != broker_order_id + 1:
        raise ValueError(f"a broker order id above {broker_order_id} was used")

    def write(order: Order) -> None:
        order.session, order.licence_epoch, order.reason = session, event.epoch, None
        order.kept = False  # a repetition transmits
        order.repeats += 1

    book.change(event, write)


def _unlicensed(book: Book, event: Event, p: Payload) -> None:
    known = book.orders.get(event.order_id or "")
    if known is not None and known.repeats:
        raise ValueError(f"order {known.id} was licensed before, and may have been written then")

    def write(order: Order) -> None:
        order.session, order.licence_epoch, order.kept, order.reason = None, None, False, p.get("reason")

    book.change(event, write)


def _evidence(book: Book, event: Event, p: Payload) -> None:
    sent_at = from_iso(p.get("sent_at"))

    def write(order: Order) -> None:
        if order.cancel_requested and order.perm_id and p.get("perm_id") not in (None, order.perm_id):
            order.cancel_session = None  # what was asked ended its twin: wanted again of the one that is left (R26)
        order.perm_id = p.get("perm_id") or order.perm_id
        order.broker_order_id = p.get("broker_order_id") or order.broker_order_id
        order.con_id = p.get("con_id") or order.con_id
        order.sent_at = sent_at or order.sent_at
        # R6: IB's own word is never taken back by a status that the gateway gives by itself. The writer says so, not the
        # status: versions that did not look wrote no second event when IB answered
        order.gateway_only = bool(p.get("gateway_only")) and (order.gateway_only or order.acknowledged_at is None)
        order.acknowledged_at = order.acknowledged_at or event.at
        order.reason = p.get("reason")
        settle(order)

    order = book.change(event, write)
    if not order.external:  # somebody else's ids are of another number space
        book.raise_floor(p.get("broker_order_id"))
        book.gateway_used = max(book.gateway_used, p.get("broker_order_id") or 0)


def _changed(book: Book, event: Event, p: Payload) -> None:
    """R28: the order as the broker has it now. Fields that the event does not name stay."""
    figures = {name: Decimal(p[name]) for name in ("quantity", "limit_price", "stop_price") if p.get(name) is not None}

    def write(order: Order) -> None:
        as_asked = bool(figures) and all(decimal(order.asked.get(name)) == figure for name, figure in figures.items())
        for name, figure in figures.items():
            setattr(order, name, figure)
        order.asked = {name: text for name, text in order.asked.items() if Decimal(text) != getattr(order, name)}
        if not as_asked:  # somebody else's change; one of ours was given its revision when it was licensed
            order.revision += 1
        settle(order)

    book.change(event, write)


def _modify_licensed(book: Book, event: Event, p: Payload) -> None:
    """A change is on its way to the broker: the order's figures stay what they are until the broker shows the new ones."""
    changes, session, known = dict(p["changes"]), p["session"], book.orders.get(event.order_id or "")
    if known is not None and p.get("revision", known.revision) != known.revision:
        raise ValueError(f"order {known.id} is at revision {known.revision}, not {p['revision']}")

    def write(order: Order) -> None:
        before = (
            order.asked if order.asked_session == session else {}
        )  # what a dead session was asked is not asked again
        order.asked, order.asked_session = dict(sorted((before | changes).items())), session
        order.revision += 1

    book.change(event, write)


def _modify_refused(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.asked, order.asked_session, order.reason = {}, None, p.get("reason")

    book.change(event, write)


def _ended(book: Book, event: Event, p: Payload) -> None:
    sent_at = from_iso(p.get("sent_at"))

    def write(order: Order) -> None:
        order.perm_id = p.get("perm_id") or order.perm_id
        order.reason = p.get("reason", order.reason)
        order.sent_at = sent_at or order.sent_at

    book.change(event, write)


def _in_doubt(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.reason = p.get("reason")

    book.change(event, write)


def _cancel_requested(book: Book, event: Event, p: Payload) -> None:
    def write(order: Order) -> None:
        order.cancel_requested = True
        order.cancel_session = p.get("session")  # None: asked for anew, whatever an earlier session was asked

    book.change(event, write)


def _twin_cancel_licensed(book: Book, event: Event, p: Payload) -> None:
    """The order itself goes on: the licence is about the other permId under its reference (R26)."""
    book.change(event, lambda _order: None)


def _recalled(book: Book, event: Event, p: Payload) -> None:
    """What had left memory is needed again: the state as it left, read back from the database by the leader."""
    order = None if p["order"] is None else order_from(p["order"])
    take_back(book, order, [execution_from(values) for values in p["executions"]])


# ---- executions


def _execution(book: Book, event: Event, p: Payload) -> None:
    root, revision = execution_root(p["exec_id"])
    old = book.executions.get((p["account"], root))
    order_id = old.order_id if old is not None and old.order_id is not None else event.order_id
    new = Execution(
        p["exec_id"], root, revision, order_id, p["account"], p["con_id"], p["symbol"], p["side"],
        Decimal(p["quantity"]), Decimal(p["price"]), p.get("exchange", ""), p.get("perm_id") or 0,
        from_iso(p["at"]) or event.at, event.seq,
    )  # fmt: skip
    if old is not None and (old.revision >= revision or contradiction(old, new) is not None):
        return  # G5: booked already, in this revision or a later one; or not a correction at all (R27)
    if old is None and book.evicted.revision(p["account"], root) is not None:
        raise ValueError(f"execution {new.exec_id} left memory: booked without being recalled, it would count twice")
    if order_id is not None and order_id in book.orders:
        book.fill(event, order_id, old, new, from_iso(p.get("sent_at")))
    if old is not None:
        new.commission, new.commission_currency = old.commission, old.commission_currency
        new.realized_pnl = old.realized_pnl
    book.put_execution(new, old)


def contradiction(old: Execution, new: Execution) -> str | None:
    """R27: why `new` is no correction of `old`: it names another contract or side, and booking it would move two positions."""
    if (old.con_id, old.side) == (new.con_id, new.side):
        return None
    return (
        f"execution {new.exec_id} is {new.side} of contract {new.con_id}, {old.exec_id} was {old.side} of {old.con_id}"
    )


def filled_by(order: Order, old: Execution | None, new: Execution) -> None:
    """Book `new` on its order, in the place of `old` where it corrects one."""
    order.state = next_state(order.state, Kind.EXECUTION)
    replaced = old is not None and old.order_id == order.id
    order.filled += new.quantity - (old.quantity if old is not None and replaced else 0)
    order.notional += new.quantity * new.price - (old.quantity * old.price if old is not None and replaced else 0)
    order.perm_id = order.perm_id or new.perm_id or None  # a twin's execution does not give the order the twin's permId
    order.con_id = order.con_id or new.con_id
    order.gateway_only = False  # IB has it
    settle(order)


def _commission(book: Book, event: Event, p: Payload) -> None:
    commission, currency, pnl = decimal(p["commission"]), p["currency"], decimal(p.get("realized_pnl"))
    where = book.exec_by_id.get(p["exec_id"])
    if where is None:
        return
    execution = book.executions[where]
    execution.commission, execution.commission_currency, execution.realized_pnl = commission, currency, pnl
    book.count(execution)
    book.touch("execution", where)


# ---- breaks and sessions


def _break_opened(book: Book, event: Event, p: Payload) -> None:
    if p["id"] in book.breaks:
        raise ValueError(f"break {p['id']} is opened twice")
    found = Break(
        p["id"], p["kind"], p["symbol"], p.get("account", ""), event.order_id, _sorted(p["ours"]) or {},
        _sorted(p["broker"]) or {}, event.at, bool(p.get("holds")),
    )  # fmt: skip
    book.breaks[found.id] = book.open_breaks[found.id] = found
    book.count(found)
    book.touch("break", found.id)


def _break_resolved(book: Book, event: Event, p: Payload) -> None:
    found, resolution = book.breaks[p["id"]], p["resolution"]
    found.resolved_at, found.resolution = event.at, resolution
    book.open_breaks.pop(found.id, None)
    book.freed(found.order_id or "")
    book.count(found)
    book.touch("break", found.id)


def _position_adjusted(book: Book, event: Event, p: Payload) -> None:
    """R28: an operator says that a difference is somebody else's trading; the event carries who."""
    contract, signed = (p["account"], int(p["con_id"])), Decimal(p["quantity"])
    position = book.positions.setdefault(contract, Position(*contract, p["symbol"]))
    position.adjust(signed)
    book.count(position)
    book.touch("position", contract)


def _session_opened(book: Book, event: Event, p: Payload) -> None:
    number, next_valid_id = int(p["session"]), int(p["next_valid_id"])
    if p.get("away", True) or next_valid_id <= book.gateway_used:
        book.unbroken_since = number  # it may have restarted before this session, and forgotten what it had read (R1)
    book.gateway_used = next_valid_id - 1
    book.session, book.session_open = number, True
    book.accounts = tuple(p.get("accounts") or book.accounts)
    book.raise_floor(next_valid_id - 1)


def _session_closed(book: Book, event: Event, p: Payload) -> None:
    book.session_open = False
    if p.get("away"):
        book.unbroken_since = book.session + 1  # it may have restarted before the next one, whoever opens that


def _operator_command(book: Book, event: Event, p: Payload) -> None:
    """Noted for the audit. The wish itself counts where it lies, outside the log (R29)."""
    if int(p["id"]) <= book.commands:
        raise ValueError(f"command {p['id']} is noted already")
    book.commands = int(p["id"])


def _memory_bound(book: Book, event: Event, p: Payload) -> None:
    """How many ended orders stay is a fact of the log: nobody's own setting decides what is in memory at an event."""
    keep_ended = p["keep_ended"]
    if type(keep_ended) is not int or keep_ended < 1:
        raise ValueError(f"{keep_ended!r} is no number of orders")
    book.keep_ended = keep_ended


FOLDS: dict[str, Callable[[Book, Event, Payload], None]] = {
    Kind.SESSION_OPENED: _session_opened,
    Kind.SESSION_CLOSED: _session_closed,
    Kind.ORDER_ACCEPTED: _accepted,
    Kind.ORDER_EXTERNAL: _recorded,
    Kind.ORDER_RESTORED: _recorded,
    Kind.ORDER_RECALLED: _recalled,
    Kind.ORDER_LICENSED: _licensed,
    Kind.ORDER_UNLICENSED: _unlicensed,
    Kind.ORDER_REPEATED: _repeated,
    Kind.ORDER_WORKING: _evidence,
    Kind.ORDER_CHANGED: _changed,
    Kind.ORDER_CANCELLED: _ended,
    Kind.ORDER_REJECTED: _ended,
    Kind.ORDER_EXPIRED: _ended,
    Kind.ORDER_IN_DOUBT: _in_doubt,
    Kind.ORDER_ADOPTED: adopt.adopted,
    Kind.ORDER_MERGED: adopt.merged,
    Kind.CANCEL_REQUESTED: _cancel_requested,
    Kind.CANCEL_LICENSED: _cancel_requested,
    Kind.TWIN_CANCEL_LICENSED: _twin_cancel_licensed,
    Kind.MODIFY_LICENSED: _modify_licensed,
    Kind.MODIFY_REFUSED: _modify_refused,
    Kind.EXECUTION: _execution,
    Kind.COMMISSION: _commission,
    Kind.BREAK_OPENED: _break_opened,
    Kind.BREAK_RESOLVED: _break_resolved,
    Kind.POSITION_ADJUSTED: _position_adjusted,
    Kind.OPERATOR_COMMAND: _operator_command,
    Kind.MEMORY_BOUND: _memory_bound,
}
"""By the kind's text, as it stands in the log."""
