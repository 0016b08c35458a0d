"""Is the gateway behind this address ours, and does it fence? Asked with a spare clientId: no session of the pair is touched.

R14: a gateway is accepted when it manages the ledger's accounts and shows the orders that the ledger has at the broker; and its
fence holds when it refuses a second session under one clientId (326), and admits one as soon as the first is gone. What it did not
answer is not proven (G6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from engine.book import Book
from engine.broker import Admitted, Broker, InUse, RequestFailed, Unreachable
from engine.order import State

AGAIN = 0.1
"""Seconds between two dials while the first session may not be gone yet."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger has of the broker: its accounts, and by permId our orders that are open there, as people know them."""

    accounts: tuple[str, ...]
    orders: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `says` is a sentence."""

    what: str
    fine: bool
    says: str


def known_of(book: Book) -> Known:
    """What the book has."""
    mine = (o for o in book.open_orders() if o.state is State.WORKING and o.perm_id and not o.external)
    return Known(book.accounts, {o.perm_id or 0: o.client_order_id or o.id for o in mine})


Drop = Callable[[str], Awaitable[None]]
"""Ends the session whose end here is at this address (HOST:PORT)."""


async def preflight(
    dial: Callable[[], Broker], known: Known, *, deadline: float, drop: Drop | None = None
) -> list[Finding]:
    """What is found; each dial and each request within `deadline` seconds. Leaves no session open, never raises for the gateway.

    `dial` makes a broker that takes the spare clientId. `drop` ends the first session from outside; without it we end it here.
    """
    first = dial()
    try:
        answer = await first.connect(deadline)
        if not isinstance(answer, Admitted):
            return [Finding("session", False, _refused(answer))]
        found = [Finding("session", True, "The gateway admits the spare clientId.")]
        found += [_accounts(known, answer), await _link(first, deadline), await _orders(first, known, deadline)]
        return found + await _fence(dial, first, answer, deadline, drop)
    finally:
        first.abort()


def _refused(answer: InUse | Unreachable) -> str:
    if isinstance(answer, InUse):
        return "Somebody else has the spare clientId (326): set TWS_SPARE_CLIENT_ID to one that nobody uses."
    return f"The gateway gives no session: {answer.reason}."


def _accounts(known: Known, admitted: Admitted) -> Finding:
    has, lacks = ", ".join(admitted.accounts) or "none", sorted(set(known.accounts) - set(admitted.accounts))
    if lacks:
        return Finding(
            "accounts", False, f"It does not manage {', '.join(lacks)}, which the ledger has; its accounts: {has}."
        )
    compared = "as the ledger has them" if known.accounts else "the ledger knows none yet"
    return Finding("accounts", True, f"Its accounts: {has}, {compared}.")


async def _link(broker: Broker, deadline: float) -> Finding:
    try:
        await broker.ask_ib(deadline)
    except RequestFailed as error:
        return Finding("link", False, f"IB's own servers did not answer through it ({error}).")
    return Finding("link", True, "IB's own servers answer through it.")


async def _orders(broker: Broker, known: Known, deadline: float) -> Finding:
    try:
        shown = [*await broker.open_orders(deadline), *await broker.completed_orders(deadline)]
    except RequestFailed as error:
        return Finding("orders", False, f"Whether it has our orders is not known ({error}).")
    seen = {fact.perm_id for fact in shown}
    lacks = [f"{name} (permId {number})" for number, name in sorted(known.orders.items()) if number not in seen]
    if lacks:
        more = f" and {len(lacks) - 5} more" if len(lacks) > 5 else ""
        return Finding(
            "orders", False, f"It shows {len(known.orders) - len(lacks)} of our {len(known.orders)} open orders, and not "
            f"{', '.join(lacks[:5])}{more}: another gateway, user or account.",
        )  # fmt: skip
    return Finding("orders", True, f"It shows all of our open orders: {len(known.orders)}.")


async def _fence(
    dial: Callable[[], Broker], first: Broker, admitted: Admitted, deadline: float, drop: Drop | None
) -> list[Finding]:
    second = dial()
    try:
        answer = await second.connect(deadline)
        if not isinstance(answer, InUse):
            how = "admits a second session beside it" if isinstance(answer, Admitted) else f"says {answer.reason}"
            return [Finding("fence", False, f"It should refuse a second session under one clientId (326), and {how}.")]
        if drop is None:
            first.abort()
        else:
            await drop(admitted.address)
        answer = await _admitted_again(second, deadline)
    finally:
        second.abort()
    by = "we ended the first one" if drop is None else "the fence agent ended the first one"
    if not isinstance(answer, Admitted):
        return [Finding("fence", False, f"It refuses a second session (326), and admits none after {by}.")]
    return [Finding("fence", True, f"It refuses a second session (326), and admits it when {by}.")]


async def _admitted_again(broker: Broker, deadline: float) -> Admitted | InUse | Unreachable:
    """The first answer that is not 326, or the last one within `deadline` seconds."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline
    while True:
        answer = await broker.connect(deadline)
        if not isinstance(answer, InUse) or loop.time() > ends:
            return answer
        await asyncio.sleep(AGAIN)
