"""The scenarios of a conformance run that place orders."""

import re
from decimal import Decimal

from ibsim.lab import Lab, about, story
from ibsim.peer import Peer
from ibsim.wire import plain

_FORMS = {
    "zoned": r"\d{8} \d\d:\d\d:\d\d \S+",
    "bare": r"\d{8}  \d\d:\d\d:\d\d",
    "utc": r"\d{8}-\d\d:\d\d:\d\d",
}


async def order(lab: Lab) -> None:
    """An order's way: placed, shown, changed, refused to others, cancelled, listed as completed."""
    peer, other = await lab.session(0), await lab.session(1)
    order_id = await lab.place(peer)
    lab.note("place: callbacks", story(peer.got, order_id))
    opened = await peer.until(lambda one: one.name == "openOrder" and about(order_id)(one), 0)
    if opened is not None:
        lab.note("openOrder: permId", int(opened.fields["permId"]) > 0)
        lab.note("openOrder: orderRef comes back", opened.fields["orderRef"] == f"conformance-{order_id}")
        lab.note("openOrder: clientId", opened.fields["clientId"] == str(lab.plan.client_id))
    lab.note("reqOpenOrders of its client shows it", await _shows(lab, peer, "reqOpenOrders", order_id))
    lab.note("reqOpenOrders of another client shows it", await _shows(lab, other, "reqOpenOrders", order_id))
    lab.note("reqAllOpenOrders of another client shows it", await _shows(lab, other, "reqAllOpenOrders", order_id))
    count = len(other.got)
    other.send("cancelOrder", orderId=str(order_id))
    await other.until(about(order_id), lab.plan.patience, count)
    lab.note("cancel by another client: codes", _codes(other, count, order_id))
    count = len(peer.got)
    await lab.place(peer, order_id=order_id, lmtPrice=plain(lab.price - lab.price // 10))
    lab.note("change: callbacks", story(peer.got[count:], order_id))
    lab.note("change: the same permId", len({o.fields["permId"] for o in peer.got if o.name == "openOrder"}) == 1)
    for what in ("cancel", "a second cancel"):
        count = len(peer.got)
        peer.send("cancelOrder", orderId=str(order_id))
        await peer.until(about(order_id), lab.plan.patience, count)
        await peer.quiet(lab.plan.quiet)
        lab.note(f"{what}: callbacks", story(peer.got[count:], order_id))
    await _completed(lab, peer, f"conformance-{order_id}", "a cancelled order")
    await peer.close()
    await other.close()


def _codes(peer: Peer, start: int, order_id: int) -> list[str]:
    return sorted({one.fields["code"] for one in peer.got[start:] if one.name == "error" and about(order_id)(one)})


async def _shows(lab: Lab, peer: Peer, request: str, order_id: int) -> bool | None:
    """Whether a list of open orders has the order; None if the list did not end."""
    count = len(peer.got)
    peer.send(request)
    if await peer.named("openOrderEnd", lab.plan.patience, count) is None:
        return None
    return any(one.name == "openOrder" and about(order_id)(one) for one in peer.got[count:])


async def _completed(lab: Lab, peer: Peer, reference: str, what: str) -> None:
    count = len(peer.got)
    peer.send("reqCompletedOrders", apiOnly="0")
    await peer.named("completedOrdersEnd", lab.plan.patience, count)
    mine = [o.fields for o in peer.got[count:] if o.name == "completedOrder" and o.fields["orderRef"] == reference]
    lab.note(f"completedOrder of {what}: found by orderRef", len(mine))
    if mine:
        lab.note(f"completedOrder of {what}: status", mine[0]["status"])
        figures = [Decimal(mine[0][name] or 0) for name in ("totalQuantity", "filledQuantity")]
        lab.note(f"completedOrder of {what}: quantity and filled quantity", [plain(one) for one in figures])


async def refusals(lab: Lab) -> None:
    """What is wrong with an order, by its code."""
    peer = await lab.session()
    used = await lab.place(peer)
    wrong: dict[str, dict[str, str]] = {
        "price between two ticks": {"lmtPrice": f"{lab.price:.2f}3"},
        "no such order type": {"orderType": "NOSUCH"},
        "no such account": {"account": "DU0"},
        "no such contract": {"conId": "0", "symbol": "NOSUCHSTOCK"},
    }
    for what, values in wrong.items():
        count = len(peer.got)
        order_id = await lab.place(peer, 0, None, **values)
        lab.note(f"order with {what}: codes", _codes(peer, count, order_id))
    count = len(peer.got)
    peer.send("cancelOrder", orderId=str(lab.next_id + 1000))
    await peer.until(about(lab.next_id + 1000), lab.plan.patience, count)
    lab.note("cancel of an unknown id: codes", _codes(peer, count, lab.next_id + 1000))
    peer.send("cancelOrder", orderId=str(used))
    await peer.quiet(lab.plan.quiet)
    count = len(peer.got)
    await lab.place(peer, order_id=used, orderRef="another")
    lab.note("a used order id: codes", _codes(peer, count, used))
    await peer.close()


async def ids(lab: Lab) -> None:
    """nextValidId after orders, in the same session and in the next."""
    peer = await lab.session()
    order_id = await lab.place(peer)
    count = len(peer.got)
    peer.send("reqIds", numIds="1")
    told = await peer.named("nextValidId", lab.plan.patience, count)
    lab.note("reqIds: above every id used", None if told is None else int(told.fields["orderId"]) > order_id)
    await peer.close()
    again = await lab.session()
    told = await again.named("nextValidId", lab.plan.patience)
    lab.note("nextValidId of the next session: above", None if told is None else int(told.fields["orderId"]) > order_id)
    lab.note("reqOpenOrders of the next session shows it", await _shows(lab, again, "reqOpenOrders", order_id))
    await again.close()


async def bracket(lab: Lab) -> None:
    """Parent and child far from the market; the parent's cancel takes the child along."""
    peer = await lab.session()
    parent = await lab.place(peer, transmit="0")
    lab.note("not transmitted: callbacks", story(peer.got, parent))
    above = plain(lab.price * 4)
    child = await lab.place(peer, parentId=str(parent), action="SELL", lmtPrice=above)
    lab.note("bracket: the parent's callbacks", story(peer.got, parent))
    lab.note("bracket: the child's callbacks", story(peer.got, child))
    count = len(peer.got)
    peer.send("cancelOrder", orderId=str(parent))
    await peer.until(about(child), lab.plan.patience, count)
    await peer.quiet(lab.plan.quiet)
    lab.note("bracket: the child after the parent's cancel", story(peer.got[count:], child))
    await peer.close()


async def what_if(lab: Lab) -> None:
    """A what-if order is answered with its margin and not taken."""
    peer = await lab.session()
    order_id = await lab.place(peer, whatIf="1")
    opened = await peer.until(lambda one: one.name == "openOrder" and about(order_id)(one), 0)
    margin = opened is not None and opened.fields["initMarginChange"] not in ("", "1.7976931348623157E308")
    lab.note("what-if: margin told", margin)
    lab.note("what-if: shown as an open order", await _shows(lab, peer, "reqOpenOrders", order_id))
    await peer.close()


async def trade(lab: Lab) -> None:
    """One share bought at the market and sold again: executions, their ids and times, commission."""
    peer = await lab.session()
    for action in ("BUY", "SELL"):
        count = len(peer.got)
        order_id = await lab.place(peer, action=action, orderType="MKT", lmtPrice="")
        await peer.named("commissionReport", lab.plan.patience, count)
        names = [one.name for one in peer.got[count:] if about(order_id)(one) or one.name == "commissionReport"]
        if "execDetails" not in names:
            lab.note(f"{action} at the market: executed", None)
            continue
        details = next(one for one in peer.got[count:] if one.name == "execDetails")
        form = [name for name, shape in _FORMS.items() if re.fullmatch(shape, details.fields["time"])]
        lab.note(f"{action} at the market: executed", True)
        lab.note(f"{action}: execId", re.sub(r"[0-9a-f]", "x", details.fields["execId"]))
        lab.note(f"{action}: time", form)
        lab.note(f"{action}: orderRef in the execution", details.fields["orderRef"] == f"conformance-{order_id}")
        after = names.index("commissionReport") > names.index("execDetails") if "commissionReport" in names else None
        lab.note(f"{action}: commission report after the execution", after)
        await _completed(lab, peer, f"conformance-{order_id}", f"a filled {action}")
    count = len(peer.got)
    peer.send("reqExecutions", version="3", reqId="9301", clientId="0")
    ended = await peer.named("execDetailsEnd", lab.plan.patience, count)
    shown = any(one.name == "execDetails" for one in peer.got[count:])
    lab.note("reqExecutions: the day's executions", None if ended is None else shown)
    await peer.close()
