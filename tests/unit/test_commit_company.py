"""When the writing task writes: at once what somebody waits for, evidence in company. The log itself: in the integration tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.book import Book
from engine.clock import iso, utcnow
from engine.commit import MUCH, TOGETHER_WITHIN, Committer, Outcome
from engine.events import LEDGER_LEVEL, Draft, Kind
from engine.order import State
from engine.reference import order_id
from tests.unit.book_factory import ACCOUNT, CLUSTER


class Log:
    """A connection that commits everything, and notes which events came in one statement."""

    is_open, backend_pid = True, 1

    def __init__(self) -> None:
        self.statements: list[list[str]] = []

    async def tag(self, name: str) -> None:
        """Nothing to carry."""

    async def close(self) -> None:
        """Nothing to close."""

    async def run(self, name: str, parameters: dict[str, Any], deadline: float = 3.0) -> list[dict[str, Any]]:
        if name == "prove":
            return [{
                "now": utcnow(), "control": None, "level": LEDGER_LEVEL, "commands": None, "system": "s", "timeline": "t",
                "head": 1 << 40,
            }]  # fmt: skip
        self.statements.append([row["event_type"] for row in json.loads(parameters["events"])])
        return [{"added": len(self.statements[-1])}]


class Term:
    """A committer on such a log, and what it was told to write."""

    def __init__(self) -> None:
        self.log, self.book, self.now = Log(), Book(), 1000.0
        self.committer = Committer(
            self.log, "a", "i", 1, self.book, on_fenced=lambda _: None, on_proof=lambda _: None, clock=lambda: self.now,
        )  # type: ignore[arg-type]  # fmt: skip
        self.outcomes: list[Outcome] = []

    def submit(self, *drafts: Draft) -> None:
        self.committer.submit(drafts, lambda outcome, _events, _why: self.outcomes.append(outcome))

    async def order(self, key: str) -> str:
        """One order in a statement of its own; its id."""
        draft = accepted(key)
        outcome, _, why = await self.committer.commit([draft])
        assert outcome is Outcome.COMMITTED, why
        return draft.order_id or ""


def accepted(key: str) -> Draft:
    payload = {
        "client_order_id": key, "body": {"client_order_id": key}, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY",
        "quantity": "10", "order_type": "LMT", "limit_price": "190.50", "stop_price": None, "tif": "DAY", "sec_type": "STK",
        "exchange": "SMART", "currency": "USD", "valid_until": None, "session": 1, "broker_order_id": 1,
    }  # fmt: skip
    return Draft(Kind.ORDER_ACCEPTED, payload, utcnow(), order_id(CLUSTER, "local", key), "local", "c1")


def shown(oid: str) -> Draft:
    return Draft(Kind.ORDER_WORKING, {"perm_id": None, "sent_at": iso(utcnow())}, utcnow(), oid, "local", "c1")


@pytest.fixture
async def term() -> AsyncIterator[Term]:
    made = Term()
    await made.committer.open()
    yield made
    await made.committer.close()


async def settled() -> None:
    """Everything that is due has run; no timer has."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_evidence_is_written_at_once_while_there_is_little_to_write(term: Term) -> None:
    oid = await term.order("k1")
    term.submit(shown(oid))
    await settled()
    assert term.log.statements[-1] == ["order_working"]
    assert term.book.orders[oid].state is State.WORKING


async def test_while_there_is_much_evidence_goes_with_the_next_intent_and_in_front_of_it(term: Term) -> None:
    ids = [await term.order(f"k{number}") for number in range(MUCH)]
    for oid in ids[:2]:
        term.submit(shown(oid))
    await settled()
    assert len(term.log.statements) == MUCH
    term.submit(accepted("next"))
    await settled()
    assert term.log.statements[MUCH:] == [["order_working", "order_working", "order_accepted"]]


async def test_evidence_that_finds_no_company_waits_no_longer_than_it_may(term: Term) -> None:
    ids = [await term.order(f"k{number}") for number in range(MUCH)]
    began = asyncio.get_running_loop().time()
    outcome, _, _ = await term.committer.commit([shown(ids[0])])
    assert outcome is Outcome.COMMITTED
    assert (
        TOGETHER_WITHIN / 2 < asyncio.get_running_loop().time() - began < TOGETHER_WITHIN + 0.2
    )  # the proof's time is later
    assert term.log.statements[-1] == ["order_working"]


async def test_what_somebody_waits_for_never_waits_for_company(term: Term) -> None:
    ids = [await term.order(f"k{number}") for number in range(MUCH)]
    term.submit(Draft(Kind.ORDER_CANCELLED, {"perm_id": 900, "reason": "cancelled"}, utcnow(), ids[0], "local", "c1"))
    await settled()
    assert term.log.statements[-1] == ["order_cancelled"]
    outcome, _, _ = await asyncio.wait_for(term.committer.commit(()), 1.0)  # a proof that is asked for
    assert outcome is Outcome.COMMITTED


async def test_evidence_that_waits_when_the_term_ends_is_refused(term: Term) -> None:
    ids = [await term.order(f"k{number}") for number in range(MUCH)]
    term.submit(shown(ids[0]))
    term.committer.stop()
    assert term.outcomes == [Outcome.REFUSED]
