"""A gateway that only one replica can reach buys one hand-over, and what is not known buys none (R17)."""

from __future__ import annotations

import pytest

from ha.outage import PATIENCE, PROBE_EVERY, Outage


def outage(*, now: float = 100.0, answers: bool | None = False) -> Outage:
    """One in which this replica's own handshake was tried a moment ago."""
    return Outage("127.0.0.1", 4002, clock=lambda: now, answers=answers, probed_at=now)


@pytest.mark.rule(17)
def test_an_outage_buys_one_hand_over() -> None:
    away = outage()
    assert away.buys_hand_over(100.0 - PATIENCE, True)
    away.spent = True  # by the hand-over, here and at the replica that it went to
    assert not away.buys_hand_over(100.0 - PATIENCE, True)
    away.spent = False  # somebody led since
    assert away.buys_hand_over(100.0 - PATIENCE, True)


@pytest.mark.rule(17)
@pytest.mark.parametrize("theirs", [False, None, "yes"])
def test_a_gateway_that_the_other_replica_does_not_surely_reach_buys_none(theirs: object) -> None:
    assert not outage().buys_hand_over(100.0 - PATIENCE, theirs)


@pytest.mark.rule(17)
@pytest.mark.parametrize("answers", [True, None])
def test_a_gateway_whose_handshake_works_here_or_was_not_tried_buys_none(answers: bool | None) -> None:
    assert not outage(answers=answers).buys_hand_over(100.0 - PATIENCE, True)


@pytest.mark.rule(17)
def test_a_word_that_is_old_is_none() -> None:
    old = outage()
    old.probed_at -= 3 * PROBE_EVERY
    assert old.word() is None
    assert not old.buys_hand_over(100.0 - PATIENCE, True)


@pytest.mark.rule(17)
@pytest.mark.parametrize("away_since", [None, 100.0 - PATIENCE / 2])
def test_a_gateway_that_was_just_found_away_is_dialled_first(away_since: float | None) -> None:
    assert not outage().buys_hand_over(away_since, True)
