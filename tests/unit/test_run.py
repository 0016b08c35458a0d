"""A reconciliation from its first collection to its verdict: rounds, doubts, refusals, and lost sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from engine import failpoint
from engine.commit import Done, Outcome
from engine.events import Draft, Event, Kind
from engine.order import State
from reconcile.run import Reconciler, Result
from tests.unit.book_factory import (
    ACCOUNT,
    CLIENT,
    CLUSTER,
    NOON,
    FoldingCommitter,
    Ledger,
    ScriptedBroker,
    done,
    holds,
    reference,
    shown,
    traded,
)


class Scene:
    """A ledger whose session 1 died, a broker, and a reconciliation on session 2."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ledger.session(1)
        self.ledger.session(2, next_valid_id=50)
        self.committer, self.broker = FoldingCommitter(self.ledger), ScriptedBroker()
        self.session: int | None = 2
        self.reconciler = Reconciler(
            self.ledger.book, self.broker, cluster=CLUSTER, client_id=CLIENT, present_session=lambda: self.session
        )

    async def run(self, *, rounds: int = 3, deadline: float = 2.0, hold_back: float = 0.0, **more: float) -> Result:
        return await self.reconciler.reconcile(
            self.committer, 2, deadline=deadline, rounds=rounds, hold_back=hold_back, **more
        )


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A fresh scene; failpoints are disarmed afterwards."""
    yield Scene()
    failpoint.arm("")


async def test_nothing_to_repair_costs_one_collection(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.ledger.accept("queued")
    scene.broker.show(shown(oid))
    seq = scene.ledger.book.seq
    result = await scene.run()
    assert (result.verdict, result.rounds, result.repaired, result.held, result.differences) == ("agreed", 1, 0, 0, ())
    assert len(scene.broker.asked) == 5
    assert scene.ledger.book.seq == seq  # and nothing is written


async def test_a_repair_is_verified_by_a_second_collection(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.broker.show(done(oid), traded(oid), holds(10))
    result = await scene.run()
    assert (result.verdict, result.rounds, result.repaired) == ("agreed", 2, 1)
    assert scene.ledger.order(oid).state is State.FILLED
    assert result.differences == ("filled_while_away (repair): execution:DU1:0001.01",)


@pytest.mark.rule(1)
async def test_absent_order_is_looked_for_again_before_it_is_parked(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    result = await scene.run()
    assert (result.verdict, result.rounds, result.held) == ("parked", 3, 1)  # doubted, parked, verified
    assert scene.ledger.order(oid).state is State.IN_DOUBT
    assert result.gate_may_open


@pytest.mark.rule(1)
async def test_order_that_shows_itself_in_the_second_collection_is_adopted(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.broker.before["positions"] = lambda: scene.broker.show(shown(oid))  # after its open orders were asked for
    result = await scene.run()
    assert (result.verdict, result.held, result.repaired) == ("agreed", 0, 1)
    assert scene.ledger.order(oid).state is State.WORKING


async def test_a_doubt_is_held_back_for_its_time(scene: Scene) -> None:
    scene.ledger.accept(session=1)
    result = await scene.run(hold_back=0.1)
    assert result.elapsed_ms >= 100
    assert result.held == 1


@pytest.mark.rule(24)
@pytest.mark.parametrize("part", ["round_trip", "open_orders", "completed_orders", "executions", "positions"])
async def test_snapshot_that_stays_incomplete_parks_the_doubtful_and_lets_the_gate_open(
    scene: Scene, part: str
) -> None:
    oid = scene.ledger.accept(session=1)
    scene.broker.failing.add(part)
    result = await scene.run()
    assert (result.verdict, result.rounds, result.missing, result.held) == ("parked", 3, (part,), 1)
    assert scene.ledger.order(oid).state is State.IN_DOUBT
    found = scene.ledger.book.holding(ACCOUNT, "AAPL")
    assert found is not None
    assert found.broker["snapshot"] == f"incomplete snapshot: {part}"


@pytest.mark.rule(24)
async def test_part_that_never_ends_does_not_keep_the_gate_shut_beyond_the_deadline(scene: Scene) -> None:
    scene.broker.silent.add("executions")
    result = await scene.run(deadline=0.4)
    assert result.verdict == "parked"
    assert result.missing == ("executions",)
    assert result.elapsed_ms < 2000


@pytest.mark.rule(24)
@pytest.mark.rule(33)
async def test_what_lists_may_take_ends_with_the_time_for_all_of_it(scene: Scene) -> None:
    """A gateway that answers the round trip and nothing else: parked before the phase's deadline would end the term."""
    scene.broker.silent.update({"open_orders", "completed_orders", "executions", "positions", "recent_executions"})
    result = await scene.run(deadline=0.4, lists=60.0, at_most=0.8)
    assert result.verdict == "parked"
    assert "open_orders" in result.missing
    assert result.elapsed_ms < 4000


