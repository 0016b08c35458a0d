"""Books, broker facts and snapshots for tests: short to write, with the real fold and the real trial behind them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from engine.book import Book
from engine.broker import (
    Admitted,
    ContractDetail,
    ContractFact,
    ContractQuery,
    ExecutionFact,
    InUse,
    Known,
    OpenOrder,
    Outgoing,
    PositionFact,
    RequestFailed,
    Unreachable,
)
from engine.commit import Done, Outcome
from engine.events import LEDGER_LEVEL, Draft, Event, Kind, place
from engine.order import Order
from engine.pace import DoorPace
from engine.reference import Reference, cluster_tag, order_id
from engine.trial import Trial
from reconcile.diff import compare
from reconcile.plan import Plan, make_plan
from reconcile.snapshot import Identity, Snapshot

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
CLUSTER, CLIENT, ACCOUNT = "desk1", 7, "DU1"
TAG = cluster_tag(CLUSTER)
ME = Identity.of(CLUSTER, CLIENT)
CON_IDS = {"AAPL": 265598, "MSFT": 272093, "IBM": 8314}


class Ledger:
    """A book at the head of its log, written by one epoch."""

    def __init__(self, epoch: int = 5) -> None:
        self.book, self.epoch, self.log = Book(), epoch, list[Event]()

    def write(self, *drafts: Draft) -> list[Event]:
        """Fold drafts as the committer does: refused by the trial, or all of them."""
        why = Trial(self.book).refuses(drafts)
        assert why is None, why
        events = [place(draft, self.book.seq + i, self.epoch) for i, draft in enumerate(drafts, start=1)]
        for event in events:
            self.book.apply(event)
        self.log += events
        return events

    def add(self, kind: Kind, order: str | None = None, /, **payload: Any) -> Event:
        """Fold one event with this payload."""
        at = NOON + timedelta(milliseconds=self.book.seq)
        return self.write(Draft(kind, payload, at, order, "local" if order else None))[0]

    def session(self, number: int = 1, next_valid_id: int = 1, *, away: bool = True) -> None:
        """A broker session opens; `away`: a dial found no gateway before."""
        self.add(Kind.SESSION_OPENED, session=number, next_valid_id=next_valid_id, accounts=[ACCOUNT], away=away)

    def accept(
        self, key: str = "k1", *, session: int | None = None, broker_id: int | None = None, **fields: Any
    ) -> str:
        """Accept an order; with a session it carries its licence (SENDING). Returns its id."""
        oid = order_id(CLUSTER, "local", key)
        payload = {
            "client_order_id": key, "body": {"client_order_id": key}, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY",
            "quantity": "10", "order_type": "LMT", "limit_price": "190.50", "stop_price": None, "tif": "DAY",
            "sec_type": "STK", "exchange": "SMART", "currency": "USD", "valid_until": None,
        } | fields  # fmt: skip
        if session is not None:
            payload |= {"session": session, "broker_order_id": broker_id or self.book.order_id_floor}
        self.add(Kind.ORDER_ACCEPTED, oid, **payload)
        return oid

    def work(self, oid: str, perm_id: int | None = 900) -> None:
        """The broker showed the order."""
        self.add(Kind.ORDER_WORKING, oid, status="Submitted", perm_id=perm_id, con_id=CON_IDS["AAPL"])

    def working(self, key: str = "k1", *, session: int = 1, perm_id: int | None = 900, **fields: Any) -> str:
        """An order that the broker has shown."""
        oid = self.accept(key, session=session, **fields)
        self.work(oid, perm_id)
        return oid

    def fill(self, oid: str | None, exec_id: str = "0001.01", **fields: Any) -> None:
        """Book an execution."""
        payload = {
            "exec_id": exec_id, "account": ACCOUNT, "con_id": CON_IDS["AAPL"], "symbol": "AAPL", "side": "BUY",
            "quantity": "10", "price": "190.50", "exchange": "SMART", "perm_id": 900, "at": "2026-01-02T12:00:00.000000Z",
        } | fields  # fmt: skip
        self.add(Kind.EXECUTION, oid, **payload)

    def order(self, oid: str) -> Order:
        """The order as it stands."""
        return self.book.orders[oid]

    # ---- reconciliation

    def plan(
        self, snapshot: Snapshot, *, doubted: Sequence[str] | None = None, last: bool = False, **more: Any
    ) -> Plan:
        """What the table says; the plan always passes the trial, and always folds."""
        differences = compare(self.book, snapshot, ME)
        plan = make_plan(self.book, snapshot, differences, ME, NOON, doubted=doubted or (), last=last, **more)
        assert Trial(self.book).refuses(plan.drafts) is None
        folded = copy.deepcopy(self.book)
        for i, draft in enumerate(plan.drafts, start=1):
            folded.apply(place(draft, self.book.seq + i, self.epoch))
        return plan

    def repair(self, snapshot: Snapshot, *, rounds: int = 3) -> list[Plan]:
        """Plan and fold until nothing is left to do or `rounds` are over; the last one decides every doubt."""
        plans: list[Plan] = []
        doubted: frozenset[str] = frozenset()
        for number in range(1, rounds + 1):
            plans.append(self.plan(snapshot, doubted=sorted(doubted), last=number == rounds))
            self.write(*plans[-1].drafts)
            doubted = plans[-1].undecided
            if not plans[-1].drafts and not doubted:
                break
        return plans


class FoldingCommitter:
    """Stands for `engine.commit.Committer` where no database is under test: tries and folds at once, in order."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.closed, self.refused = ledger, False, list[str]()
        self.epoch = ledger.epoch
        self.database_offset: float | None = None
        self.level = LEDGER_LEVEL
        self.script: list[
            tuple[Outcome, str]
        ] = []  # answers for the next groups with drafts, instead of committing them

    def submit(self, drafts: Sequence[Draft], done: Done, meanwhile: Callable[[], None] | None = None) -> None:
        if drafts and self.script:
            outcome, why = self.script.pop(0)
            done(outcome, (), why)
        elif (why_not := Trial(self.ledger.book).refuses(drafts)) is not None:
            self.refused.append(why_not)
            done(Outcome.REFUSED, (), why_not)
        else:
            if meanwhile is not None:
                meanwhile()
            done(Outcome.COMMITTED, self.ledger.write(*drafts), "")

    async def commit(self, drafts: Sequence[Draft]) -> tuple[Outcome, Sequence[Event], str]:
        answers: list[tuple[Outcome, Sequence[Event], str]] = []
        self.submit(drafts, lambda *answer: answers.append(answer))
        return answers[0]


