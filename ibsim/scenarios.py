"""The scenarios of a conformance run: each asks a gateway for something and notes what came back; those about sessions,
lists and contracts, and the list of all.
"""

from collections.abc import Awaitable, Callable

from ibsim.lab import Lab, about
from ibsim.order_scenarios import bracket, ids, order, refusals, trade, what_if

Scenario = Callable[[Lab], Awaitable[None]]

_STOCK = {"secType": "STK", "exchange": "SMART", "currency": "USD"}


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
    third = await lab.session()
    lab.note("second session: let in while the first is open", any(one.name == "nextValidId" for one in third.got))
    await third.close()
    await first.close()
    again = await lab.session()
    lab.note("clientId free after a clean close", any(one.name == "nextValidId" for one in again.got))
    again.reset()
    last = await lab.session()
    lab.note("clientId free after a reset", any(one.name == "nextValidId" for one in last.got))
    await last.close()


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


async def symbols(lab: Lab) -> None:
    """Symbols that match a pattern, which IB's servers must answer."""
    peer = await lab.session()
    peer.send("reqMatchingSymbols", reqId="9211", pattern=lab.plan.symbol)
    found = await peer.named("symbolSamples", lab.plan.patience)
    mine = None if found is None else [one["symbol"] for one in found.fields["contracts"]]
    lab.note("reqMatchingSymbols: finds the symbol", None if mine is None else lab.plan.symbol in mine)
    await peer.close()


SCENARIOS: tuple[Scenario, ...] = (
    handshake, start, second_session, ends, contracts, symbols, order, refusals, ids, bracket, what_if, trade,
)  # fmt: skip
