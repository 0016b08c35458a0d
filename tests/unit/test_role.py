"""The role machine: every row, and every row that is not there."""

from __future__ import annotations

import itertools

import pytest

from engine.errors import IllegalTransition
from ha.role import HAS_EPOCH, IN_TERM, TABLE, Act, On, State, after, diagram

ALL = list(itertools.product(State, On))


@pytest.mark.parametrize(("state", "event"), [pair for pair in ALL if pair in TABLE])
def test_a_row_leads_where_the_table_says(state: State, event: On) -> None:
    row = after(state, event)
    assert row is TABLE[(state, event)]
    assert row.comment
    assert row.comment == row.comment.strip()


@pytest.mark.parametrize(("state", "event"), [pair for pair in ALL if pair not in TABLE])
def test_an_event_without_a_row_raises_with_state_and_event(state: State, event: On) -> None:
    with pytest.raises(IllegalTransition) as raised:
        after(state, event)
    assert (raised.value.machine, raised.value.state, raised.value.event) == ("role", state, event.name)


def test_every_state_is_reached_and_every_act_is_used() -> None:
    assert {row.to for row in TABLE.values()} == set(State)
    assert {row.act for row in TABLE.values()} == set(Act)
    assert {event for _, event in TABLE} == set(On)


def test_every_state_of_a_term_can_end_and_ends_by_stepping_down() -> None:
    for state in IN_TERM:
        assert after(state, On.ENDED).act is Act.STEP_DOWN
    assert after(State.STEPPING_DOWN, On.QUIET).to is State.STANDBY


@pytest.mark.guarantee(2)
def test_the_gate_opens_only_after_admission_and_reconciliation() -> None:
    """LEADING is entered from RECONCILING alone, RECONCILING by an admission alone, and an epoch comes before both."""
    assert [key for key, row in TABLE.items() if row.to is State.LEADING] == [(State.RECONCILING, On.AGREED)]
    assert [key for key, row in TABLE.items() if row.to is State.RECONCILING] == [(State.CONNECTING, On.ADMITTED)]
    into = {state for (state, _), row in TABLE.items() if row.to is State.CONNECTING}
    assert into == {State.CLAIMING, State.RECONCILING, State.LEADING, State.HOLDING}
    assert [key for key, row in TABLE.items() if row.to is State.CLAIMING] == [(State.CAMPAIGNING, On.WON)]
    assert State.CLAIMING not in HAS_EPOCH


def test_the_diagram_shows_each_row_once() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len([line for line in lines if "-->" in line]) == len(TABLE) + 1
