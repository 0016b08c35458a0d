"""How long the broker's lists may take, and how long the next look waits: both grow with the orders that are open."""

from __future__ import annotations

import pytest

from ha.tend_rules import DOUBTS_APART, TendRules


def test_with_few_open_orders_the_settings_say_when() -> None:
    rules = TendRules(reconcile_every=30.0)
    assert rules.lists_take(0, gate_open=False) == rules.lists_take(0, gate_open=True) == 0.0
    assert rules.pause(100, doubts=False) == 30.0
    assert rules.pause(0, doubts=True) == DOUBTS_APART


@pytest.mark.rule(24)
def test_lists_of_thousands_have_more_time_and_more_still_behind_an_open_gate() -> None:
    rules = TendRules()
    assert 2.0 <= rules.lists_take(9_000, gate_open=False) < rules.lists_take(9_000, gate_open=True) <= 60.0


@pytest.mark.rule(5)
def test_lists_of_thousands_do_not_follow_one_another_at_once() -> None:
    rules = TendRules(reconcile_every=30.0)
    assert rules.pause(9_000, doubts=True) > 2.0
    assert rules.pause(50_000, doubts=False) > 60.0
    assert TendRules(reconcile_every=600.0).pause(9_000, doubts=False) == 600.0


@pytest.mark.rule(5)
def test_what_stands_behind_a_list_does_not_end_the_session_for_ten_seconds_at_most() -> None:
    rules = TendRules()
    assert rules.owed(103.0, 100.0, float("-inf")) == 3.0
    assert rules.owed(103.0, 100.0, 90.0) == 3.0, "a list before it was sent says nothing"
    assert rules.owed(103.0, 100.0, 102.5) == 0.5
    assert rules.owed(116.0, 100.0, 115.9) == 6.0, "a list that never ends excuses nothing for ever"


@pytest.mark.rule(33)
def test_a_reconciliation_that_a_gate_waits_for_parks_before_its_phase_ends() -> None:
    rules = TendRules(phase_deadline=20.0)
    assert rules.reconcile_deadline < rules.at_most(gate_open=False) < rules.phase_deadline
    assert rules.at_most(gate_open=True) > rules.phase_deadline