def reference(oid: str, epoch: int = 5, tag: str = TAG) -> str:
    """The orderRef of an order of ours."""
    return str(Reference(tag, epoch, oid))


def contract(symbol: str = "AAPL") -> ContractFact:
    """A stock as the gateway names it."""
    return ContractFact(CON_IDS[symbol], symbol, "STK", "SMART", "USD")


def shown(oid: str | None = None, perm_id: int = 900, **fields: Any) -> OpenOrder:
    """An open order at the broker; without an id of ours, somebody else's."""
    values: dict[str, Any] = {
        "perm_id": perm_id, "client_id": CLIENT if oid else 0, "broker_order_id": 1 if oid else 0,
        "reference": reference(oid) if oid else "", "account": ACCOUNT, "contract": contract(fields.pop("symbol", "AAPL")),
        "side": "BUY", "quantity": Decimal(10), "order_type": "LMT", "limit_price": Decimal("190.50"), "stop_price": None,
        "tif": "DAY", "status": "Submitted",
    } | fields  # fmt: skip
    return OpenOrder(**values)


def done(oid: str | None = None, status: str = "Filled", perm_id: int = 900, **fields: Any) -> OpenOrder:
    """A completed order: no orderId, no clientId; a filled one has total quantity 0."""
    values = {"client_id": 0, "broker_order_id": 0, "completed": True, "status": status, "text": status} | fields
    if status == "Filled":
        values = {"quantity": Decimal(0), "filled": Decimal(10)} | values
    return shown(oid, perm_id, **values)


def traded(oid: str | None = None, exec_id: str = "0001.01", quantity: int = 10, **fields: Any) -> ExecutionFact:
    """An execution at the broker."""
    values: dict[str, Any] = {
        "exec_id": exec_id, "perm_id": 900, "client_id": CLIENT if oid else 0, "broker_order_id": 1 if oid else 0,
        "reference": reference(oid) if oid else "", "account": ACCOUNT, "contract": contract(fields.pop("symbol", "AAPL")),
        "side": "BUY", "quantity": Decimal(quantity), "price": Decimal("190.50"), "exchange": "SMART", "at": NOON,
    } | fields  # fmt: skip
    return ExecutionFact(**values)


def holds(quantity: int | str, symbol: str = "AAPL", account: str = ACCOUNT) -> PositionFact:
    """A position at the broker."""
    return PositionFact(account, CON_IDS[symbol], symbol, Decimal(quantity), Decimal("190.50"))


