"""The scenarios of a conformance run: each asks a gateway for something and notes what came back."""

import re
from collections.abc import Awaitable, Callable

from ibsim.lab import Lab, about, story
from ibsim.peer import Peer
from ibsim.wire import plain

Scenario = Callable[[Lab], Awaitable[None]]

_STOCK = {"secType": "STK", "exchange": "SMART", "currency": "USD"}
_FORMS = {
    "zoned": r"\d{8} \d\d:\d\d:\d\d \S+",
    "bare": r"\d{8}  \d\d:\d\d:\d\d",
    "utc": r"\d{8}-\d\d:\d\d:\d\d",
}


async def handshake(lab: Lab) -> None:
    """Which version is agreed upon, and what becomes of a client that is too old."""
    for versions in ("v157..178", "v157..160", "v165"):
        peer = await lab.connect(versions)
        lab.note(f"handshake {versions}", peer.version or None)
        await peer.close()
    old = await lab.connect("v100..110")
    lab.note("handshake v100..110: refused", not old.version and await old.end(lab.plan.patience) is not None)


async def start(lab: Lab) -> None:
    """What a session is told at its start, and a round trip."""
    peer = await lab.session()
    told = {one.name for one in peer.got}
    lab.note("startApi: managedAccounts and nextValidId", {"managedAccounts", "nextValidId"} <= told)
    peer.send("reqCurrentTime")
    lab.note("reqCurrentTime answered", await peer.named("currentTime", lab.plan.patience) is not None)
    await peer.close()


async def second_session(lab: Lab) -> None:
    """Two sessions on one clientId, and the id after a clean close."""
    first = await lab.session()
    second = await lab.connect()
    second.start(lab.plan.client_id)
    took = await second.end(lab.plan.patience)
    lab.note("second session: codes", sorted({one.fields["code"] for one in second.got if one.name == "error"}))
    lab.note("second session: nextValidId", any(one.name == "nextValidId" for one in second.got))
    lab.note("second session: closed by the gateway", took is not None)
    lab.note("second session: closed after 0.3 to 2 s", took is not None and 0.3 < took < 2)
    count = len(first.got)
    first.send("reqCurrentTime")
    lab.note(
        "second session: the first goes on", await first.named("currentTime", lab.plan.patience, count) is not None
    )
    await first.close()
    again = await lab.session()
    lab.note("clientId free after a clean close", any(one.name == "nextValidId" for one in again.got))
    await again.close()


async def ends(lab: Lab) -> None:
    """Every list has its End."""
    peer = await lab.session()
    asked = {
        "reqOpenOrders": ("openOrderEnd", {}),
        "reqAllOpenOrders": ("openOrderEnd", {}),
        "reqCompletedOrders": ("completedOrdersEnd", {"apiOnly": "0"}),
        "reqExecutions": ("execDetailsEnd", {"version": "3", "reqId": "9101", "clientId": "0"}),
        "reqPositions": ("positionEnd", {}),
        "reqPositionsMulti": ("positionMultiEnd", {"reqId": "9102", "account": lab.account}),
        "reqAccountUpdates": ("accountDownloadEnd", {"version": "2", "subscribe": "1", "account": lab.account}),
        "reqAccountUpdatesMulti": ("accountUpdateMultiEnd", {"reqId": "9103", "account": lab.account}),
        "reqAccountSummary": ("accountSummaryEnd", {"reqId": "9104", "group": "All", "tags": "NetLiquidation"}),
    }
    for name, (end, values) in asked.items():
        count = len(peer.got)
        peer.send(name, **values)
        lab.note(f"{name}: {end}", await peer.named(end, lab.plan.patience, count) is not None)
    await peer.close()


async def contracts(lab: Lab) -> None:
    """Details, an ambiguous contract, and one that does not exist."""
    peer = await lab.session()
    for number, (what, fields) in enumerate(
        {
            "a stock": {**_STOCK, "symbol": lab.plan.symbol},
            "a stock without a currency": {"secType": "STK", "symbol": lab.plan.symbol, "exchange": "SMART"},
            "no such stock": {**_STOCK, "symbol": "NOSUCHSTOCK"},
        }.items()
    ):
        count, request = len(peer.got), str(9201 + number)
        peer.send("reqContractDetails", version="8", reqId=request, includeExpired="0", **fields)
        await peer.until(lambda one: one.name in ("contractDetailsEnd", "error"), lab.plan.patience, count)
        mine = [one for one in peer.got[count:] if about(int(request))(one)]
        found = sum(one.name == "contractDetails" for one in mine)
        lab.note(f"contract details of {what}: how many", "several" if found > 1 else found)
        lab.note(f"contract details of {what}: errors", [one.fields["code"] for one in mine if one.name == "error"])
    await peer.close()


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
    await _completed(lab, peer, f"conformance-{order_id}")
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


async def _completed(lab: Lab, peer: Peer, reference: str) -> None:
    count = len(peer.got)
    peer.send("reqCompletedOrders", apiOnly="0")
    await peer.named("completedOrdersEnd", lab.plan.patience, count)
    mine = [o for o in peer.got[count:] if o.name == "completedOrder" and o.fields["orderRef"] == reference]
    lab.note("completedOrder: found by orderRef", len(mine))
    if mine:
        lab.note("completedOrder: status", mine[0].fields["status"])


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
    count = len(peer.got)
    peer.send("reqExecutions", version="3", reqId="9301", clientId="0")
    ended = await peer.named("execDetailsEnd", lab.plan.patience, count)
    shown = any(one.name == "execDetails" for one in peer.got[count:])
    lab.note("reqExecutions: the day's executions", None if ended is None else shown)
    await peer.close()


SCENARIOS: tuple[Scenario, ...] = (
    handshake, start, second_session, ends, contracts, order, refusals, ids, bracket, what_if, trade,
)  # fmt: skip
