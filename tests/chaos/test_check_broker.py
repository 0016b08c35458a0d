"""The checks of the journal beside the log against facts that are known to be bad: what they must catch, they catch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha.demo.findings import InDoubt
from tests.chaos.check_broker import overtaken
from tests.chaos.check_factory import CLIENT, World, id_of, the_problem


@pytest.mark.check("unlicensed")
@pytest.mark.rule(2)
def test_an_order_that_no_commit_licensed_is_found(world: World) -> None:
    world.log[5] = replace(world.log[5], payload={"session": None})
    assert "which no commit licensed" in the_problem(world)


@pytest.mark.check("unlicensed")
@pytest.mark.rule(2)
def test_an_order_under_another_order_id_than_its_licence_names_is_found(world: World) -> None:
    world.journal[-1]["order_id"] = 777
    assert "sent under order id 777" in the_problem(world)


@pytest.mark.check("stale_sends")
@pytest.mark.rule(2)
@pytest.mark.guarantee(2)
def test_an_order_licensed_by_the_old_leader_and_sent_by_the_new_one_is_found(world: World) -> None:
    world.journal[19]["session"] = 12
    problems = world.examined().problems
    assert any("its licence is for the broker's session 11, and it was sent on session 12" in one for one in problems)
    assert any("broker session 12 carries epochs 1 and 2" in one for one in problems)


@pytest.mark.check("stale_sends")
@pytest.mark.guarantee(2)
def test_an_order_sent_by_the_old_leader_after_the_new_one_began_is_found(world: World) -> None:
    world.journal[19], world.journal[20] = world.journal[20], world.journal[19]
    assert "was sent under epoch 1, after an order under 2" in the_problem(world)


@pytest.mark.check("stale_sends")
@pytest.mark.guarantee(2)
def test_sessions_that_come_in_another_order_at_the_broker_are_found(world: World) -> None:
    for entry in world.journal[20:]:
        entry["session"] = 9
    assert the_problem(world) == "session 2 of the ledger is older at the broker than session 1"


@pytest.mark.check("written_again")
@pytest.mark.rule(1)
def test_an_order_sent_again_under_its_order_id_is_found(world: World) -> None:
    world.reached("modify", 5000, session=12, order_id=3, order_ref=f"pa.TAGA.1.{id_of(2)}")
    assert "was sent again under its order id 3" in the_problem(world)


@pytest.mark.check("rejected")
def test_traffic_that_the_broker_refuses_is_found(world: World) -> None:
    world.reached("rejected", 5000, code=200, reason="No security definition")
    assert the_problem(world) == "the broker refused 1 orders: 200 No security definition"


@pytest.mark.check("doubted_yet_taken")
@pytest.mark.rule(1)
def test_an_order_in_doubt_that_the_broker_took_is_found(world: World) -> None:
    world.in_doubt = [
        InDoubt(id_of(1), "k1", "AAPL", ("X",), "never taken"),
        InDoubt(id_of(2), "k2", "AAPL", ("Y",), "live"),
    ]
    assert the_problem(world) == f"order {id_of(2)} is in doubt, and live at the broker"


@pytest.mark.check("ids_fall")
@pytest.mark.rule(4)
@pytest.mark.guarantee(4)
def test_an_order_id_that_falls_on_the_wire_is_found_but_not_one_that_the_gateway_kept_inside(world: World) -> None:
    one, two = world.journal[10], world.journal[11]
    world.journal[10], world.journal[11] = two | {"seq": 11, "symbol": "IBM"}, one | {"seq": 12}
    assert the_problem(world) == f"{one['order_ref']} was sent under order id 11, after 12"
    world.reached("fault", 600, fault="hold_inside", order_id=11)
    assert world.examined().problems == []


@pytest.mark.check("overtaken")
@pytest.mark.rule(9)
def test_an_order_that_overtakes_another_one_in_its_contract_is_found(world: World) -> None:
    log, other, world.before = world.log[10], world.log[11], []
    world.log[10], world.log[11] = replace(other, seq=11), replace(log, seq=12)  # accepted the other way round
    assert "which was accepted later" in the_problem(world)
    world.journal[11]["symbol"] = "IBM"
    assert world.examined().problems == []
    world.journal[11]["symbol"] = "AAPL"
    world.wrote("order_unlicensed", 2500, 1, id_of(10))
    world.log = [replace(row, epoch=1) for row in world.log]  # its licence was taken back, by the term that gave it
    assert not [problem for problem in world.examined().problems if "accepted later" in problem]


@pytest.mark.check("overtaken")
@pytest.mark.rule(9)
@pytest.mark.parametrize(
    ("before", "licensed", "found"),
    [
        (
            [10],
            [(2, 12), (3, 13), (1, 14)],
            0,
        ),  # 11 was refused: a full disk took the next one's licence and not this one's
        ([10], [(2, 11), (3, 12), (1, 13)], 1),  # nobody was refused
        ([10], [(3, 12), (2, 13), (1, 14)], 1),  # one id excuses one order, not two
        ([10, 12], [(2, 13), (3, 14), (1, 15)], 1),  # 11 was refused before any of these was accepted
        ([10], [(2, 11), (3, 12), (1, 14)], 1),  # 13 was refused when it had been overtaken already
    ],
)
def test_an_order_that_waited_may_be_overtaken_only_where_the_database_refused_its_licence(
    before: list[int], licensed: list[tuple[int, int]], found: int
) -> None:
    world, sent = World(), [(90 + place, order_id) for place, order_id in enumerate(before)]
    for number, order_id in sent:
        world.wrote("order_accepted", 0, 1, id_of(number), session=1, broker_order_id=order_id)
    for number in (1, 2, 3):
        world.wrote("order_accepted", 1, 1, id_of(number))
    for number, order_id in licensed:
        world.wrote("order_licensed", 2, 1, id_of(number), session=1, broker_order_id=order_id)
    for number, order_id in [*sent, *licensed]:
        world.reached(
            "order", 3, session=11, order_id=order_id, perm_id=900 + order_id, symbol="AAPL", side="BUY", quantity="1",
            order_ref=f"pa.TAGA.1.{id_of(number)}",
        )  # fmt: skip
    assert len(list(overtaken(world.facts()))) == found


@pytest.mark.check("sent_late")
@pytest.mark.rule(8)
def test_an_order_that_is_sent_beyond_its_age_is_found_and_one_whose_late_licence_sent_nothing_is_not(
    world: World,
) -> None:
    fields = {"client_id": CLIENT, "session": 12, "symbol": "AAPL", "side": "BUY", "quantity": "1"}
    for number, age, sent in ((50, 8900, True), (51, 9100, False), (52, 9100, True)):
        world.wrote("order_accepted", 3000, 2, id_of(number), client_order_id=f"k{number}")
        world.wrote("order_licensed", 3000 + age, 2, id_of(number), session=2, broker_order_id=number + 1)
        if not sent:  # its commit took so long, and who asked for it took it back
            world.wrote("order_unlicensed", 3001 + age, 2, id_of(number), reason="it waited 9.1 s for the gate")
            continue
        ours = {"order_id": number + 1, "perm_id": 900 + number, "order_ref": f"pa.TAGA.2.{id_of(number)}"}
        world.reached("order", 3001 + age, **fields | ours)
    assert the_problem(world) == f"order {id_of(52)} was licensed at the age of 9.1 s and sent, 8 s are allowed"


@pytest.mark.check("vanished_yet_there")
@pytest.mark.rule(23)
@pytest.mark.guarantee(6)
def test_an_order_that_is_called_vanished_and_is_alive_at_the_broker_is_found(world: World) -> None:
    world.reached("execution", 3000, perm_id=907, quantity="1", exec_id="0001.7.01")
    world.reached("cancelled", 3000, perm_id=908)
    for number in (7, 8, 50):  # filled, cancelled, never taken
        world.wrote("break_opened", 4000, 2, id_of(number), id=f"B{number}", kind="vanished", holds=True)
    assert world.examined().problems == []
    world.wrote("break_opened", 4000, 2, id_of(9), id="B9", kind="vanished", holds=True)
    assert the_problem(world) == f"break B9 calls order {id_of(9)} vanished, which was alive at the broker then"
    world.reached("restart", 3500)  # and forgot it
    assert world.examined().problems == []


@pytest.mark.check("absent_yet_there")
@pytest.mark.rule(23)
@pytest.mark.guarantee(6)
def test_an_order_that_the_broker_had_and_a_complete_snapshot_did_not_show_is_found(world: World) -> None:
    world.wrote("session_opened", 2400, 2, session=3)
    for number, worth in ((5, "incomplete snapshot: open_orders"), (50, "complete snapshot"), (6, "complete snapshot")):
        world.wrote("order_in_doubt", 4000, 2, id_of(number), reason=f"session 1 ended, it is not shown ({worth})")
    assert the_problem(world) == (
        f"order {id_of(6)} was called absent by a complete snapshot, and the broker had it since 10:00:00"
    )
    world.reached("restart", 3000)  # and forgot what it had taken a moment before
    assert world.examined().problems == []


@pytest.mark.check("ended_yet_alive")
@pytest.mark.rule(25)
@pytest.mark.guarantee(6)
def test_an_order_that_is_ended_here_and_lives_at_the_broker_is_found(world: World) -> None:
    world.wrote("order_cancelled", 4000, 2, id_of(50), reason="cancelled before it was sent")
    world.reached("cancelled", 3900, perm_id=906)
    world.wrote("order_cancelled", 4000, 2, id_of(6))
    assert world.examined().problems == []
    world.wrote("order_rejected", 4000, 2, id_of(7))
    assert the_problem(world) == f"event 43 ends order {id_of(7)}, which the broker had not ended then"


@pytest.mark.check("kept_too_long")
@pytest.mark.rule(6)
def test_an_order_that_ib_was_given_beyond_its_age_and_that_nobody_cancelled_is_found(world: World) -> None:
    last = world.journal[-1]["perm_id"]  # accepted after 2252 ms
    world.reached("working", 2253 + 8900, perm_id=901)
    world.reached("working", 2253 + 9100, perm_id=last)
    assert world.examined().problems == [
        f"{world.journal[1]['order_ref']} was given to IB at the age of 11.1 s and nobody cancelled it",
        f"{world.journal[39]['order_ref']} was given to IB at the age of 9.1 s and nobody cancelled it",
    ]
    world.reached("execution", 2253 + 9200, perm_id=last)  # it traded before anybody could cancel it
    world.reached("cancel", 2253 + 9900, perm_id=901)
    assert world.examined().problems == []
