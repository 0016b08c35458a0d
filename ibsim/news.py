"""What a happening is in the journal, and which messages tell it to whom."""

from typing import TYPE_CHECKING, Any

from ibsim import answers, statements
from ibsim.orders import Happening, Order
from ibsim.records import Record, correction_record, execution_record, key_record, order_record
from ibsim.session import Session

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

Message = tuple[str, dict[str, Any]]

_WHOLE = frozenset({"order", "modify"})
_QUIET = frozenset({"refused", "status", "warning"})
"""News that the journal does not keep."""
_FINAL = frozenset({"Filled", "Cancelled", "Inactive"})


def entry_of(what: Happening, asking: Session | None) -> Record | None:
    """The journal entry with its kind, None for news that the journal does not keep. `asking`: whose request it was."""
    order = what.order
    if what.kind in _QUIET:
        return None
    if order is None:
        return {
            "kind": what.kind,
            "session": asking and asking.number,
            "client_id": asking and asking.client_id,
            "order_id": what.order_id,
            "code": what.code,
            "reason": what.text,
        }
    if what.execution is not None:
        if what.was is not None:
            return {"kind": what.kind, **correction_record(what.execution, what.was)}
        return {"kind": what.kind, **execution_record(what.execution)}
    entry = {"kind": what.kind, **(order_record(order) if what.kind in _WHOLE else key_record(order))}
    if what.kind == "order":
        entry["session"] = order.session
    elif asking is not None:
        entry["session"] = asking.number
        if asking.client_id != order.client_id:
            entry["asked_by"] = asking.client_id
    if what.code is not None:
        entry["code"] = what.code
    elif what.text:
        entry["reason"] = what.text
    if what.kind == "working":
        entry["status"] = what.status
        entry["triggered"] = order.triggered or None
    return entry


def tell(gateway: "Gateway", what: Happening) -> None:
    """Queues the messages of one happening to the sessions that get them."""
    order = what.order
    if order is None:
        if gateway.asking is not None and isinstance(what.code, int):
            gateway.asking.error(what.code, what.text, what.order_id)
        return
    if what.unseen or what.kind in ("order", "cancel"):
        return
    listeners = listeners_of(gateway, order)
    if listeners:
        messages = _messages(gateway, order, what)
        for session in listeners:
            for name, values in messages:
                session.send(name, values)
    if what.execution is not None:
        _tell_position(gateway, order)


def listeners_of(gateway: "Gateway", order: Order) -> list[Session]:
    """The open sessions that are told about an order: its client's, and the master client's."""
    sessions = gateway.sessions
    owner = sessions.by_client.get(order.client_id) if order.order_id else None
    if owner is not None and order.silent and owner.number == order.session:
        owner = None
    master = sessions.master()
    if master is None or master is owner:
        return [owner] if owner is not None else []
    return [master] if owner is None else [owner, master]


def _error(order: Order, what: Happening) -> list[Message]:
    if not isinstance(what.code, int):
        return []
    return [("error", {"id": str(order.order_id), "code": str(what.code), "text": what.text})]


def _messages(gateway: "Gateway", order: Order, what: Happening) -> list[Message]:
    """The messages of one happening, in their order, as the faults that are on leave them."""
    if what.kind == "warning":
        return _error(order, what)
    status = ("orderStatus", answers.order_status(order, what))
    if what.execution is not None:
        messages = _execution(gateway, order, what, status)
    elif what.kind == "cancelled":
        messages = [status, *_error(order, what)]
    elif what.kind == "rejected":
        messages = [*_error(order, what), ("openOrder", answers.open_order(order, what.status)), status]
    else:
        messages = [("openOrder", answers.open_order(order, what.status)), status]
    faults = gateway.faults
    if not faults.active:
        return messages
    if (what.status not in _FINAL or order.order_type == "MKT") and faults.take("skip_statuses"):
        messages = [one for one in messages if one[0] != "orderStatus"]
    if faults.take("duplicate_callbacks"):
        messages = [one for one in messages for _ in range(2)]
    return messages


def _execution(gateway: "Gateway", order: Order, what: Happening, status: Message) -> list[Message]:
    assert what.execution is not None
    details = ("execDetails", answers.execution_details(what.execution, gateway.settings.zone, gateway.time_form, -1))
    report = ("commissionReport", answers.commission_report(what.execution))
    if what.was is not None:
        return [details, report]
    state = [("openOrder", answers.open_order(order, what.status)), status]
    if gateway.options.commission == "before":
        return [report, details, *state]
    if gateway.faults.take("reorder_callbacks"):
        return [*state, details, report]
    return [details, *state, report]


def _tell_position(gateway: "Gateway", order: Order) -> None:
    held = None
    for session in gateway.sessions.by_client.values():
        if not session.wants_positions and session.wants_account != order.account:
            continue
        if held is None:
            held = gateway.book.accounts.position(order.account, order.instrument)
        if session.wants_positions:
            session.send("position", statements.position(held))
        if session.wants_account == order.account:
            session.send("updatePortfolio", statements.portfolio(held, gateway.book.market.price(order.instrument)))