@pytest.mark.guarantee(6)
async def test_incomplete_snapshot_without_a_doubt_is_parked_not_agreed(scene: Scene) -> None:
    scene.broker.failing.add("completed_orders")
    result = await scene.run()
    assert (result.verdict, result.held, result.missing) == ("parked", 0, ("completed_orders",))


@pytest.mark.rule(24)
async def test_a_fill_in_every_round_does_not_go_on_for_ever(scene: Scene) -> None:
    oid = scene.ledger.working(quantity="100")
    fills = [traded(oid, f"000{n}.01", 1) for n in range(1, 10)]
    count = iter(range(1, 10))

    def fill() -> None:
        n = next(count)
        scene.broker.show(shown(oid, quantity=Decimal(100)), *fills[:n], holds(n))

    scene.broker.before["round_trip"] = fill
    result = await scene.run()
    assert (result.verdict, result.rounds, result.repaired) == ("parked", 3, 3)
    assert scene.ledger.order(oid).filled == 3


@pytest.mark.rule(3)
async def test_verdict_is_void_once_its_session_ends(scene: Scene) -> None:
    scene.ledger.accept(session=1)
    scene.broker.before["positions"] = lambda: setattr(scene, "session", None)
    seq = scene.ledger.book.seq
    result = await scene.run()
    assert result.verdict == "session_lost"
    assert not result.gate_may_open
    assert scene.ledger.book.seq == seq


