"""R1: whether an order in doubt may be sent again under the same order id, and what is written when it is. Pure.

The repetition is harmless where the first one may still sit inside the gateway only because of its id: a live first one makes it
a modification with the same figures, one that has ended makes it error 103 or 104. That needs a gateway which still knows what
it has read, and no id above, because after a higher one the gateway takes the lower one for used whatever became of it.

What the ledger can see of this stands in `why_not`. What it cannot see (a gateway that restarted between two of our sessions
without being away for any of our dials, and without its next order id going back) is the assumption of whoever sets IN_DOUBT to
`same_id` or asks for `send_again`; the setting says so.
"""

from __future__ import annotations

from datetime import datetime

from engine.book import Book
from engine.breaks import break_id
from engine.events import Draft, Kind, Payload
from engine.family import why_alone
from engine.intent import follow_up
from engine.order import Order, State
from engine.position import Break


def why_not(book: Book, order: Order, now: datetime) -> str | None:
    """Why the order must not be repeated under its own order id, a sentence; None when it may. `now` by the database's clock."""
    used = order.broker_order_id
    if order.state is not State.IN_DOUBT or used is None or order.session is None:
        return f"Order {order.id} is {order.state}, not in doubt with an order id of its own."
    if order.repeats:
        return f"Order {order.id} was repeated once already."
    if order.cancel_requested:
        return f"Somebody asked to cancel order {order.id}."
    if order.valid_until is not None and now > order.valid_until:
        return f"The valid_until of order {order.id} has passed."
    if (said := why_alone(order, book.orders, book.children)) is not None:
        return said
    if book.order_id_floor != used + 1:
        return f"Order ids above {used} were used since: the gateway would take {used} for used."
    if not book.session_open or order.session < book.unbroken_since:
        return (
            f"The gateway may have restarted since session {order.session}: it was away, or its next order id went back, "
            "before one of the sessions since then."
        )
    return None


def repeated(
    book: Book, order: Order, found: Break, word: Payload, who: tuple[str | None, str | None], at: datetime
) -> list[Draft]:
    """One group: the licence for the present session under the same order id, and the end of the break that asked.

    `word`: what the break is resolved with. `who`: subject and correlation id.
    """
    licence = {"session": book.session, "broker_order_id": order.broker_order_id}
    return [
        Draft(Kind.ORDER_REPEATED, licence, at, order.id, *who),
        Draft(Kind.BREAK_RESOLVED, {"id": found.id, **word}, at, order.id, *who),
    ]


def in_doubt_still(book: Book, order: Order, why: str, at: datetime) -> list[Draft]:
    """A repeated licence that came to nothing: its first one may be at the broker all the same, so it is in doubt as before."""
    payload = {
        "id": break_id("in_doubt", order.id, book.seq), "kind": "in_doubt", "symbol": order.symbol, "account": order.account,
        "holds": True,
        "ours": {"state": str(order.state), "session": str(order.session), "broker_order_id": str(order.broker_order_id)},
        "broker": {"shown": "nothing", "said": why},
    }  # fmt: skip
    return [
        follow_up(Kind.ORDER_IN_DOUBT, {"reason": f"sent again under the same order id: {why}"}, order, at),
        follow_up(Kind.BREAK_OPENED, payload, order, at),
    ]
