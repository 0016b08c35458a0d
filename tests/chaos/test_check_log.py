"""The checks of the log against facts that are known to be bad: what they must catch, they catch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.check_factory import World, at, id_of, the_problem


@pytest.mark.check("epoch_falls")
@pytest.mark.guarantee(1)
def test_an_event_written_under_an_older_epoch_is_found(world: World) -> None:
    world.wrote("commission", 5000, 1)
    assert the_problem(world) == "event 41 was written under epoch 1, after one under 2"


@pytest.mark.check("written_behind_a_claim")
@pytest.mark.rule(10)
@pytest.mark.guarantee(1)
def test_an_event_of_an_older_epoch_behind_a_claim_is_found_although_no_epoch_falls(world: World) -> None:
    world.claims = {1: 0, 2: 20}
    assert world.examined().problems == []
    world.claims = {1: 0, 2: 19}
    assert the_problem(world) == "event 20 was written under epoch 1, when epoch 2 was claimed"


@pytest.mark.check("holes")
@pytest.mark.rule(21)
def test_a_hole_in_the_log_is_found(world: World) -> None:
    world.log = [replace(row, seq=row.seq + 1) if row.seq > 30 else row for row in world.log]
    assert the_problem(world) == "the log goes from event 30 to 32"


@pytest.mark.check("expired_early")
@pytest.mark.rule(8)
def test_an_order_that_expires_before_its_age_is_found(world: World) -> None:
    world.wrote("order_accepted", 3000, 2, id_of(50), client_order_id="k50")
    world.wrote("order_expired", 3000 + 7900, 2, id_of(50))
    assert the_problem(world) == f"order {id_of(50)} expired at the age of 7.9 s, 8 s are allowed"
    world.log[-1] = replace(world.log[-1], kind="break_opened", payload={"id": "B1", "kind": "everything"})
    world.wrote("order_expired", 3000 + 7900, 2, id_of(50))
    assert world.examined().problems == []


@pytest.mark.check("not_in_the_log")
@pytest.mark.rule(20)
@pytest.mark.guarantee(3)
def test_an_answer_for_an_order_that_the_log_does_not_have_is_found(world: World) -> None:
    answer = {
        "op": "place",
        "kind": "ok",
        "client_order_id": "k7",
        "status": 201,
        "url": "http://a",
        "at": at(360).isoformat(),
    }
    world.entries.append(answer | {"id": id_of(7)})
    assert world.examined().problems == []
    world.entries.append(answer | {"id": "ANOTHERAAAAAAAAA"})
    assert the_problem(world) == "order ANOTHERAAAAAAAAA (k7) was answered 2xx, and no event of the log accepts it"


@pytest.mark.check("licensed_again")
@pytest.mark.rule(1)
@pytest.mark.rule(4)
@pytest.mark.guarantee(4)
def test_a_licence_that_another_term_takes_back_is_found(world: World) -> None:
    world.wrote("order_unlicensed", 2500, 2, id_of(30))
    assert world.examined().problems == []  # the one that gave it knows that nothing was written
    world.wrote("order_unlicensed", 2500, 2, id_of(3))
    assert f"order {id_of(3)} was licensed under epoch 1, and epoch 2 took the licence back" in the_problem(world)


@pytest.mark.check("booked_twice")
@pytest.mark.rule(27)
@pytest.mark.guarantee(5)
def test_an_execution_that_the_log_has_twice_is_found_and_its_correction_is_none(world: World) -> None:
    made = {"account": "DU1", "root": "0001.7", "exec_id": "0001.7.01"}
    world.wrote("execution", 2500, 2, id_of(30), revision=1, **made)
    world.wrote("execution", 2500, 2, id_of(30), revision=2, **made)
    assert world.examined().problems == []
    world.wrote("execution", 2500, 2, id_of(30), revision=1, **made)
    assert the_problem(world) == "event 43 books execution 0001.7.01 once more"


@pytest.mark.check("judged_too_soon")
@pytest.mark.rule(3)
@pytest.mark.guarantee(6)
def test_an_order_of_the_present_session_that_is_called_absent_is_found(world: World) -> None:
    world.wrote("session_opened", 2400, 2, session=2)
    world.wrote("order_in_doubt", 2500, 2, id_of(3), reason="session 1 ended and the broker does not show the order")
    world.wrote("order_in_doubt", 2500, 2, id_of(31), reason="sent again under the same order id: not written: shut")
    assert world.examined().problems == []
    world.wrote("order_in_doubt", 2500, 2, id_of(30), reason="session 2 ended and the broker does not show the order")
    assert the_problem(world) == f"order {id_of(30)} is in doubt, and its session 2 is the present one"


@pytest.mark.check("licensed_while_held")
@pytest.mark.rule(1)
@pytest.mark.guarantee(6)
def test_an_order_licensed_for_a_contract_that_a_break_holds_is_found(world: World) -> None:
    here = {"account": "DU1", "symbol": "IBM"}
    world.wrote("break_opened", 4000, 2, id="B1", holds=True, **here)
    world.wrote("break_opened", 4000, 2, id="B2", holds=False, account="DU1", symbol="SPY")
    for number, fields in enumerate(({"symbol": "SPY"}, {"account": "DU2"}, {"extra": {"break_id": "B1"}}), start=50):
        world.wrote("order_accepted", 5100, 2, id_of(number), session=2, broker_order_id=number, **here | fields)
    world.wrote("order_accepted", 4900, 2, id_of(59), session=2, broker_order_id=59, **here)  # it was on its way
    assert world.examined().problems == []
    world.wrote("order_accepted", 5100, 2, id_of(60), session=2, broker_order_id=60, **here)
    assert the_problem(world) == f"event 47 licenses order {id_of(60)} for IBM, which break B1 holds"
    world.log[-1] = replace(world.log[-1], kind="break_resolved", payload={"id": "B1"})
    world.wrote("order_accepted", 5100, 2, id_of(61), session=2, broker_order_id=61, **here)
    assert world.examined().problems == []


@pytest.mark.check("unnoticed_loss")
@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
def test_a_log_that_lost_events_and_holds_nothing_is_found(world: World) -> None:
    lost = world.log.pop()
    world.journal.pop()
    world.before = [*world.log, lost]
    assert the_problem(world) == "the log lost 1 events, 40 the first of them, and nothing holds everything"
    world.wrote("break_opened", 2500, 3, id="B1", kind="everything")
    assert world.examined().problems == []


@pytest.mark.check("licensed_while_all_is_held")
@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
def test_a_licence_given_while_everything_is_held_is_found(world: World) -> None:
    world.wrote("break_opened", 2500, 2, id="B1", kind="everything")
    world.wrote("order_accepted", 2501, 2, id_of(50), client_order_id="k50")
    world.wrote("order_licensed", 2502, 2, id_of(50), session=2, broker_order_id=50)
    assert the_problem(world) == f"event 43 licenses order {id_of(50)} while break B1 holds everything"
    world.log[-1] = replace(world.log[-1], kind="break_resolved", payload={"id": "B1"})
    world.wrote("order_licensed", 2503, 2, id_of(50), session=2, broker_order_id=50)
    assert world.examined().problems == []