def snap(
    *facts: OpenOrder | ExecutionFact | PositionFact,
    session: int = 2,
    first_unjudged_seq: int = 10**9,
    missing: Sequence[str] = (),
) -> Snapshot:
    """A snapshot on session 2 that shows these facts. By default it began after everything in the ledger."""
    orders = [fact for fact in facts if isinstance(fact, OpenOrder)]
    return Snapshot(
        session, first_unjudged_seq, NOON, NOON + timedelta(milliseconds=5),
        tuple(fact for fact in orders if not fact.completed), tuple(fact for fact in orders if fact.completed),
        tuple(fact for fact in facts if isinstance(fact, ExecutionFact)),
        tuple(fact for fact in facts if isinstance(fact, PositionFact)), tuple(missing),
    )  # fmt: skip


def rows(plan: Plan) -> list[str]:
    """Names of the rows that fitted, in order of the differences."""
    return [ruling.row.name for ruling in plan.rulings]


def kinds(plan: Plan) -> list[str]:
    """Kinds of the events that the plan writes, in order."""
    return [str(draft.kind) for draft in plan.drafts]


class ScriptedBroker:
    """Answers requests from what a test puts into it; a part in `silent` never ends, one in `slow` takes its time, one in `failing`
    fails at once."""

    def __init__(self, *facts: OpenOrder | ExecutionFact | PositionFact) -> None:
        self.silent, self.failing, self.asked = set[str](), set[str](), list[str]()
        self.pace = DoorPace()
        self.before: dict[str, Callable[[], None]] = {}  # what happens at the broker just before a part is asked for
        self.contracts: list[ContractDetail] | None = None  # what IB knows of whatever is asked for; None = no answer
        self.heard = float("-inf")
        self.slow: dict[str, float] = {}  # seconds that a part takes
        self.show(*facts)

    def show(self, *facts: OpenOrder | ExecutionFact | PositionFact) -> None:
        """What the broker has from now on."""
        self.facts = snap(*facts)

    async def _answer(self, part: str, deadline: float) -> None:
        self.asked.append(part)
        self.before.get(part, lambda: None)()
        if part in self.failing:
            raise RequestFailed(f"{part}: there is no broker session")
        takes = deadline if part in self.silent else self.slow.get(part, 0.0)
        if takes:
            await asyncio.sleep(min(takes, deadline))
        if takes >= deadline:
            raise RequestFailed(f"{part}: no End within {deadline:g} s")

    async def current_time(self, deadline: float) -> int:
        await self._answer("round_trip", deadline)
        return int(NOON.timestamp())

    async def ask_ib(self, deadline: float) -> None:
        await self._answer("ask_ib", deadline)

    async def open_orders(self, deadline: float) -> list[OpenOrder]:
        await self._answer("open_orders", deadline)
        return list(self.facts.open_orders)

    async def completed_orders(self, deadline: float, known: Known | None = None) -> list[OpenOrder]:
        await self._answer("completed_orders", deadline)
        return [fact for fact in self.facts.completed_orders if known is None or not known(fact.perm_id)]

    async def executions(self, deadline: float, since: datetime | None = None) -> list[ExecutionFact]:
        await self._answer("executions" if since is None else "recent_executions", deadline)
        return [fact for fact in self.facts.executions if since is None or fact.at >= since.replace(microsecond=0)]

    async def positions(self, deadline: float) -> list[PositionFact]:
        await self._answer("positions", deadline)
        return list(self.facts.positions)

    async def contract_details(self, query: ContractQuery, deadline: float) -> list[ContractDetail]:
        if self.contracts is None:
            raise RequestFailed("nobody knows")
        return self.contracts

    async def connect(self, deadline: float) -> Admitted | InUse | Unreachable:
        raise AssertionError("reconciliation opens no session")

    def abort(self) -> None:
        raise AssertionError("reconciliation ends no session")

    def place(self, order: Outgoing) -> None:
        raise AssertionError("reconciliation sends nothing (R1)")

    def prepare(self, order: Outgoing) -> None:
        raise AssertionError("reconciliation sends nothing (R1)")

    def cancel(self, broker_order_id: int) -> None:
        raise AssertionError("reconciliation cancels nothing (R26)")

    @property
    def heard_at(self) -> float:
        return self.heard

    @property
    def listing_at(self) -> float:
        return float("-inf")

    @property
    def unsent_bytes(self) -> int:
        return 0
