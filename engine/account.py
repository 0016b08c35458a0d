"""`GET /api/v1/account`: what the broker last said of its accounts, and when. Asked when somebody wants to know, and now and then.

Only a leader has a session to ask over. Nothing is asked while the gate is shut, so that a takeover never waits for this, and what
is not known is null.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from loguru import logger

from engine.api import Api
from engine.auth import Access
from engine.book import Book
from engine.broker import AccountFact, Broker, RequestFailed
from engine.clock import Clock, boottime, iso
from engine.errors import unavailable
from engine.http import Request, Response, Server
from engine.views import number

PATH = "/api/v1/account"
FRESH = 5.0
"""Seconds for which an answer of the broker is handed on without asking again."""
EVERY = 60.0
"""Seconds between questions that nobody but the metrics has."""
FIRST = 5.0
DEADLINE = 2.0


class Accounts:
    """The last facts by account. `may_ask` says whether there is a session that has nothing better to do."""

    def __init__(
        self, broker: Broker, book: Book, api: Api, access: Access, may_ask: Callable[[], bool], clock: Clock = boottime
    ) -> None:
        self._broker, self._book, self._api, self._access = broker, book, api, access
        self._may_ask, self._clock = may_ask, clock
        self.facts: dict[str, AccountFact] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def register(self, server: Server) -> None:
        """The one path."""
        server.route("GET", PATH, self.account)
        server.on_stop.append(self.stop)

    def start(self) -> None:
        """Ask now and then, for the metrics."""
        self._task = asyncio.create_task(self._ask_for_ever(), name="accounts")

    async def stop(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._task, self._asking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def known(self) -> Collection[AccountFact]:
        """The last facts while this replica leads: who has no session any more tells no old figures in its metrics."""
        return self.facts.values() if self._api.leads else ()

    async def account(self, request: Request) -> Response:
        """`GET /account`: the leader's word; another replica has no session to know it from, and says who leads."""
        self._access.asker(request, "viewer")
        if not self._api.leads:
            return self._api.elsewhere(request)
        await self._refresh()
        names = dict.fromkeys((*self._book.accounts, *self.facts))
        if not names:
            raise unavailable("no-account", "No gateway has named its accounts yet; the first session is being opened.")
        return self._api.answer({"accounts": [_view(name, self.facts.get(name)) for name in names]})

    async def _refresh(self) -> None:
        """Ask, unless the last answer is fresh; who comes while a question is out waits for its answer."""
        if self._clock() - self._asked_at < FRESH or not self._may_ask():
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="ask for accounts")
        await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        try:
            found = await self._broker.accounts(DEADLINE)
        except RequestFailed as failed:
            logger.warning("the accounts' figures are not known anew: {}", failed)
            return
        self.facts = {fact.account: fact for fact in found}
        self._asked_at = self._clock()

    async def _ask_for_ever(self) -> None:
        await asyncio.sleep(FIRST)
        while True:
            await self._refresh()  # what fails is told there, and the figures stay those of their own time
            await asyncio.sleep(EVERY)


def _view(name: str, fact: AccountFact | None) -> dict[str, Any]:
    return {
        "account": name,
        "net_liquidation": number(fact.net_liquidation) if fact else None,
        "cash": number(fact.cash) if fact else None,
        "buying_power": number(fact.buying_power) if fact else None,
        "maintenance_margin": number(fact.maintenance_margin) if fact else None,
        "currency": (fact.currency or None) if fact else None,
        "at": iso(fact.at) if fact else None,
    }
