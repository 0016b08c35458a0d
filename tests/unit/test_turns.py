"""Whose order goes next: each token in its turn, and in one contract the order of acceptance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from engine import queue
from engine.desk_settings import Asker
from engine.family import TOGETHER
from engine.order import Order, State
from engine.turns import in_turn
from tests.unit.desk_factory import Scene, request


def waiting(*orders: str) -> list[Any]:
    """Orders such as `a IBM`, `a IBM family` or `a IBM - account`, in order of acceptance; their id is their place."""
    made = []
    for place, text in enumerate(orders):
        subject, symbol, family, account = [*text.split(), "-", "-"][:4]
        extra = {} if family == "-" else {TOGETHER: family}
        key = (account, symbol)
        made.append(
            SimpleNamespace(
                id=str(place), subject=subject, symbol=symbol, account=account, extra=extra, contract_key=key
            )
        )
    return made


def given(orders: Sequence[Order], served: dict[str, int] | None = None, keep: Sequence[str] = ()) -> list[str]:
    """Ids in the order in which they go, a family's joined by +; those in symbols of `keep` are not taken."""
    served, out, turn = dict(served or {}), [], 1000
    for family in in_turn(orders, served):
        if family[0].symbol not in keep:
            turn += 1
            served[family[0].subject] = turn
            out.append("+".join(order.id for order in family))
    return out


def test_each_subject_has_its_turn_and_its_own_orders_keep_their_order() -> None:
    orders = waiting("a IBM", "a IBM", "a MSFT", "a IBM", "b TSLA", "b TSLA", "c AMD")
    assert given(orders) == ["0", "4", "6", "1", "5", "2", "3"]


def test_subject_that_was_served_least_recently_goes_first() -> None:
    orders = waiting("a IBM", "b TSLA", "c AMD", "a IBM")
    assert given(orders, {"a": 7, "b": 9, "c": 8}) == ["0", "2", "1", "3"]
    assert given(orders, {"a": 7, "b": 9}) == ["2", "0", "1", "3"]  # c never was


def test_orders_of_one_subject_alone_go_as_they_were_accepted() -> None:
    orders = waiting(*(f"a {symbol}" for symbol in ("IBM", "TSLA", "IBM", "AMD", "TSLA")))
    assert given(orders) == ["0", "1", "2", "3", "4"]


@pytest.mark.rule(9)
def test_no_turn_overtakes_an_earlier_order_of_another_subject_in_the_same_contract() -> None:
    orders = waiting("a IBM", "a TSLA", "b TSLA", "b AMD", "c AMD")
    assert given(orders) == ["0", "1", "2", "3", "4"]
    assert given(waiting("a IBM", "a TSLA", "b TSLA - other", "b AMD")) == ["0", "2", "1", "3"]  # another account's


def test_family_goes_whole_and_in_one_turn() -> None:
    orders = waiting("a IBM x", "a IBM x", "a IBM x", "a IBM", "b TSLA", "b TSLA y", "b TSLA y")
    assert given(orders) == ["0+1+2", "4", "3", "5+6"]


def test_what_is_not_taken_costs_its_subject_no_turn() -> None:
    orders = waiting("a IBM", "a IBM", "a MSFT", "b TSLA", "b TSLA", "a MSFT")
    assert given(orders, keep=["IBM"]) == ["2", "3", "5", "4"]


@pytest.mark.rule(9)
def test_any_queue_goes_out_whole_fair_and_in_order_within_subject_and_contract() -> None:
    rng = random.Random(9)
    for _ in range(200):
        orders = waiting(*(f"{rng.choice('abc')} {rng.choice(['IBM', 'AMD', 'TSLA'])}" for _ in range(30)))
        went = [int(oid) for oid in given(orders)]
        assert sorted(went) == list(range(30))
        for same in ("subject", "contract_key"):
            for value in {getattr(order, same) for order in orders}:
                places = [n for n in went if getattr(orders[n], same) == value]
                assert places == sorted(places), (same, value, went)


# ---- with the desk

A, B = Asker("strat-a", "c"), Asker("strat-b", "c")


async def test_order_of_one_token_does_not_wait_for_anothers_burst_in_another_symbol() -> None:
    scene = Scene()  # at the default pace of 40 a second
    for n in range(450):
        await scene.desk.place(request(f"a{n}", symbol="IBM"), A)
    _, order = await scene.desk.place(request("b", symbol="TSLA"), B)
    assert order.state is State.QUEUED
    scene.clock.now += 1.0
    scene.desk.unacknowledged.clear()
    scene.desk.work_queue()
    assert order.state is State.SENDING
    assert len(scene.wire.placed) > 45  # and the burst goes on


@pytest.mark.rule(9)
async def test_symbol_whose_pace_has_no_room_for_a_family_is_not_overtaken_in_it_by_what_is_smaller() -> None:
    scene = Scene(order_rate=100, order_rate_per_symbol=3)
    scene.shut()
    await scene.desk.place_all([request("one"), request("two")], A)
    bracket = [request("parent"), request("stop", side="SELL", parent_client_order_id="parent")]
    family = [order for _, order in await scene.desk.place_all(bracket, A)]
    _, behind = await scene.desk.place(request("behind"), B)
    _, other = await scene.desk.place(request("other", symbol="TSLA"), B)
    scene.open()
    assert {order.state for order in (*family, behind)} == {State.QUEUED}
    assert other.state is State.SENDING
    scene.clock.now += 1.0
    scene.tick()
    assert {order.state for order in (*family, behind)} == {State.SENDING}


@pytest.mark.rule(9)
async def test_front_of_a_long_queue_has_a_part_of_each_token_and_overtakes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "EACH", 3)
    scene = Scene(order_rate=0, order_rate_per_symbol=0, max_unacknowledged=1000)
    scene.shut()
    burst = [await scene.desk.place(request(f"a{n}", symbol="TSLA" if n == 5 else "IBM"), A) for n in range(9)]
    _, behind = await scene.desk.place(
        request("b1", symbol="TSLA"), B
    )  # an order of A's, which this look leaves out, is before it
    _, other = await scene.desk.place(request("c1", symbol="AMD"), Asker("strat-c", "c"))
    scene.open()
    assert [order.state for _, order in burst] == [State.SENDING] * 3 + [State.QUEUED] * 6
    assert (behind.state, other.state) == (State.QUEUED, State.SENDING)
    for _ in range(4):
        scene.tick()
    went = [order.reference.rsplit(".", 1)[1] for order in scene.wire.placed]
    assert len(went) == 11
    assert went.index(behind.id) > went.index(burst[5][1].id)
    assert [oid for oid in went if oid in {order.id for _, order in burst}] == [order.id for _, order in burst]


@pytest.mark.rule(9)
async def test_family_at_the_end_of_a_tokens_front_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "EACH", 2)
    scene = Scene(order_rate=0, order_rate_per_symbol=0, max_unacknowledged=1000)
    scene.shut()
    await scene.desk.place(request("one"), A)
    bracket = [
        request("parent"),
        request("stop", side="SELL", parent_client_order_id="parent"),
        request("take", side="SELL", parent_client_order_id="parent", order_type="LMT", limit_price="9"),
    ]
    family = [order for _, order in await scene.desk.place_all(bracket, A)]
    _, behind = await scene.desk.place(request("behind"), A)
    scene.open()
    assert [order.state for order in family] == [State.SENDING] * 3
    assert [order.transmit for order in scene.wire.placed] == [True, False, False, True]
    assert behind.state is State.QUEUED
    scene.tick()
    assert behind.state is State.SENDING
