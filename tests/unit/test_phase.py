"""R33: a takeover's phases end in time, and a term that failed is not tried again at once."""

from __future__ import annotations

import asyncio

import pytest

from ha.phase import BOUNDED, FIRST_PAUSE, LONGEST_PAUSE, BackOff, TermOver, bounded
from ha.role import TABLE, Act, On, State

pytestmark = pytest.mark.rule(33)


async def never() -> On | None:
    await asyncio.Event().wait()
    return None


@pytest.mark.parametrize("act", sorted(BOUNDED))
async def test_a_phase_without_an_end_ends_the_term(act: Act) -> None:
    with pytest.raises(TermOver, match=rf"the phase `{act}` did not end within 0.01 s"):
        await bounded(act, never(), 0.01)


async def test_every_way_to_the_lead_is_bounded_but_the_one_to_the_gateway() -> None:
    on_the_way = {row.act for row in TABLE.values() if row.to not in (State.LEADING, State.HOLDING)}
    assert on_the_way - BOUNDED == {Act.CONNECT, Act.STEP_DOWN, Act.TAIL}


async def test_a_phase_that_has_no_deadline_is_waited_for() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bounded(Act.CONNECT, never(), 0.01), 0.1)


async def test_what_a_phase_in_time_says_is_passed_on() -> None:
    async def claimed() -> On:
        return On.CLAIMED

    assert await bounded(Act.CLAIM, claimed(), 5.0) is On.CLAIMED


async def test_a_time_out_inside_a_phase_is_no_missed_deadline() -> None:
    async def fails() -> On:
        raise TimeoutError("inside")

    with pytest.raises(TimeoutError, match="inside"):
        await bounded(Act.CLAIM, fails(), 5.0)


def test_pauses_double_up_to_a_bound_and_begin_anew_after_a_term_that_led() -> None:
    back_off = BackOff()
    longest = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(20)]
    pauses = [back_off.pause() for _ in longest]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    back_off.led()
    assert back_off.pause() <= FIRST_PAUSE


def test_two_replicas_do_not_pause_alike() -> None:
    assert len({BackOff().pause() for _ in range(8)}) > 1
