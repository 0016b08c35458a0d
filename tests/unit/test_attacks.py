"""Holes that an attack on the code found, each closed and kept closed: halts, links, plans that must fold, changes, holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from engine.book import Book
from engine.broker import BrokerError
from engine.clock import boottime, utcnow
from engine.errors import Problem
from engine.events import LEDGER_LEVEL, Kind
from engine.request import parse_change
from engine.trial import Trial
from ha.fence import Wait
from ha.lease import Grant, LeaderRecord, StateSeen, Stored
from ha.node import Node
from ha.role import On
from ha.shared_state import Memory
from ha.tail import Tail
from ha.takeover import Rules, Takeover
from ha.tend import Tender
from ha.tend_rules import TendRules
from ha.term import Phases
from reconcile.diff import compare
from reconcile.plan import make_plan
from reconcile.run import Reconciler
from reconcile.snapshot import Snapshot
from tests.unit.book_factory import CLIENT, CLUSTER, ME, NOON, Ledger, holds, rows, shown, snap, traded
from tests.unit.desk_factory import ASKER, LateCommitter, Scene

LIMIT = {"order_type": "LMT", "limit_price": "190.50", "quantity": "10"}


# ---- R29: stops that do not stop: a DELETE that is answered 202 and never written, a halt that lets orders out


@pytest.mark.rule(29)
async def test_second_delete_is_written_when_the_first_one_died_with_its_session() -> None:
    scene = Scene()
    order = await scene.place(**LIMIT)
    there = shown(order.id, broker_order_id=order.broker_order_id)
    scene.take(there)
    await scene.desk.cancel(order.id, ASKER)  # licensed for session 1; the gateway never reads it
    scene.next_session()
    written = len(scene.wire.written)
    await scene.desk.cancel(order.id, ASKER)  # 202: before session 2 has shown the order, or while the pace is full
    scene.take(there)
    scene.tick()
    assert scene.wire.written[written:] == [-(order.broker_order_id or 0)]


@pytest.mark.rule(29)
async def test_halt_stops_orders_that_wait_behind_the_gate_too() -> None:
    scene = Scene()
    scene.shut()
    await scene.place(**LIMIT)
    scene.permit.halted = "by an operator"
    scene.open()
    assert not scene.wire.placed


# ---- R6: the gate opens although the gateway has no link to IB


class Led:
    """A real node with its tender on a session; what a takeover would give it is made up."""

    def __init__(self) -> None:
        self.scene = scene = Scene()

        async def nothing(*_: object) -> None:
            """A note that costs nothing."""

        takeover: Any = SimpleNamespace(
            committer=scene.committer, phases=Phases(), place_known=False, must_hold=None, term=None, claim_above=lambda _: None,
            note_phases=nothing, remember=nothing,
        )  # fmt: skip
        scene.committer.control = {}
        reconciler = Reconciler(
            scene.ledger.book,
            scene.wire,
            cluster=CLUSTER,
            client_id=CLIENT,
            present_session=lambda: scene.permit.session,
        )
        nobody: Any = SimpleNamespace(instance="i", name="a")
        self.node = Node(
            scene.ledger.book, scene.permit, scene.desk, scene.inbound, scene.wire, nobody, nobody, nobody, lambda _: takeover,
            lambda it, lost: Tender(
                it, lost, permit=scene.permit, desk=scene.desk, broker=scene.wire, reconciler=reconciler, rules=TendRules()
            ),
            lambda _: nobody, lag_limit=1.0, stop_without_etcd=False,
        )  # fmt: skip

    def lose(self) -> None:
        self.node.take(BrokerError(-1, 1100, "Connectivity between IB and the gateway has been lost."))

    @property
    def open(self) -> bool:
        return self.scene.permit.gate_open(self.scene.clock())


@pytest.mark.rule(6)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_gate_stays_shut_after_a_reconciliation_on_a_session_that_was_told_1100(when: str) -> None:
    led = Led()
    led.scene.permit.shut["reconciling"] = "A new session is being reconciled."
    if when == "before":
        led.lose()  # a gateway tells a new session so, after its nextValidId
    else:
        led.scene.wire.before["positions"] = led.lose
    await led.node.tender.reconcile_session()
    assert not led.open


@pytest.mark.rule(6)
async def test_gate_stays_shut_when_the_link_is_lost_again_while_its_return_is_reconciled() -> None:
    led, again = Led(), asyncio.Event()

    def lose_again() -> None:
        led.lose()
        again.set()

    led.lose()
    led.node.take(BrokerError(-1, 1102, "Connectivity has been restored."))
    led.scene.wire.before["positions"] = lose_again
    led.node.tender.begin()
    try:
        async with asyncio.timeout(5):
            await again.wait()
            while led.node.tender.last is None:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not led.open
    finally:
        led.node.tender.end()


# ---- R24: a plan that the log refuses, in each round of each takeover: no replica ever leads


def two_accounts(ledger: Ledger) -> Snapshot:
    """The same contract is held in two accounts when the ledger begins: one break id for both."""
    ledger.session(1)
    return snap(holds(100), holds(50, account="DU2"), session=1)


def change_of_a_filled_order(ledger: Ledger) -> Snapshot:
    """A change was on its way when its order was filled and the session died; the gateway lists the order as open still."""
    ledger.session(1)
    oid = ledger.working()
    ledger.add(Kind.MODIFY_LICENSED, oid, session=1, broker_order_id=1, perm_id=900, changes={"limit_price": "191.00"})
    ledger.fill(oid)
    ledger.session(2)
    return snap(shown(oid), traded(oid), holds(10))


@pytest.mark.rule(24)
@pytest.mark.parametrize("case", [two_accounts, change_of_a_filled_order])
def test_plan_of_a_reconciliation_always_folds(case: Callable[[Ledger], Snapshot]) -> None:
    ledger = Ledger()
    snapshot = case(ledger)
    plan = make_plan(ledger.book, snapshot, compare(ledger.book, snapshot, ME), ME, NOON, last=True)
    assert Trial(ledger.book).refuses(plan.drafts) is None


# ---- R7: changes


@pytest.mark.rule(7)
async def test_of_two_changes_of_one_revision_at_once_the_second_is_412() -> None:
    scene = Scene(LateCommitter)
    placing = asyncio.ensure_future(scene.place(**LIMIT))
    while not scene.committer.waiting:
        await asyncio.sleep(0)
    scene.committer.commit_all()
    order = await placing
    scene.take(shown(order.id, broker_order_id=order.broker_order_id))
    scene.committer.commit_all()
    wanted = [parse_change({"revision": 1, "limit_price": price}) for price in ("191.00", "189.00")]
    both = [asyncio.ensure_future(scene.desk.modify(order.id, one, ASKER)) for one in wanted]
    await asyncio.sleep(0)
    scene.committer.commit_all()
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [answer.status for answer in answers if isinstance(answer, Problem)] == [412]


@pytest.mark.rule(7)
async def test_change_of_a_dead_session_does_not_go_out_with_the_next_one() -> None:
    scene = Scene()
    order = await scene.place(**LIMIT)
    there = shown(order.id, broker_order_id=order.broker_order_id)
    scene.take(there)
    await scene.desk.modify(order.id, parse_change({"revision": 1, "quantity": "20"}), ASKER)
    scene.next_session()
    scene.take(there)
    await scene.desk.modify(order.id, parse_change({"revision": 2, "limit_price": "191.00"}), ASKER)
    assert scene.wire.placed[-1].quantity == 10


# ---- R25: a hold that no operator can end


@pytest.mark.rule(25)
def test_order_that_vanished_is_not_held_again_after_an_operator_has_looked() -> None:
    ledger = Ledger()
    ledger.session(1)
    ledger.working(tif="DAY")  # ended on Friday while nobody was connected; on Monday IB lists it nowhere
    ledger.session(2)
    ledger.repair(snap())
    [found] = ledger.book.open_breaks.values()
    assert found.kind == "vanished"
    ledger.add(Kind.BREAK_RESOLVED, found.order_id, id=found.id, resolution="expired on Friday", reason="", by="op")
    ledger.repair(snap())
    assert not ledger.book.open_breaks, rows(ledger.plan(snap(), last=True))


# ---- R18: the first look after the database has changed is a whole one


class Database:
    """The tailing connection, with a log of one event; `timeline` is what it says of itself."""

    is_open = True

    def __init__(self, **control: Any) -> None:
        ledger = Ledger()
        ledger.session(1)
        self.timeline, self._event, self._control = "00000001", ledger.log[0], control

    async def run(
        self, name: str, parameters: dict[str, Any] | None = None, deadline: float = 3.0
    ) -> list[dict[str, Any]]:
        e, here = self._event, {"system": "1", "timeline": self.timeline}
        place = here | {"control": self._control, "now": utcnow(), "level": LEDGER_LEVEL, "commands": None}
        pulse = {"epoch": 5, "name": "a", "beat": 1, "head": 1, "proof_seq": 0, "digest": "0", "etcd_cluster_id": "c"}
        pulse["projected"] = 0
        event = {
            "seq": 1, "epoch": 5, "event_type": str(e.kind), "payload": e.payload, "timestamp": e.at, "order_id": None,
            "user_id": None, "correlation_id": None, "event_id": e.event_id,
        }  # fmt: skip
        answers: dict[str, list[dict[str, Any]]] = {
            "pulse": [pulse | place], "claim": [{"epoch": 6}], "fence_holds": [{"holds": True}],
            "prove": [place | {"head": 1}], "log_begins": [{"first": 1}],
            "events_after": [event] if parameters and parameters.get("after") == 0 else [],
        }  # fmt: skip
        return answers.get(name, [])

    async def tag(self, _name: str) -> None:
        """Nothing."""

    def rename(self, _name: str) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


class Etcd:
    """A lease that is ours, beside the memory of a ledger that ended at event 1."""

    async def campaign(self, _record: LeaderRecord) -> Grant:
        return Grant(1, 1, "c", 2, boottime() + 1)

    async def get_state(self, _key: str) -> StateSeen:
        return StateSeen(Memory(5, 1, "").to_text(), 1)

    async def put_state(self, _key: str, _value: str, **_: object) -> Stored:
        return Stored(2)

    def trust_left(self, _now: float) -> float:
        return 1.0


def claimant(database: Any) -> tuple[Scene, Tail, Takeover]:
    """A standby that is about to take over."""
    lease: Any = Etcd()
    scene, tail = Scene(), Tail(book := Book(), "", "b")
    tail.connection = database
    takeover = Takeover(
        book, scene.permit, scene.desk, scene.inbound, scene.wire, lease, tail, Wait(), LeaderRecord("b", "i", "http://b"), CLIENT,
        Rules(), on_fenced=lambda _: None,
    )  # fmt: skip
    return scene, tail, takeover


@pytest.mark.rule(18)
async def test_takeover_after_a_failover_of_the_database_begins_with_a_whole_snapshot() -> None:
    database: Any = Database()
    _, tail, takeover = claimant(database)
    await tail.catch_up()
    database.timeline = "00000002"  # promoted: its last commits, which nobody here had read, may be missing
    await takeover.campaign(Phases())
    await takeover.claim()
    try:
        assert takeover.must_hold is None
        assert (
            not takeover.place_known
        )  # else an order that was lost and has ended is not restored, and its key not taken (R19)
    finally:
        assert takeover.committer is not None
        await takeover.committer.close()


@pytest.mark.rule(29)
async def test_halted_pair_accepts_nothing_from_the_claim_on() -> None:
    database: Any = Database(halted={"reason": "a test", "by": "op"})
    scene, _, takeover = claimant(database)
    await takeover.campaign(Phases())
    await takeover.claim()
    try:
        why = scene.permit.refuses_intent(boottime())
        assert why is not None
        assert why[0] == "halted"
    finally:
        assert takeover.committer is not None
        await takeover.committer.close()


@pytest.mark.rule(18)
async def test_event_that_only_the_leader_spoke_of_counts_as_seen() -> None:
    """The leader and the database die together, before this replica has read the leader's last events."""
    database: Any = Database()
    _, tail, takeover = claimant(database)
    await tail.catch_up()
    tail.saw(3)  # by the leader's heartbeat; the database that comes back ends at event 1
    await takeover.campaign(Phases())
    await takeover.claim()
    try:
        assert takeover.must_hold is not None
        assert "ends at event 1, but event 3 was seen" in takeover.must_hold
    finally:
        assert takeover.committer is not None
        await takeover.committer.close()


@pytest.mark.rule(18)
async def test_orders_that_waited_while_everything_was_held_are_not_sent_at_its_end() -> None:
    scene = Scene()
    scene.permit.shut["holding"] = "Everything is held."
    waiting = scene.ledger.accept("from before the database went back")
    scene.desk.end_queue("everything was held while it waited")
    scene.open()
    assert (scene.order(waiting).state.value, scene.wire.placed) == ("EXPIRED", [])


# ---- clocks (R8)


@pytest.mark.rule(8)
@pytest.mark.parametrize(("off", "leads"), [(0.0, True), (0.4, True), (-0.4, True), (0.8, False), (-0.8, False)])
async def test_replica_whose_clock_is_off_does_not_campaign(off: float, leads: bool) -> None:
    class Elsewhen(Database):
        async def run(self, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
            rows = await super().run(*arguments, **options)
            return [row | ({"now": row["now"] + timedelta(seconds=off)} if "now" in row else {}) for row in rows]

    database: Any = Elsewhen()
    _, tail, takeover = claimant(database)
    assert await takeover.campaign(Phases()) is (On.WON if leads else On.LOST)
    assert (tail.unfit is None) is leads
    assert leads or "set the clocks" in (tail.unfit or "")