@pytest.mark.guarantee(6)
async def test_gateway_that_answers_nothing_is_a_lost_session_and_no_order_is_judged_by_it(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.broker.failing.update(["round_trip", "open_orders", "completed_orders", "executions", "positions"])
    result = await scene.run()
    assert (result.verdict, result.rounds, len(result.missing)) == ("session_lost", 1, 5)
    assert scene.ledger.order(oid).state is State.SENDING


async def test_new_session_in_the_book_voids_the_verdict_where_nobody_says_which_one_is_present(scene: Scene) -> None:
    reconciler = Reconciler(scene.ledger.book, scene.broker, cluster=CLUSTER, client_id=CLIENT)
    assert (await reconciler.reconcile(scene.committer, 2, deadline=1.0)).verdict == "agreed"
    scene.broker.before["positions"] = lambda: scene.ledger.session(3)
    assert (await reconciler.reconcile(scene.committer, 2, deadline=1.0)).verdict == "session_lost"


async def test_fenced_writer_ends_the_reconciliation_and_writes_nothing(scene: Scene) -> None:
    scene.ledger.accept(session=1)
    scene.committer.closed = True
    scene.committer.script = [(Outcome.REFUSED, "fenced: this writer names epoch 5, the present one is 6 (PA001)")]
    result = await scene.run(rounds=1)
    assert result.verdict == "fenced"
    assert "PA001" in result.why
    assert not result.gate_may_open


async def test_commit_without_an_answer_is_unknown_not_refused(scene: Scene) -> None:
    scene.ledger.accept(session=1)
    scene.committer.script = [(Outcome.UNKNOWN, "the term ended while the commit was in flight")]
    result = await scene.run(rounds=1)
    assert (result.verdict, result.held) == ("unknown", 0)
    assert not result.gate_may_open


async def test_repair_that_was_refused_because_the_state_moved_on_is_another_round(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.broker.show(done(oid), traded(oid), holds(10))
    scene.committer.script = [(Outcome.REFUSED, "execution 0001.01 is booked already")]
    result = await scene.run()
    assert (result.verdict, result.rounds, result.repaired) == ("agreed", 3, 1)


async def test_repair_that_is_refused_in_every_round_does_not_open_the_gate(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.broker.show(done(oid), traded(oid), holds(10))
    scene.committer.script = [(Outcome.REFUSED, "no")] * 3
    result = await scene.run()
    assert (result.verdict, result.why, result.repaired) == ("unknown", "no", 0)


@pytest.mark.rule(24)
async def test_what_came_in_live_is_committed_before_the_books_are_compared(scene: Scene) -> None:
    oid = scene.ledger.working(session=2)
    scene.broker.show(shown(oid), traded(oid, quantity=4), holds(4))
    live: list[Draft] = []
    real = scene.committer.submit

    def submit_with_backlog(drafts, done):  # type: ignore[no-untyped-def]
        if live:
            real([live.pop()], lambda *_: None)  # it was submitted before, so it is committed before
        real(drafts, done)

    scene.committer.submit = submit_with_backlog  # type: ignore[method-assign]
    payload = {
        "exec_id": "0001.01", "account": ACCOUNT, "con_id": 265598, "symbol": "AAPL", "side": "BUY", "quantity": "4",
        "price": "190.50", "exchange": "SMART", "perm_id": 900, "at": "2026-01-02T12:00:00Z",
    }  # fmt: skip
    scene.broker.before["positions"] = lambda: live.append(Draft(Kind.EXECUTION, payload, NOON, oid))
    result = await scene.run()
    assert (result.verdict, result.rounds, result.differences) == ("agreed", 1, ())
    assert scene.ledger.order(oid).filled == 4


async def test_dry_run_shows_the_plan_and_writes_nothing(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    seq = scene.ledger.book.seq
    plan = await scene.reconciler.dry_run(2, deadline=1.0)
    assert [str(ruling) for ruling in plan.rulings] == [f"sending_absent (hold): order:{oid}"]
    assert len(plan.breaks) == 1
    assert scene.ledger.book.seq == seq


@pytest.mark.rule(18)
async def test_epoch_in_a_reference_above_ours_is_reported(scene: Scene) -> None:
    scene.broker.show(shown(reference=reference("A" * 16, epoch=12), client_id=7))
    result = await scene.run()
    assert result.highest_epoch == 12
    assert scene.ledger.book.orders["A" * 16].epoch == 12


@pytest.mark.parametrize(("point", "repaired"), [("takeover.collected", False), ("takeover.repaired", True)])
async def test_failpoints_lie_before_and_after_the_repair(scene: Scene, point: str, repaired: bool) -> None:
    oid = scene.ledger.working()
    scene.broker.show(done(oid), traded(oid), holds(10))
    failpoint.arm(f"{point}=raise")
    with pytest.raises(failpoint.FailpointError):
        await scene.run()
    assert (scene.ledger.order(oid).state is State.FILLED) == repaired


@pytest.mark.rule(26)
async def test_twin_is_cancelled_once_and_told_and_the_next_collection_shows_what_came_of_it(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    cancelled: list[int] = []

    def carry_out(events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == Kind.TWIN_CANCEL_LICENSED:
                cancelled.append(event.payload["broker_order_id"])
                scene.broker.show(shown(oid, 900, broker_order_id=1), done(oid, "Cancelled", 901))

    scene.broker.show(shown(oid, 900, broker_order_id=1), shown(oid, 901, broker_order_id=60))
    reconciler = Reconciler(
        scene.ledger.book, scene.broker, cluster=CLUSTER, client_id=CLIENT, present_session=lambda: 2,
        carry_out=carry_out,
    )  # fmt: skip
    result = await reconciler.reconcile(scene.committer, 2, deadline=2.0, hold_back=0.0)
    assert (cancelled, result.rounds) == ([60], 3)
    [found] = scene.ledger.book.breaks.values()
    assert (found.kind, found.resolution) == ("twin", "one of them ended")
    assert scene.ledger.order(oid).state is State.WORKING
    assert (await reconciler.reconcile(scene.committer, 2, deadline=2.0)).verdict == "agreed"
    assert cancelled == [60]


@pytest.mark.rule(26)
async def test_twin_that_survives_its_cancel_is_held_and_not_cancelled_again(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    licensed: list[Event] = []
    scene.broker.show(shown(oid, 900, broker_order_id=1), shown(oid, 901, broker_order_id=60))
    reconciler = Reconciler(
        scene.ledger.book, scene.broker, cluster=CLUSTER, client_id=CLIENT, present_session=lambda: 2,
        carry_out=lambda events: licensed.extend(e for e in events if e.kind == Kind.TWIN_CANCEL_LICENSED),
    )  # fmt: skip
    for _ in range(3):
        await reconciler.reconcile(scene.committer, 2, deadline=2.0, hold_back=0.0)
    assert len(licensed) == 1
    assert scene.ledger.book.holding(ACCOUNT, "AAPL") is not None


async def test_nobody_licenses_a_cancel_that_nobody_would_write(scene: Scene) -> None:
    oid = scene.ledger.working(perm_id=900)
    scene.broker.show(shown(oid, 900, broker_order_id=1), shown(oid, 901, broker_order_id=60))
    await scene.run()
    assert scene.ledger.book.holding(ACCOUNT, "AAPL") is not None
    assert Kind.TWIN_CANCEL_LICENSED not in [event.kind for event in scene.ledger.log]


# ---- only what is new


async def test_recent_reconciliation_repairs_and_verifies_without_the_day(scene: Scene) -> None:
    old, new = scene.ledger.working("old", perm_id=800), scene.ledger.working("new")
    scene.ledger.fill(old, "0000.01", perm_id=800)
    scene.broker.show(traded(old, "0000.01", perm_id=800), traded(new), holds(20))
    result = await scene.reconciler.reconcile(scene.committer, 2, deadline=2.0, recent=True)
    assert (result.verdict, result.rounds, result.repaired, result.missing) == ("agreed", 2, 1, ())
    assert "completed_orders" not in scene.broker.asked
    assert scene.ledger.order(new).state is State.FILLED


@pytest.mark.guarantee(5)
async def test_doubt_of_a_recent_reconciliation_is_looked_at_in_the_whole_day(scene: Scene) -> None:
    oid = scene.ledger.working()
    scene.ledger.fill(oid)
    late = traded(exec_id="0002.01", perm_id=77, quantity=5, at=NOON - timedelta(minutes=5))  # reported late
    scene.broker.show(traded(oid), late, holds(15))
    result = await scene.reconciler.reconcile(scene.committer, 2, deadline=2.0, hold_back=0.0, recent=True)
    assert (result.verdict, result.held) == ("agreed", 0)
    assert scene.ledger.book.positions[(ACCOUNT, holds(1).con_id)].quantity == 15


# ---- the gate need not wait for what is doubtful (R24)


class Opened:
    """What was said early, and how often the broker had been asked by then."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.said = scene, list[tuple[frozenset[tuple[str, str]], int, int]]()

    def __call__(self, contracts: frozenset[tuple[str, str]], highest_epoch: int) -> None:
        self.said.append((contracts, highest_epoch, self.scene.broker.asked.count("open_orders")))


@pytest.mark.rule(24)
async def test_doubt_about_one_contract_opens_the_gate_for_the_others_and_is_decided_afterwards(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    opened = Opened(scene)
    result = await scene.reconciler.reconcile(scene.committer, 2, deadline=2.0, hold_back=0.05, early=opened)
    assert opened.said == [(frozenset({(ACCOUNT, "AAPL")}), 0, 1)]  # after the first collection, once
    assert (result.verdict, result.rounds, result.held) == ("parked", 3, 1)
    assert result.elapsed_ms >= 50
    assert scene.ledger.order(oid).state is State.IN_DOUBT


@pytest.mark.rule(24)
async def test_repair_is_verified_before_the_gate_opens_early_and_not_held_back_for_the_doubt(scene: Scene) -> None:
    filled, doubtful = scene.ledger.working(), scene.ledger.accept("k2", session=1, symbol="MSFT")
    scene.broker.show(done(filled), traded(filled), holds(10))
    opened = Opened(scene)
    result = await scene.reconciler.reconcile(scene.committer, 2, deadline=2.0, hold_back=0.05, early=opened)
    assert opened.said == [(frozenset({(ACCOUNT, "MSFT")}), 5, 2)]
    assert (result.repaired, result.held) == (1, 1)
    assert scene.ledger.order(doubtful).state is State.IN_DOUBT


@pytest.mark.guarantee(6)
async def test_nothing_opens_early_while_a_part_is_missing(scene: Scene) -> None:
    scene.ledger.accept(session=1)
    scene.broker.failing.add("positions")
    opened = Opened(scene)
    result = await scene.reconciler.reconcile(scene.committer, 2, deadline=2.0, hold_back=0.0, early=opened)
    assert opened.said == []
    assert result.verdict == "parked"


async def test_nothing_opens_early_without_a_doubt(scene: Scene) -> None:
    opened = Opened(scene)
    assert (await scene.reconciler.reconcile(scene.committer, 2, deadline=2.0, early=opened)).verdict == "agreed"
    assert opened.said == []


@pytest.mark.rule(24)
async def test_gateway_that_answers_more_than_there_is_time_for_is_not_mute(scene: Scene) -> None:
    """A day's list is still coming when its time is up, and with it every answer behind it: the session lives."""
    scene.broker.failing.update(["round_trip", "open_orders", "completed_orders", "executions", "positions"])
    assert (await scene.run()).verdict == "session_lost"
    scene.broker.heard = float("inf")
    assert (await scene.run()).verdict == "parked"


class Choosy(FoldingCommitter):
    """Refuses every group that has to do with one order."""

    def __init__(self, ledger: Ledger, oid: str) -> None:
        super().__init__(ledger)
        self.oid = oid

    def submit(self, drafts: Sequence[Draft], done: Done, meanwhile: Callable[[], None] | None = None) -> None:
        if any(draft.order_id == self.oid for draft in drafts):
            done(Outcome.REFUSED, (), "cannot be folded")
        else:
            super().submit(drafts, done)


@pytest.mark.rule(24)
async def test_one_repair_that_cannot_be_written_takes_no_other_with_it_and_opens_the_gate_for_the_rest(
    scene: Scene,
) -> None:
    bad, good = scene.ledger.accept("bad", session=1), scene.ledger.accept("good", session=1, symbol="MSFT")
    scene.broker.show(shown(bad, symbol="AAPL"), shown(good, perm_id=901, broker_order_id=2, symbol="MSFT"))
    result = await scene.reconciler.reconcile(Choosy(scene.ledger, bad), 2, deadline=2.0, hold_back=0.0)
    assert scene.ledger.order(good).state is State.WORKING
    assert scene.ledger.order(bad).state is State.SENDING
    assert result.gate_may_open
    assert result.unwritten == frozenset({(ACCOUNT, "AAPL")})  # where nothing is sent until it can be written down


@pytest.mark.rule(6)
async def test_ib_is_asked_for_a_verdict_on_an_absence_only_and_for_none_else(scene: Scene) -> None:
    """Every question costs a second, and a takeover that has nothing absent has none."""
    oid = scene.ledger.working()
    scene.broker.show(done(oid), traded(oid), holds(10))
    assert (await scene.run()).repaired == 1
    assert "ask_ib" not in scene.broker.asked
    scene.ledger.accept("lost", session=1)
    asked = len(scene.broker.asked)
    assert (await scene.run()).held == 1
    later = scene.broker.asked[asked:]
    assert later.index("ask_ib") > later.index("positions")  # not for the first look, that decides nothing
    assert later[later.index("ask_ib") :].count("ask_ib") >= 2


@pytest.mark.rule(6)
@pytest.mark.guarantee(6)
async def test_order_that_is_not_shown_while_ib_does_not_answer_is_parked_as_unproven_and_never_called_absent(
    scene: Scene,
) -> None:
    """A link that is lost is told 10 to 30 seconds late: until then the gateway alone answers as if all were well."""
    oid = scene.ledger.accept("lost", session=1)
    seen = scene.ledger.working("seen", perm_id=901)
    scene.broker.failing.add("ask_ib")
    result = await scene.run()
    assert result.missing == ("link",)
    assert scene.ledger.order(oid).state is State.IN_DOUBT
    [found] = scene.ledger.book.open_breaks.values()
    assert found.broker["snapshot"] == f"incomplete snapshot: link, order {seen}"
    assert scene.ledger.order(seen).state is State.WORKING


async def test_look_for_somebody_elses_decision_is_whole_and_proven_and_writes_nothing(scene: Scene) -> None:
    oid = scene.ledger.accept(session=1)
    scene.broker.show(shown(oid))
    seq = scene.ledger.book.seq
    snapshot = await scene.reconciler.look(2, deadline=1.0)
    assert (snapshot.complete, snapshot.linked, scene.ledger.book.seq) == (True, True, seq)
    assert scene.reconciler.shows(snapshot, oid)
    assert not scene.reconciler.shows(snapshot, "ANOTHER")


@pytest.mark.rule(6)
async def test_gate_that_waits_for_repairs_to_be_verified_does_not_wait_for_ibs_answer_about_a_doubt(
    scene: Scene,
) -> None:
    filled, lost = scene.ledger.working(), scene.ledger.accept("lost", session=1, symbol="MSFT")
    scene.broker.show(done(filled), traded(filled), holds(10))
    asked_before: list[bool] = []
    result = await scene.reconciler.reconcile(
        scene.committer, 2, deadline=5.0, hold_back=0.0,
        early=lambda *_: asked_before.append("ask_ib" in scene.broker.asked),
    )  # fmt: skip
    assert asked_before == [False]
    assert (result.held, scene.ledger.order(lost).state, result.missing) == (1, State.IN_DOUBT, ())
    assert scene.broker.asked.count("ask_ib") == 2
