"""The launcher with everything real: both replicas, and the lease of a killed leader given back before its time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha.local.pair import LocalPair
from ha.local.ports import Ports
from ha.local.probe import answers
from ha.local.supervise import Event


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "pair"
    shutil.rmtree(tmp_path)  # a database is too large to keep


@pytest.mark.rule(34)
async def test_the_lease_of_a_killed_leader_is_revoked_and_the_other_replica_leads(directory: Path) -> None:
    events: list[Event] = []
    async with LocalPair(directory, ports=Ports.free(), on_event=events.append) as pair:
        leader = pair.first_leader
        other = "b" if leader == "a" else "a"
        await pair.kill(leader)
        async with asyncio.timeout(20):
            while not await answers(getattr(pair.ports, other), "/leader"):
                await asyncio.sleep(0.02)
            while not await answers(getattr(pair.ports, leader), "/readyz"):
                await asyncio.sleep(0.1)
        assert not await answers(getattr(pair.ports, leader), "/leader"), "it comes back as the standby"
        released = [event for event in events if event.kind == "released"]
        assert [event.part for event in released] == [leader]
        assert released[0].detail.startswith("released in "), released[0].detail
    assert not (directory / "pair.json").exists()
