"""How long the evidence of a run is waited for: until nothing is wrong that may only be late."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ha.demo.collect import Reader, Settled
from ha.demo.judge import Verdict
from ha.demo.scene import Scene
from tests.unit.test_judge import World, in_doubt, world

__all__ = ["world"]  # the fixture


def of_the_order_that_was_sent_while_held(world: World) -> Verdict:
    in_doubt(world)
    world.whole(7, 860, epoch=2, session=2)
    return world.verdict()


def of_the_order_that_the_broker_took_twice(world: World) -> Verdict:
    world.took(0, 900, epoch=2)
    return world.verdict()


def of_the_order_that_is_lost(world: World) -> Verdict:
    world.placed(8, 900)
    return world.verdict()


def reader(tmp_path: Path, verdicts: list[Verdict], notes: list[str]) -> Reader:
    """Finds these, one after the other; the last one for ever."""
    found = Reader({}, "", tmp_path, Scene(names=("a", "b")), since=0)

    async def judged(_fetch: Any) -> Settled:
        return Settled(verdicts.pop(0) if len(verdicts) > 1 else verdicts[0], [], {}, [notes.pop(0)] if notes else [])

    found._judge = judged  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize("wrong", [of_the_order_that_was_sent_while_held, of_the_order_that_the_broker_took_twice])
async def test_what_no_time_mends_is_not_waited_for(world: World, tmp_path: Path, wrong: Any) -> None:
    verdict = wrong(world)
    assert len(verdict.problems()) == 1
    began = time.monotonic()
    settled = await reader(tmp_path, [verdict], ["one is on its way"]).settle(30.0)
    assert not settled.verdict.ok
    assert settled.notes == []
    assert time.monotonic() - began < 10.0


async def test_what_may_be_late_is_waited_for(world: World, tmp_path: Path) -> None:
    fine = world.verdict()
    settled = await reader(tmp_path, [of_the_order_that_is_lost(world), fine], []).settle(30.0)
    assert settled.verdict is fine


async def test_what_does_not_come_until_the_time_is_up_is_wrong(world: World, tmp_path: Path) -> None:
    lost = of_the_order_that_is_lost(world)
    settled = await reader(tmp_path, [lost], []).settle(0.4)
    assert settled.verdict is lost
