"""R7: a change is licensed for the session that showed the order live, written once, and true when the broker shows it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from engine.broker import BrokerError, ContractDetail, Paced
from engine.contracts import Contracts
from engine.errors import Problem
from engine.events import Kind
from engine.order import Order, State
from engine.request import ChangeRequest, parse_change
from engine.risk import Limits
from tests.unit.book_factory import ACCOUNT, shown
from tests.unit.desk_factory import ASKER, LateCommitter, Scene

pytestmark = pytest.mark.rule(7)


@pytest.fixture
def scene() -> Scene:
    return Scene()


LIMIT = {"order_type": "LMT", "limit_price": "190.50", "quantity": "10"}


async def live(scene: Scene, key: str = "k1") -> Order:
    """An order that this session showed live."""
    order = await scene.place(key, **LIMIT)
    scene.take(shown(order.id, broker_order_id=order.broker_order_id))
    assert order.state is State.WORKING
    return order


def change(revision: int = 1, **figures: str) -> ChangeRequest:
    return parse_change({"revision": revision, **figures})


async def refusal(scene: Scene, oid: str, wanted: ChangeRequest, *, meanwhile: bool = False) -> Problem:
    """What `modify` says; it wrote nothing. `meanwhile`: other things went to the log."""
    written, log = list(scene.wire.written), len(scene.ledger.log)
    with pytest.raises(Problem) as refused:
        await scene.desk.modify(oid, wanted, ASKER)
    assert scene.wire.written == written, "nothing is written"
    assert meanwhile or len(scene.ledger.log) == log
    return refused.value


async def test_change_goes_out_under_the_orders_own_id_and_is_true_when_the_broker_shows_it(scene: Scene) -> None:
    order = await live(scene)
    answer = await scene.desk.modify(order.id, change(limit_price="191.25", quantity="12"), ASKER)
    sent = scene.wire.placed[-1]
    assert (sent.broker_order_id, sent.limit_price, sent.quantity) == (order.broker_order_id, Decimal("191.25"), 12)
    assert sent.reference == scene.wire.placed[0].reference
    assert (answer.revision, answer.limit_price, answer.quantity) == (2, Decimal("190.50"), 10)  # as the broker has it
    assert answer.asked == {"limit_price": "191.25", "quantity": "12"}
    there = shown(order.id, broker_order_id=order.broker_order_id, limit_price=Decimal("191.25"), quantity=Decimal(12))
    scene.take(there, there)
    assert (order.revision, order.limit_price, order.quantity, order.asked) == (2, Decimal("191.25"), 12, {})
    assert scene.doubts == []
    assert scene.kinds(order.id)[-2:] == [Kind.MODIFY_LICENSED, Kind.ORDER_CHANGED]


async def test_figures_that_nobody_asked_for_are_a_persons_change_and_are_asked_after(scene: Scene) -> None:
    order = await live(scene)
    await scene.desk.modify(order.id, change(limit_price="191.25"), ASKER)
    scene.take(shown(order.id, broker_order_id=order.broker_order_id, limit_price=Decimal("191.00")))
    assert scene.doubts == [f"order {order.id} was changed at the broker"]
    assert order.asked == {"limit_price": "191.25"}


async def test_late_change_of_an_older_revision_is_412(scene: Scene) -> None:
    order = await live(scene)
    await scene.desk.modify(order.id, change(limit_price="191.25"), ASKER)
    refused = await refusal(scene, order.id, change(limit_price="190.75"))
    assert (refused.status, refused.kind) == (412, "revision-mismatch")
    assert "is at revision 2, not 1" in refused.detail


@pytest.mark.parametrize("code", [104, 105, 110, 201])
async def test_error_on_a_change_ends_the_change_and_not_the_order(scene: Scene, code: int) -> None:
    order = await live(scene)
    await scene.desk.modify(order.id, change(limit_price="191.25"), ASKER)
    scene.take(BrokerError(order.broker_order_id or 0, code, "no"))
    assert (order.state, order.asked, order.reason) == (State.WORKING, {}, f"{code}: no")
    assert order.limit_price == Decimal("190.50")


@pytest.mark.parametrize(
    ("figures", "fields"),
    [({"limit_price": "900"}, ["quantity"]), ({"limit_price": "900", "quantity": "51"}, ["quantity", "quantity"])],
)
async def test_change_beyond_a_limit_is_refused_as_a_new_order_is(figures: dict[str, str], fields: list[str]) -> None:
    scene = Scene(limits=Limits(max_quantity=Decimal(50), max_value=Decimal(5000)))
    order = await live(scene)
    refused = await refusal(scene, order.id, change(**figures))
    with pytest.raises(Problem) as new:
        await scene.place("k2", **LIMIT | figures)
    assert (refused.status, refused.kind, [e.field for e in refused.errors]) == (422, "risk-limit", fields)
    assert (refused.detail, refused.errors) == (new.value.detail, new.value.errors)


async def test_change_to_a_price_between_two_steps_is_refused_as_a_new_order_is(scene: Scene) -> None:
    scene.desk.contracts = Contracts(scene.wire, scene.ledger.book)
    scene.wire.contracts = [
        ContractDetail(265598, "AAPL", "AAPL", "STK", "SMART", "NASDAQ", "USD", "", Decimal("0.01"))
    ]
    order = await live(scene)
    refused = await refusal(scene, order.id, change(limit_price="190.505"))
    with pytest.raises(Problem) as new:
        await scene.place("k2", **LIMIT | {"limit_price": "190.505"})
    assert (refused.status, refused.kind, [e.field for e in refused.errors]) == (422, "invalid-order", ["limit_price"])
    assert (refused.detail, refused.errors) == (new.value.detail, new.value.errors)
    assert (await scene.desk.modify(order.id, change(limit_price="190.51"), ASKER)).asked == {"limit_price": "190.51"}


@pytest.mark.parametrize("found", [None, []])
async def test_change_of_an_order_whose_contract_nobody_can_say_is_judged_by_ib(scene: Scene, found: Any) -> None:
    order = await live(scene)
    scene.desk.contracts = Contracts(scene.wire, scene.ledger.book)
    scene.wire.contracts = found
    assert (await scene.desk.modify(order.id, change(limit_price="190.505"), ASKER)).asked == {"limit_price": "190.505"}


async def test_order_that_ended_while_its_contract_was_asked_for_is_not_changed(scene: Scene) -> None:
    order = await live(scene)
    contracts = scene.desk.contracts = Contracts(scene.wire, scene.ledger.book)

    async def ended(_order: Order, *, session: bool) -> None:
        assert session
        scene.take(shown(order.id, broker_order_id=order.broker_order_id, status="Cancelled"))

    contracts.of_order = ended  # type: ignore[method-assign, assignment]
    assert (await refusal(scene, order.id, change(limit_price="191"), meanwhile=True)).kind == "order-final"


async def test_error_on_a_change_of_an_earlier_sessions_order_is_heard_too(scene: Scene) -> None:
    order = await live(scene)
    scene.next_session()
    scene.take(shown(order.id, broker_order_id=order.broker_order_id))
    await scene.desk.modify(order.id, change(limit_price="191.25"), ASKER)
    scene.take(BrokerError(order.broker_order_id or 0, 110, "no"))
    assert (order.state, order.asked) == (State.WORKING, {})


@pytest.mark.parametrize("code", [161, 10147, 10148, 2103, 399])
async def test_error_on_something_else_leaves_the_change_alone(scene: Scene, code: int) -> None:
    order = await live(scene)
    await scene.desk.modify(order.id, change(limit_price="191.25"), ASKER)
    scene.take(BrokerError(order.broker_order_id or 0, code, "no"))
    assert order.asked == {"limit_price": "191.25"}


async def test_change_that_was_not_written_is_over_at_once(scene: Scene) -> None:
    order = await live(scene)
    scene.wire.refuse = [Paced("full")]
    answer = await scene.desk.modify(order.id, change(limit_price="191.25"), ASKER)
    assert (answer.asked, answer.reason, answer.state) == ({}, "not written: full", State.WORKING)


async def test_change_whose_session_ended_before_its_commit_is_not_written() -> None:
    scene = Scene(LateCommitter)
    placing = asyncio.ensure_future(scene.place(**LIMIT))
    await asyncio.sleep(0)
    scene.committer.commit_all()
    order = await placing
    scene.take(shown(order.id, broker_order_id=order.broker_order_id))
    scene.committer.commit_all()
    changing = asyncio.ensure_future(scene.desk.modify(order.id, change(limit_price="191.25"), ASKER))
    await asyncio.sleep(0)
    scene.permit.session = None
    scene.desk.session_lost()
    scene.committer.commit_all()
    await changing
    assert len(scene.wire.placed) == 1
    scene.committer.commit_all()
    assert order.asked == {}


@pytest.mark.rule(29)
@pytest.mark.parametrize(
    ("obstacle", "kind"),
    [("hold", "held"), ("halt", "halted"), ("gate", "gate-shut"), ("reconnected", "not-shown-yet")],
)
async def test_hold_halt_and_a_shut_gate_stop_a_change(scene: Scene, obstacle: str, kind: str) -> None:
    order = await live(scene)
    match obstacle:
        case "hold":
            scene.ledger.add(
                Kind.BREAK_OPENED,
                id="b1",
                kind="in_doubt",
                symbol="AAPL",
                account=ACCOUNT,
                holds=True,
                ours={},
                broker={},
            )
        case "halt":
            scene.permit.halted = "by an operator"
        case "gate":
            scene.shut()
        case _:
            scene.next_session()
    refused = await refusal(scene, order.id, change(limit_price="191.25"))
    assert (refused.status, refused.kind) == (503, kind)


async def test_order_that_is_not_working_or_is_being_cancelled_is_409(scene: Scene) -> None:
    unseen = await scene.place("unseen", **LIMIT)
    assert (await refusal(scene, unseen.id, change(limit_price="191.25"))).status == 409
    order = await live(scene)
    await scene.desk.cancel(order.id, ASKER)
    refused = await refusal(scene, order.id, change(limit_price="191.25"))
    assert (refused.status, refused.kind) == (409, "order-not-live")


@pytest.mark.parametrize(("figures", "field"), [({"stop_price": "1"}, "stop_price"), ({"quantity": "4"}, "quantity")])
async def test_figures_that_the_order_cannot_have_are_422(scene: Scene, figures: dict[str, str], field: str) -> None:
    order = await live(scene)
    scene.ledger.fill(order.id, quantity="4")
    refused = await refusal(scene, order.id, change(**figures))
    assert (refused.status, [e.field for e in refused.errors or []]) == (422, [field])


async def test_change_beyond_a_limit_is_422() -> None:
    scene = Scene(limits=Limits(max_quantity=Decimal(50)))
    order = await live(scene)
    refused = await refusal(scene, order.id, change(quantity="51"))
    assert (refused.status, refused.kind) == (422, "risk-limit")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"revision": 1}, "body"), ({"limit_price": "1"}, "revision"), ({"revision": "1", "limit_price": "1"}, "revision"),
        ({"revision": 1, "limit_price": 1.5}, "limit_price"), ({"revision": 1, "quantity": "0"}, "quantity"),
        ({"revision": 1, "quantity": "1", "tif": "GTC"}, "tif"), ([], "body"),
    ],
)  # fmt: skip
def test_wrong_body_names_its_field(body: Any, field: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_change(body)
    assert refused.value.status == 422
    assert field in {e.field for e in refused.value.errors or []}
