"""Changes of live orders on their way out: licensed for the session that showed the order live, written once (R7).

A change is an intent like an order: one commit is its licence, and the bytes follow it on the same session. The order's
figures stay until the broker shows the new ones; a change whose session died before is never sent again, a reconciliation says
what became of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from loguru import logger

from engine import family, intent, risk
from engine.book import Book
from engine.broker import Broker, Paced
from engine.cancel import Cancels
from engine.clock import Clock, utcnow
from engine.contracts import Meant, between_steps
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.events import Draft, Event, Kind, Payload
from engine.family_kept import kept_back, kin
from engine.licences import Licences
from engine.order import Order, State
from engine.permit import Licence, Permit
from engine.request import ChangeRequest


class Changes:
    """What may be changed now, and the bytes of what was licensed. `live` knows the pairs that this session showed."""

    def __init__(
        self,
        book: Book,
        permit: Permit,
        broker: Broker,
        live: Cancels,
        licences: Licences,
        limits: risk.Limits,
        clock: Clock,
    ) -> None:
        self._book, self._permit, self._broker, self._live = book, permit, broker, live
        self._licences, self._limits, self._clock = licences, limits, clock

    def licence(self, order: Order, request: ChangeRequest, meant: Meant | None) -> Payload:
        """The payload that licenses the change now; `meant`: what is known of the order's contract.

        Raises Problem 409, 412, 422 or 503; nothing was written then.
        """
        if request.revision != order.revision:
            raise revision_mismatch(order, request)
        self._check_figures(order, request.changes, meant)
        if order.state is not State.WORKING or order.cancel_requested:
            now = "is being cancelled" if order.cancel_requested else f"is {order.state}, not WORKING"
            raise Problem(409, "order-not-live", "The order cannot be changed now", f"Order {order.id} {now}.")
        if not self._permit.gate_open(self._clock()):
            raise unavailable("gate-shut", " ".join(self._permit.gate_reasons(self._clock())))
        if (why := self._family_not_sent(order)) is not None:
            raise unavailable("family-not-sent", f"Order {order.id} cannot be changed yet: {why}.")
        pair = self._live.pair(order.id)
        if pair is None or self._permit.session is None:
            raise unavailable("not-shown-yet", f"The present session has not shown order {order.id} yet; try again.")
        if self._broker.pace.full(self._clock()):
            raise unavailable("pace", "The broker takes no more messages in this second; try again.")
        return {
            "session": self._permit.session, "broker_order_id": pair[0], "perm_id": pair[1], "revision": request.revision,
            "changes": {name: str(figure) for name, figure in request.changes.items()},
        }  # fmt: skip

    def _check_figures(self, order: Order, changes: dict[str, Decimal], meant: Meant | None) -> None:
        wrong = [
            FieldError(name, f"an order of type {order.order_type} has none; leave it out")
            for name in changes
            if getattr(order, name) is None
        ]
        quantity = changes.get("quantity", order.quantity)
        if quantity <= order.filled:
            wrong.append(FieldError("quantity", f"{order.filled} are filled already; cancel the rest instead"))
        wrong = wrong or between_steps(changes, meant)
        if wrong:
            raise invalid(*wrong)
        price = changes.get("limit_price", order.limit_price) or changes.get("stop_price", order.stop_price)
        risk.check_figures(self._limits, order.symbol, quantity, price)

    @staticmethod
    def _over(order: Order) -> str | None:
        """Why the change must not be written any more: it would come behind a cancel, or after the end."""
        if order.final:
            return f"the order is {order.state}"
        return "the order is being cancelled" if order.cancel_requested else None

    def _family_not_sent(self, order: Order) -> str | None:
        """Why a change would do more than change: it transmits, and the gateway keeps the order until its family is whole."""
        members = kin(order, self._book.orders, self._book.children) if order.kept else []
        unwritten = self._licences.unwritten | self._licences.deciding
        if not kept_back(order, members, unwritten):
            return None
        return "the last member of its family is not sent, and a change would send the family without it"

    def write(self, event: Event, reference: str, not_written: Callable[[Draft], None]) -> None:
        """Write what this committed event licenses; what was certainly not written is told by `not_written`."""
        payload, order = event.payload, self._book.orders[event.order_id or ""]
        licence = Licence(event.epoch, payload["session"], payload["broker_order_id"])
        figures: dict[str, Any] = {name: Decimal(text) for name, text in order.asked.items()}
        parent = family.parent_id(order, self._book.orders)
        outgoing = intent.outgoing(order, reference, parent)
        changed = dataclasses.replace(outgoing, broker_order_id=licence.broker_order_id, **figures)
        try:
            why = self._over(order) or self._family_not_sent(order) or family.unsendable(order, self._book.orders)
            why = why or self._permit.refuses_write(licence, self._clock())
            if why is None:  # R2: the check and the write,
                self._broker.place(changed)  # with no await between them
        except (ConnectionError, Paced) as error:
            why = str(error) or "there is no broker session"
        if why is not None:
            logger.warning("the change of order {} was not written: {}", order.id, why)
            not_written(intent.follow_up(Kind.MODIFY_REFUSED, {"reason": f"not written: {why}"}, order, utcnow()))


def revision_mismatch(order: Order, request: ChangeRequest) -> Problem:
    """412: the change was made of another revision than the present one."""
    detail = f"Order {order.id} is at revision {order.revision}, not {request.revision}: read it again."
    return Problem(412, "revision-mismatch", "The order has changed meanwhile", detail)
