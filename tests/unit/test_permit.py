"""May I accept, may I send: never without an epoch, a fresh proof, the licence's own session, and an open gate."""

from __future__ import annotations

import dataclasses

import pytest

from engine.permit import Licence, Permit

NOW = 100.0
LICENCE = Licence(5, 2, 17)


def leading() -> Permit:
    """Epoch 5, proven now, session 2, gate open."""
    permit = Permit()
    permit.grant(5, NOW)
    permit.session = 2
    permit.shut.clear()
    return permit


def test_gate_is_open_and_a_licence_may_be_used_while_all_holds() -> None:
    permit = leading()
    assert permit.gate_open(NOW)
    assert permit.gate_reasons(NOW) == []
    assert permit.refuses_write(LICENCE, NOW) is None
    assert permit.refuses_intent(NOW) is None


def test_a_term_begins_with_its_gate_shut_and_accepts_orders() -> None:
    permit = Permit()
    permit.grant(5, NOW)
    assert permit.refuses_intent(NOW) is None
    assert not permit.gate_open(NOW)
    permit.session = 2
    assert not permit.gate_open(NOW)
    assert permit.refuses_write(LICENCE, NOW) is not None


def test_a_new_term_knows_no_session_of_the_last_one() -> None:
    permit = leading()
    permit.grant(6, NOW)
    assert permit.session is None
    assert permit.refuses_write(LICENCE, NOW) is not None


@pytest.mark.rule(2)
@pytest.mark.parametrize("change", [{"epoch": 4}, {"epoch": 6}, {"session": 1}, {"session": 3}])
def test_licence_of_another_epoch_or_session_is_dead(change: dict[str, int]) -> None:
    assert leading().refuses_write(dataclasses.replace(LICENCE, **change), NOW) is not None


@pytest.mark.rule(2)
def test_after_revoke_nothing_may_be_accepted_or_sent() -> None:
    permit = leading()
    permit.revoke()
    assert permit.refuses_write(LICENCE, NOW) is not None
    assert permit.refuses_intent(NOW) is not None
    assert not permit.gate_open(NOW)
    assert permit.gate_reasons(NOW)


@pytest.mark.rule(12)
@pytest.mark.parametrize(("age", "holds"), [(0.0, True), (1.0, True), (1.001, False), (60.0, False)])
def test_epoch_that_was_not_proven_for_too_long_counts_as_lost(age: float, holds: bool) -> None:
    permit = leading()
    assert permit.proven(NOW + age) == holds
    assert permit.gate_open(NOW + age) == holds
    assert (permit.refuses_write(LICENCE, NOW + age) is None) == holds
    assert (permit.refuses_intent(NOW + age) is None) == holds


@pytest.mark.rule(12)
def test_proof_counts_from_its_start_never_moves_back_and_only_under_the_present_epoch() -> None:
    permit = leading()
    permit.prove(5, NOW + 3)
    permit.prove(5, NOW + 1)
    permit.prove(4, NOW + 9)
    assert permit.proof_age(NOW + 3.5) == 0.5


def test_every_reason_for_a_shut_gate_is_named() -> None:
    permit = leading()
    permit.shut |= {"link": "The link is down.", "pacing": "The gateway paces."}
    assert permit.gate_reasons(NOW) == ["The link is down.", "The gateway paces."]
    assert permit.refuses_write(LICENCE, NOW) == "The link is down. The gateway paces."
    assert permit.refuses_intent(NOW) is None  # accepted, and QUEUED


@pytest.mark.rule(29)
def test_halt_refuses_new_intents_and_shuts_no_gate() -> None:
    permit = leading()
    permit.halted = "news"
    assert permit.refuses_intent(NOW) == ("halted", "New orders are halted: news")
    assert permit.refuses_write(LICENCE, NOW) is None


def test_refusals_have_stable_names() -> None:
    assert (Permit().refuses_intent(NOW) or ("",))[0] == "not-leader"
    assert (leading().refuses_intent(NOW + 5) or ("",))[0] == "unproven"
