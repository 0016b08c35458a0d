"""Account summaries as the gateway tells them: tag by tag, for every account, until the End."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from engine.broker import AccountFact
from engine.clock import utcnow

TAGS = {
    "NetLiquidation": "net_liquidation", "TotalCashValue": "cash", "BuyingPower": "buying_power",
    "MaintMarginReq": "maintenance_margin",
}  # fmt: skip
"""IB's names and ours."""

Asked = Callable[[str, float, Callable[[Any, int], None]], Awaitable[list[Any]]]
_NONE = Decimal("1e300")
"""IB writes the largest double for "there is none"."""


async def summary(request: Asked, ready: Callable[[], Any], deadline: float) -> list[AccountFact]:
    """Ask once, and end the subscription that the question is to IB: a session may have two. Raises RequestFailed."""
    asked: list[tuple[Any, int]] = []

    def ask(client: Any, number: int) -> None:
        asked.append((client, number))
        client.reqAccountSummary(number, "All", ",".join(TAGS))

    try:
        return facts(await request("accounts", deadline, ask), utcnow())
    finally:
        for client, number in asked:
            with contextlib.suppress(ConnectionError):
                if ready() is client:
                    client.cancelAccountSummary(number)


def facts(rows: Sequence[tuple[str, str, str, str]], at: datetime) -> list[AccountFact]:
    """One fact per account from rows of (account, tag, value, currency). What was not told is None. Pure."""
    told: dict[str, dict[str, Decimal | None]] = {}
    currencies: dict[str, str] = {}
    for account, tag, value, currency in rows:
        if tag in TAGS:
            told.setdefault(account, {})[TAGS[tag]] = _number(value)
            currencies[account] = currency or currencies.get(account, "")
    return [
        AccountFact(account, currencies[account], at, **{name: figures.get(name) for name in TAGS.values()})
        for account, figures in sorted(told.items())
    ]


def _number(text: str) -> Decimal | None:
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found) < _NONE else None
