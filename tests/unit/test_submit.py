"""The way out: one licence per write, in accept order, within the pace; cancels once, for what this session showed live."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from loguru import logger

from engine.broker import BrokerError, Paced
from engine.commit import Outcome
from engine.errors import Problem
from engine.events import Kind
from engine.order import Order, State
from engine.pace import OVERTAKE, RESERVED, DoorPace
from engine.reference import Reference
from engine.risk import Limits
from tests.unit.book_factory import ACCOUNT, CLIENT, shown, traded
from tests.unit.desk_factory import ASKER, LateCommitter, Scene, request


@pytest.fixture
def scene() -> Scene:
    """A fresh scene."""
    return Scene()


async def refusal(scene: Scene, **fields: Any) -> Problem:
    """Why an order is not accepted."""
    with pytest.raises(Problem) as caught:
        await scene.place(**fields)
    return caught.value


async def seen(scene: Scene, key: str = "k1", perm_id: int = 900) -> Order:
    """An order that was placed and that this session showed live."""
    order = await scene.place(key)
    scene.take(shown(order.id, perm_id, broker_order_id=order.broker_order_id))
    return order


# ---- placing


@pytest.mark.rule(2)
async def test_one_commit_accepts_and_licenses_and_the_bytes_follow(scene: Scene) -> None:
    order = await scene.place()
    assert (order.state, order.session, order.broker_order_id, order.licence_epoch) == (State.SENDING, 1, 1, 5)
    assert scene.kinds() == [Kind.ORDER_ACCEPTED]
    [sent] = scene.wire.placed
    assert (sent.broker_order_id, sent.account, sent.quantity) == (1, ACCOUNT, 10)
    assert sent.reference == str(Reference(scene.desk.tag, 5, order.id))
    assert scene.desk.first_write_at == scene.clock.now


@pytest.mark.guarantee(4)
async def test_same_key_and_body_is_the_same_order_and_is_written_once(scene: Scene) -> None:
    first = await scene.desk.place(request(), ASKER)
    again = await scene.desk.place(request(quantity="10.0"), ASKER)
    assert [first[0], again[0], len(scene.wire.placed)] == [201, 200, 1]
    assert first[1] is again[1]


@pytest.mark.guarantee(4)
async def test_same_key_twice_at_once_is_one_order() -> None:
    scene = Scene(LateCommitter)
    both = [asyncio.ensure_future(scene.desk.place(request(), ASKER)) for _ in range(2)]
    other = asyncio.ensure_future(scene.desk.place(request(quantity="11"), ASKER))
    await asyncio.sleep(0)
    scene.committer.commit_all()
    assert [(await one)[0] for one in both] == [201, 200]
    with pytest.raises(Problem, match="409"):
        await other
    assert len(scene.wire.placed) == 1


@pytest.mark.rule(37)
async def test_key_with_another_body_is_409_and_another_subjects_key_is_another_order(scene: Scene) -> None:
    await scene.place()
    assert (await refusal(scene, quantity="11")).status == 409


@pytest.mark.rule(19)
@pytest.mark.parametrize(
    ("fields", "same"),
    [({}, True), ({"quantity": "11"}, False), ({"side": "SELL"}, False), ({"limit_price": "190"}, False),
     ({"order_type": "MKT", "limit_price": None}, False), ({"symbol": "IBM"}, False)],
)  # fmt: skip
async def test_key_of_an_order_restored_from_the_broker_is_compared_with_the_evidence(
    scene: Scene, fields: dict[str, Any], same: bool
) -> None:
    wanted = {"order_type": "LMT", "limit_price": "190.5"} | fields
    first = await scene.desk.place(request("lost", order_type="LMT", limit_price="190.5"), ASKER)
    lost = Scene()  # a ledger that went back in time, and the row restored from what the broker shows
    payload = scene.ledger.log[-1].payload | {"client_order_id": None, "body": None, "session": None, "perm_id": 900}
    lost.ledger.add(Kind.ORDER_RESTORED, first[1].id, **payload)
    if same:
        assert await lost.desk.place(request("lost", **wanted), ASKER) == (200, lost.order(first[1].id))
    else:
        assert (await refusal(lost, key="lost", **wanted)).status == 409
    assert not lost.wire.placed


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda s: s.permit.revoke(), "not-leader"),
        (lambda s: s.desk.end(), "not-leader"),
        (lambda s: setattr(s.permit, "proof_at", -1e12), "unproven"),
        (lambda s: setattr(s.permit, "halted", "news"), "halted"),
        (lambda s: s.ledger.add(Kind.BREAK_OPENED, id="B", kind="position", symbol="AAPL", account=ACCOUNT, holds=True,
                                ours={}, broker={}), "held"),
        (lambda s: setattr(s.ledger.book, "accounts", ()), "no-account"),
    ],
    ids=["revoked", "no term", "unproven", "halted", "held", "no account"],
)  # fmt: skip
async def test_order_that_cannot_be_accepted_now_is_503_and_nothing_is_written(
    scene: Scene, change: Any, kind: str
) -> None:
    change(scene)
    seq = scene.ledger.book.seq
    problem = await refusal(scene)
    assert (problem.status, problem.kind) == (503, kind)
    assert (scene.ledger.book.seq, scene.wire.written) == (seq, [])


async def test_order_above_a_limit_is_422_and_somebody_elses_orders_use_up_nothing() -> None:
    scene = Scene(limits=Limits(max_open_orders=1))
    fields: dict[str, Any] = {
        "client_order_id": None, "body": None, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY", "quantity": "10",
        "order_type": "LMT", "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD", "perm_id": 7,
    }  # fmt: skip
    scene.ledger.add(Kind.ORDER_EXTERNAL, "E" * 16, **fields)
    await scene.place("a")
    problem = await refusal(scene, key="b")
    assert (problem.status, problem.errors[0].message) == (422, "1 orders are open, MAX_OPEN_ORDERS is 1")


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.REFUSED, 503), (Outcome.UNKNOWN, 504)])
@pytest.mark.rule(20)
async def test_commit_that_was_refused_is_503_and_one_whose_answer_is_lost_is_504_and_nothing_is_sent(
    scene: Scene, outcome: Outcome, code: int
) -> None:
    scene.committer.script = [(outcome, "why")]
    assert (await refusal(scene)).status == code
    assert not scene.wire.placed
    assert (await scene.place()).state is State.SENDING  # the same key may be retried


async def test_client_whose_commit_outlived_the_term_is_told_that_the_outcome_is_unknown() -> None:
    scene = Scene(LateCommitter)
    waiting = asyncio.ensure_future(scene.place())
    await asyncio.sleep(0)
    scene.desk.end()
    scene.desk.begin(scene.committer)
    with pytest.raises(Problem, match="504"):
        await waiting


# ---- licences


@pytest.mark.rule(4)
async def test_term_that_ends_takes_back_what_it_licensed_and_never_wrote_and_nothing_else() -> None:
    scene = Scene(LateCommitter)
    written = asyncio.ensure_future(scene.place("written"))
    await asyncio.sleep(0)
    scene.committer.commit_all()
    late = [asyncio.ensure_future(scene.place(key)) for key in ("late", "later")]
    await asyncio.sleep(0)
    scene.permit.revoke()
    scene.desk.end()
    scene.committer.commit_all()  # was in flight
    oids = [(await one).id for one in late]
    epoch = scene.order((await written).id).licence_epoch
    assert epoch is not None
    taken_back = scene.desk.never_written(epoch)
    assert [(draft.kind, draft.order_id) for draft in taken_back] == [("order_unlicensed", oid) for oid in oids]
    assert scene.desk.never_written(epoch + 1) == []
    scene.ledger.write(*taken_back)
    assert {scene.order(oid).state for oid in oids} == {State.QUEUED}
    assert scene.desk.never_written(epoch) == []


async def test_message_of_an_order_is_made_while_its_licence_is_being_committed_and_is_what_is_written_then() -> None:
    scene = Scene(LateCommitter)
    waiting = [
        asyncio.ensure_future(scene.place("k1", valid_until="2036-01-02T10:00:00Z")),
        asyncio.ensure_future(scene.place("k2")),
    ]
    await asyncio.sleep(0)
    for meanwhile in scene.committer.meanwhile:
        meanwhile()
    assert not scene.wire.placed
    scene.committer.commit_all()
    await asyncio.gather(*waiting)
    assert scene.wire.prepared == scene.wire.placed


async def test_message_of_an_order_without_a_licence_is_not_made(scene: Scene) -> None:
    scene.shut()
    await scene.place()
    assert not scene.wire.prepared


@pytest.mark.rule(2)
@pytest.mark.parametrize("change", ["shut", "session", "epoch"])
async def test_licence_whose_gate_shut_or_session_or_epoch_ended_before_the_write_is_taken_back(change: str) -> None:
    scene = Scene(LateCommitter)
    waiting = asyncio.ensure_future(scene.place())
    await asyncio.sleep(0)
    if change == "shut":
        scene.shut()
    elif change == "session":
        scene.next_session()
    else:
        scene.permit.grant(6, scene.clock())
    scene.committer.commit_all()
    order = await waiting
    assert not scene.wire.written
    scene.committer.commit_all()
    assert (order.state, order.session) == (State.QUEUED, None)
    assert order.reason


@pytest.mark.rule(4)
async def test_log_line_of_a_write_carries_the_correlation_id_of_who_asked(scene: Scene) -> None:
    said: list[tuple[str | None, str | None]] = []
    names = ("correlation_id", "order_id")
    sink = logger.add(lambda m: said.append(tuple(m.record["extra"].get(n) for n in names)), level="WARNING")
    scene.wire.refuse = [ConnectionError("gone")]
    try:
        order = await scene.place()
    finally:
        logger.remove(sink)
    assert said == [(ASKER.correlation_id, order.id)]


@pytest.mark.parametrize("error", [ConnectionError("gone"), Paced("45 messages")])
async def test_order_that_the_door_did_not_write_is_licensed_again_under_a_higher_id(
    scene: Scene, error: Exception
) -> None:
    scene.wire.refuse = [error]
    order = await scene.place()
    assert (order.state, order.reason) == (State.QUEUED, str(error))
    scene.tick()
    assert (order.state, scene.wire.written) == (State.SENDING, [2])


@pytest.mark.rule(4)
async def test_order_whose_id_was_used_is_sent_again_once_under_a_new_one(scene: Scene) -> None:
    order = await scene.place()
    scene.take(BrokerError(1, 103, "Duplicate order id"))
    scene.tick()
    scene.tick()
    assert (order.broker_order_id, scene.wire.written) == (2, [1, 2])


@pytest.mark.rule(4)
async def test_ids_start_at_the_highest_floor_and_only_rise(scene: Scene) -> None:
    scene.desk.session_opened(40)
    await scene.place("a")
    scene.desk.session_opened(7)  # rolled back
    await scene.place("b")
    assert scene.wire.written == [40, 41]


@pytest.mark.rule(9)
async def test_orders_that_share_a_commit_are_written_in_the_order_of_their_acceptance() -> None:
    scene = Scene(LateCommitter)
    waiting = [asyncio.ensure_future(scene.place(f"k{n}")) for n in range(5)]
    await asyncio.sleep(0)
    scene.committer.commit_all()
    orders = [await one for one in waiting]
    assert scene.wire.written == [order.broker_order_id for order in orders] == [1, 2, 3, 4, 5]


@pytest.mark.rule(9)
async def test_nothing_overtakes_an_order_whose_licence_is_being_taken_back() -> None:
    scene = Scene(LateCommitter)
    first = asyncio.ensure_future(scene.place("first"))
    await asyncio.sleep(0)
    scene.wire.refuse = [ConnectionError("busy")]
    scene.committer.commit_all()
    second = asyncio.ensure_future(scene.place("second"))
    await asyncio.sleep(0)
    scene.committer.commit_all()  # the licence is taken back, the second one is accepted
    scene.tick()
    scene.committer.commit_all()
    assert [o.reference for o in scene.wire.placed] == [
        str(Reference(scene.desk.tag, 5, (await one).id)) for one in (first, second)
    ]


@pytest.mark.rule(9)
async def test_order_on_its_way_to_the_log_without_a_licence_is_not_overtaken_when_the_gate_opens() -> None:
    scene = Scene(LateCommitter)
    scene.shut()
    first = asyncio.ensure_future(scene.place("first"))
    await asyncio.sleep(0)
    scene.permit.shut.clear()  # and before the first one is in the queue
    second = asyncio.ensure_future(scene.place("second"))
    await asyncio.sleep(0)
    for _ in range(2):
        scene.committer.commit_all()
        scene.tick()
    scene.committer.commit_all()
    assert [o.reference for o in scene.wire.placed] == [
        str(Reference(scene.desk.tag, 5, (await one).id)) for one in (first, second)
    ]


# ---- the queue behind the gate


@pytest.mark.rule(9)
async def test_order_behind_a_shut_gate_is_queued_and_sent_in_accept_order_when_it_opens(scene: Scene) -> None:
    scene.shut()
    orders = [await scene.place(f"k{n}") for n in range(3)]
    assert [order.state for order in orders] == [State.QUEUED] * 3
    scene.tick()
    assert not scene.wire.written
    scene.open()
    assert [sent.reference[-16:] for sent in scene.wire.placed] == [order.id for order in orders]
    assert scene.kinds(orders[0].id) == [Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED]


@pytest.mark.rule(9)
async def test_new_order_queues_behind_those_that_wait(scene: Scene) -> None:
    scene.shut()
    first = await scene.place("first")
    scene.permit.shut.clear()
    second = await scene.place("second")
    assert second.state is State.QUEUED
    scene.tick()
    assert [sent.reference[-16:] for sent in scene.wire.placed] == [first.id, second.id]


@pytest.mark.rule(8)
@pytest.mark.parametrize("limit", ["age", "valid_until"])
async def test_order_that_waited_too_long_expires_and_is_never_sent(scene: Scene, limit: str) -> None:
    scene.shut()
    until = (datetime.now(UTC) + timedelta(seconds=5)).isoformat() if limit == "valid_until" else None
    old, young = await scene.place("old", valid_until=until), await scene.place("young")
    scene.committer.database_offset = 61.0 if limit == "age" else 6.0  # R8: by the database's clock
    scene.tick()
    assert old.state is State.EXPIRED
    assert young.state is (State.EXPIRED if limit == "age" else State.QUEUED)
    scene.open()
    assert len(scene.wire.placed) == (0 if limit == "age" else 1)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So much time passes, by every clock."""
    for module in ("submit", "queue"):
        monkeypatch.setattr(f"engine.{module}.utcnow", lambda: datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.rule(8)
@pytest.mark.parametrize("waited", [True, False])
async def test_order_whose_licence_was_committed_too_late_is_not_written_any_more(
    monkeypatch: pytest.MonkeyPatch, waited: bool
) -> None:
    """Its age was looked at when its licence was asked for; then the commit waited, as for a lock or a slow disk."""
    scene = Scene(LateCommitter)
    if waited:
        scene.shut()
    old, until = asyncio.ensure_future(scene.place("old")), (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    other = asyncio.ensure_future(scene.place("until", valid_until=until, order_type="LMT", limit_price="9"))
    await asyncio.sleep(0)
    if waited:
        scene.committer.commit_all()
        scene.open()
    later(monkeypatch, 61.0)
    scene.committer.commit_all()
    assert not scene.wire.written
    scene.committer.commit_all()  # the licences are taken back, by the process that knows that it wrote nothing (R4)
    scene.tick()
    scene.committer.commit_all()
    orders = [await one for one in (old, other)]
    assert [order.state for order in orders] == [State.EXPIRED] * 2
    assert scene.kinds(orders[0].id)[-2:] == [Kind.ORDER_UNLICENSED, Kind.ORDER_EXPIRED]


@pytest.mark.rule(8)
async def test_order_that_is_licensed_as_it_is_accepted_is_written_however_wrong_the_writers_clock_is() -> None:
    scene = Scene()
    scene.committer.database_offset = 3600.0
    await scene.place()
    assert scene.wire.written == [1]


@pytest.mark.rule(8)
async def test_family_of_which_one_became_too_old_under_its_commit_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(LateCommitter)
    scene.desk.settings.max_intent_age["STP"] = 5.0
    bracket = [
        request("parent", order_type="LMT", limit_price="9"),
        request("stop", order_type="STP", stop_price="8", side="SELL", parent_client_order_id="parent"),
    ]
    asked = asyncio.ensure_future(scene.desk.place_all(bracket, ASKER))
    await asyncio.sleep(0)
    later(monkeypatch, 6.0)
    scene.committer.commit_all()
    orders = [order for _, order in await asked]
    assert not scene.wire.written
    for _ in range(3):
        scene.committer.commit_all()
        scene.tick()
    assert [order.state for order in orders] == [State.EXPIRED] * 2


@pytest.mark.rule(8)
async def test_order_behind_one_that_waits_for_its_turn_expires_in_time() -> None:
    scene = Scene(order_rate=1.0)
    scene.shut()
    orders = [await scene.place(f"k{n}") for n in range(3)]
    await scene.place("until", valid_until=(datetime.now(UTC) + timedelta(seconds=5)).isoformat())
    scene.committer.database_offset = 6.0
    scene.open()
    assert [order.state for order in orders] == [State.SENDING, State.QUEUED, State.QUEUED]
    assert scene.count(Kind.ORDER_EXPIRED) == 1


async def test_held_contract_waits_and_the_others_go(scene: Scene) -> None:
    scene.shut()
    held, free = await scene.place("held"), await scene.place("free", symbol="IBM")
    scene.ledger.add(
        Kind.BREAK_OPENED, id="B", kind="position", symbol="AAPL", account=ACCOUNT, holds=True, ours={}, broker={}
    )
    scene.open()
    assert (held.state, free.state) == (State.QUEUED, State.SENDING)
    scene.ledger.add(Kind.BREAK_RESOLVED, id="B", resolution="booked")
    scene.tick()
    assert held.state is State.SENDING


async def test_order_whose_licence_is_being_committed_is_licensed_once() -> None:
    scene = Scene(LateCommitter)
    scene.shut()
    waiting = asyncio.ensure_future(scene.place())
    await asyncio.sleep(0)
    scene.committer.commit_all()
    order = await waiting
    scene.open()
    scene.tick()
    scene.committer.commit_all()
    scene.tick()
    scene.committer.commit_all()
    assert scene.kinds(order.id) == [Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED]
    assert scene.wire.written == [1]


async def test_licence_that_was_refused_is_asked_for_again() -> None:
    scene = Scene(LateCommitter)
    scene.shut()
    waiting = asyncio.ensure_future(scene.place())
    await asyncio.sleep(0)
    scene.committer.commit_all()
    await waiting
    scene.open()
    scene.committer.refuse_all()
    scene.tick()
    scene.committer.commit_all()
    assert scene.wire.written == [2]


# ---- the pace


async def test_what_a_doubt_keeps_back_holds_up_no_other_contract(scene: Scene) -> None:
    scene.desk.second_look = frozenset({(ACCOUNT, "AAPL")})
    kept = await scene.place("kept")
    other = await scene.place("other", symbol="MSFT")
    assert (kept.state, other.state) == (State.QUEUED, State.SENDING)  # one commit is its licence
    scene.tick()
    assert scene.order(kept.id).state is State.QUEUED
    scene.desk.second_look = frozenset()
    scene.tick()
    assert scene.order(kept.id).state is State.SENDING


async def test_orders_keep_to_their_rate_and_the_rest_queues() -> None:
    scene = Scene(order_rate=3.0)
    states = [(await scene.place(f"k{n}")).state for n in range(5)]
    assert states == [State.SENDING] * 3 + [State.QUEUED] * 2
    scene.clock.now += 0.9
    scene.tick()
    assert len(scene.wire.written) == 3
    scene.clock.now += 0.2
    scene.tick()
    assert len(scene.wire.written) == 5


async def test_pace_of_one_symbol_does_not_hold_up_another() -> None:
    scene = Scene(order_rate_per_symbol=1.0)
    await scene.place("a")
    assert (await scene.place("b")).state is State.QUEUED
    assert (await scene.place("c", symbol="IBM")).state is State.QUEUED  # behind the other, until the next tick
    scene.tick()
    assert len(scene.wire.placed) == 2
    assert scene.wire.placed[1].symbol == "IBM"


async def test_requests_of_the_last_second_leave_orders_that_much_less() -> None:
    scene = Scene(order_rate=40.0)
    for _ in range(30):
        scene.wire.pace.wrote(scene.clock.now)
    states = [(await scene.place(f"k{n}")).state for n in range(12)]
    assert states == [State.SENDING] * 10 + [State.QUEUED] * 2
    assert not scene.wire.pace.full(scene.clock.now)  # a reconciliation always has its five


async def test_licences_that_are_not_written_yet_count_for_the_pace() -> None:
    scene = Scene(LateCommitter, order_rate=0.0)
    waiting = [asyncio.ensure_future(scene.place(f"k{n}")) for n in range(60)]
    await asyncio.sleep(0)
    scene.committer.commit_all()
    await asyncio.gather(*waiting)
    assert len(scene.wire.written) == int(scene.wire.pace.rate) - RESERVED


async def test_refused_commits_give_their_room_back() -> None:
    scene = Scene(LateCommitter, order_rate=0.0, order_rate_per_symbol=0.0)
    waiting = [asyncio.ensure_future(scene.place(f"k{n}")) for n in range(40)]
    await asyncio.sleep(0)
    scene.committer.refuse_all()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = [asyncio.ensure_future(scene.place(f"k{n}")) for n in range(40)]
    await asyncio.sleep(0)
    scene.committer.commit_all()
    await asyncio.gather(*again)
    assert len(scene.wire.written) == 40


async def test_orders_that_nobody_acknowledges_are_bounded() -> None:
    scene = Scene(max_unacknowledged=2)
    orders = [await scene.place(f"k{n}") for n in range(3)]
    assert [order.state for order in orders] == [State.SENDING, State.SENDING, State.QUEUED]
    scene.tick()
    assert len(scene.wire.written) == 2
    scene.take(shown(orders[0].id, 900, broker_order_id=1))
    scene.tick()
    assert len(scene.wire.written) == 3


async def test_without_limits_nothing_waits() -> None:
    scene = Scene(order_rate=0.0, order_rate_per_symbol=0.0, max_unacknowledged=10_000)
    scene.wire.pace = DoorPace(0.0)
    for n in range(300):
        await scene.place(f"k{n}")
    assert len(scene.wire.written) == 300


# ---- cancels


@pytest.mark.rule(7)
async def test_cancel_uses_the_pair_that_this_session_showed(scene: Scene) -> None:
    order = await seen(scene)
    await scene.desk.cancel(order.id, ASKER)
    assert scene.wire.written == [1, -1]
    assert scene.ledger.log[-1].payload == {"session": 1, "broker_order_id": 1, "perm_id": 900}
    assert order.cancel_requested
    scene.tick()
    assert scene.kinds(order.id)[-1] == Kind.CANCEL_REQUESTED  # and that is all


@pytest.mark.rule(7)
async def test_cancel_of_an_order_without_evidence_is_written_once_it_is_seen_live(scene: Scene) -> None:
    order = await scene.place()
    assert (await scene.desk.cancel(order.id, ASKER)).cancel_requested
    scene.tick()
    assert scene.wire.written == [1]
    scene.take(shown(order.id, broker_order_id=1))
    for _ in range(3):
        scene.tick()
    assert scene.wire.written == [1, -1]
    assert scene.kinds(order.id)[2:] == [Kind.ORDER_WORKING, Kind.CANCEL_LICENSED]


@pytest.mark.rule(7)
async def test_cancel_asked_for_in_doubt_or_under_a_dead_session_goes_out_when_the_order_surfaces(scene: Scene) -> None:
    order = await scene.place()
    scene.next_session()
    scene.ledger.add(Kind.ORDER_IN_DOUBT, order.id, reason="not shown")
    await scene.desk.cancel(order.id, ASKER)
    scene.tick()
    assert scene.wire.written == [1]
    scene.take(shown(order.id, broker_order_id=1))
    scene.tick()
    assert scene.wire.written == [1, -1]


@pytest.mark.rule(7)
async def test_cancel_that_was_licensed_for_a_dead_session_is_not_sent_again(scene: Scene) -> None:
    order = await seen(scene)
    await scene.desk.cancel(order.id, ASKER)
    scene.next_session()
    scene.take(shown(order.id, broker_order_id=1))
    for _ in range(3):
        scene.tick()
    assert scene.wire.written == [1, -1]
    await scene.desk.cancel(order.id, ASKER)  # only a person or a client asks again
    assert scene.wire.written == [1, -1, -1]


@pytest.mark.rule(7)
@pytest.mark.parametrize("fields", [{"broker_order_id": None}, {"broker_order_id": 9}], ids=["no id", "an id"])
async def test_working_order_that_this_session_did_not_show_writes_nothing_at_every_tick(
    scene: Scene, fields: dict[str, Any]
) -> None:
    payload: dict[str, Any] = {
        "client_order_id": None, "body": None, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY", "quantity": "10",
        "order_type": "LMT", "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD", "perm_id": 77,
    }  # fmt: skip
    scene.ledger.add(Kind.ORDER_RESTORED, "R" * 16, **payload, **fields)
    await scene.desk.cancel("R" * 16, ASKER)
    seq = scene.ledger.book.seq
    for _ in range(100):
        scene.tick()
    await scene.desk.cancel("R" * 16, ASKER)
    assert (scene.ledger.book.seq, scene.wire.written) == (seq, [])
    scene.take(shown("R" * 16, 77, broker_order_id=9))
    scene.tick()
    assert scene.wire.written == [-9]


@pytest.mark.rule(26)
async def test_order_of_somebody_else_is_not_cancelled(scene: Scene) -> None:
    payload: dict[str, Any] = {
        "client_order_id": None, "body": None, "account": ACCOUNT, "symbol": "AAPL", "side": "BUY", "quantity": "10",
        "order_type": "LMT", "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD", "perm_id": 77,
    }  # fmt: skip
    scene.ledger.add(Kind.ORDER_EXTERNAL, "E" * 16, **payload)
    with pytest.raises(Problem, match="somebody else") as caught:
        await scene.desk.cancel("E" * 16, ASKER)
    assert caught.value.status == 409
    scene.take(shown(perm_id=77, client_id=CLIENT, broker_order_id=3))
    scene.ledger.add(Kind.CANCEL_REQUESTED, "E" * 16)  # whoever wrote it
    scene.tick()
    assert not scene.wire.written


async def test_queued_order_is_cancelled_without_a_word_to_the_broker(scene: Scene) -> None:
    scene.shut()
    order = await scene.place()
    assert (await scene.desk.cancel(order.id, ASKER)).state is State.CANCELLED
    scene.open()
    assert not scene.wire.written


@pytest.mark.rule(18)
async def test_while_everything_is_held_nobody_says_that_an_order_was_not_sent(scene: Scene) -> None:
    """A database that went back may call QUEUED what was sent: it ends when an operator has looked and the broker was asked."""
    scene.shut()
    cancelled, old = (
        await scene.place("k1"),
        await scene.place("k2", valid_until=datetime.now(UTC) + timedelta(seconds=0.01)),
    )
    scene.permit.shut["holding"] = "Everything is held until an operator looks."
    await asyncio.sleep(0.02)
    assert (await scene.desk.cancel(cancelled.id, ASKER)).cancel_requested
    scene.desk.work_queue()
    assert {scene.order(cancelled.id).state, scene.order(old.id).state} == {State.QUEUED}
    scene.open()
    assert scene.order(cancelled.id).state is State.CANCELLED
    assert scene.order(old.id).state is State.EXPIRED
    assert scene.wire.written == []


async def test_cancel_during_a_licence_that_is_then_not_written_ends_the_order_unsent() -> None:
    scene = Scene(LateCommitter)
    scene.shut()
    waiting = asyncio.ensure_future(scene.place())
    await asyncio.sleep(0)
    scene.committer.commit_all()
    order = await waiting
    scene.open()
    cancelling = asyncio.ensure_future(scene.desk.cancel(order.id, ASKER))
    await asyncio.sleep(0)
    scene.wire.refuse = [ConnectionError("gone")]
    for _ in range(3):
        scene.committer.commit_all()
        scene.tick()
    assert (await cancelling).state is State.CANCELLED
    assert not scene.wire.written


@pytest.mark.rule(29)
@pytest.mark.parametrize("obstacle", ["gate", "halt", "hold"])
async def test_hold_halt_and_a_shut_gate_never_stop_the_cancel_of_a_live_order(scene: Scene, obstacle: str) -> None:
    order = await seen(scene)
    if obstacle == "gate":
        scene.shut()
    elif obstacle == "halt":
        scene.permit.halted = "news"
    else:
        scene.ledger.add(
            Kind.BREAK_OPENED, id="B", kind="position", symbol="AAPL", account=ACCOUNT, holds=True, ours={}, broker={}
        )
    await scene.desk.cancel(order.id, ASKER)
    assert scene.wire.written == [1, -1]


@pytest.mark.rule(2)
@pytest.mark.parametrize("change", ["session", "epoch"])
async def test_cancel_whose_session_or_epoch_ended_before_the_write_is_not_written(change: str) -> None:
    scene = Scene(LateCommitter)
    waiting = asyncio.ensure_future(scene.place())
    await asyncio.sleep(0)
    scene.committer.commit_all()
    order = await waiting
    scene.take(shown(order.id, broker_order_id=1))
    scene.committer.commit_all()
    cancelling = asyncio.ensure_future(scene.desk.cancel(order.id, ASKER))
    await asyncio.sleep(0)
    if change == "session":
        scene.next_session()
    else:
        scene.permit.grant(6, scene.clock())
    scene.committer.commit_all()
    await cancelling
    assert scene.wire.written == [1]


async def test_cancel_of_what_ended_or_never_was_or_by_a_replica_that_cannot_write_is_refused(scene: Scene) -> None:
    order = await seen(scene)
    scene.take(traded(order.id))
    for oid, code in ((order.id, 409), ("NOBODY", 404)):
        with pytest.raises(Problem) as caught:
            await scene.desk.cancel(oid, ASKER)
        assert caught.value.status == code
    other = await scene.place("other")
    scene.permit.revoke()
    with pytest.raises(Problem, match="503"):
        await scene.desk.cancel(other.id, ASKER)


async def test_cancels_overtake_orders_and_wait_only_below_the_brokers_limit(scene: Scene) -> None:
    orders = [await seen(scene, f"k{n}", 900 + n) for n in range(6)]
    while not scene.wire.pace.full(scene.clock.now):
        scene.wire.pace.wrote(scene.clock.now)
    for order in orders:
        await scene.desk.cancel(order.id, ASKER)
    assert scene.wire.written[6:] == [-1, -2, -3, -4]  # what is above the pace and below IB's limit
    assert OVERTAKE == 4
    scene.clock.now += 1.0
    scene.tick()
    assert scene.wire.written[10:] == [-5, -6]


async def test_cancels_that_are_asked_for_together_keep_to_the_brokers_limit_too() -> None:
    scene = Scene(LateCommitter, order_rate=0.0, order_rate_per_symbol=0.0)
    waiting = [asyncio.ensure_future(scene.place(f"k{n}")) for n in range(40)]
    await asyncio.sleep(0)
    scene.committer.commit_all()
    orders = [await one for one in waiting]
    scene.take(*(shown(o.id, 900 + n, broker_order_id=o.broker_order_id) for n, o in enumerate(orders)))
    scene.committer.commit_all()
    cancelling = [asyncio.ensure_future(scene.desk.cancel(order.id, ASKER)) for order in orders]
    await asyncio.sleep(0)
    scene.committer.commit_all()
    await asyncio.gather(*cancelling)
    assert len(scene.wire.written) == 45 + OVERTAKE
    scene.clock.now += 1.0
    scene.tick()
    scene.committer.commit_all()
    assert sorted(-n for n in scene.wire.written if n < 0) == list(range(1, 41))


async def test_cancel_that_the_session_did_not_take_is_told_to_nobody_as_done(scene: Scene) -> None:
    order = await seen(scene)
    scene.wire.refuse = [ConnectionError("gone")]
    assert (await scene.desk.cancel(order.id, ASKER)).state is State.WORKING
    assert scene.wire.written == [1]


async def test_what_the_desk_remembers_of_an_order_is_forgotten_when_it_ends(scene: Scene) -> None:
    order = await seen(scene)
    scene.take(traded(order.id))
    assert order.state is State.FILLED
    assert (scene.desk.unacknowledged, scene.desk.sent_at(order.id), scene.desk.cancels._live) == ({}, None, {})


async def test_proof_on_demand_is_a_commit_of_its_own(scene: Scene) -> None:
    assert await scene.desk.proves_now()
    scene.committer.script = []
    scene.desk.end()
    assert not await scene.desk.proves_now()


@pytest.mark.rule(26)
async def test_cancel_of_a_twin_is_written_under_its_licence_whatever_became_of_the_order(scene: Scene) -> None:
    order = await seen(scene)
    licence = {"session": 1, "broker_order_id": 60, "perm_id": 901}
    scene.desk.carry_out([scene.ledger.add(Kind.TWIN_CANCEL_LICENSED, order.id, **licence)])
    scene.take(traded(order.id))
    scene.desk.carry_out([scene.ledger.add(Kind.TWIN_CANCEL_LICENSED, order.id, **(licence | {"session": 9}))])
    scene.desk.carry_out([scene.ledger.add(Kind.TWIN_CANCEL_LICENSED, order.id, **(licence | {"broker_order_id": 61}))])
    assert scene.wire.written == [1, -60, -61]
    assert not order.cancel_requested
