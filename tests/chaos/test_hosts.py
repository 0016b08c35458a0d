"""Hosts cut off: the next leader fences at the relay, and the old one, connected to nothing, sends nothing more."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.chaos.check import leading_between, refusals, sent_on_old_session
from tests.chaos.cluster import Cluster
from tests.chaos.partitions import CutHosts, Isolate
from tests.chaos.scenario import Step, play
from tests.chaos.test_scenarios import last_session_before
from tests.chaos.traffic import Load

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(240)]

LONGEST_SILENCE = 7000.0  # ms; a bound against standstill on any machine, the figures are the benchmark's


@pytest.mark.rule(15)
@pytest.mark.guarantee(1)
@pytest.mark.guarantee(2)
@pytest.mark.guarantee(7)
async def test_a_leader_whose_host_is_cut_off_is_fenced_at_the_relay_and_yields(hosts: Cluster) -> None:
    outcome = await play(hosts, "leader's host cut off", [Step(1.5, CutHosts(("leader",), 5.0))], Load(seconds=7.0))
    outcome.must_be_fine()
    bite, [term, *_] = outcome.bites[0], outcome.terms
    assert bite.ended is not None
    assert outcome.epoch_after > outcome.epoch_before
    assert outcome.silences[0].broker_ms is not None
    assert outcome.silences[0].broker_ms < LONGEST_SILENCE
    assert term["fence_ms"] > 0, "the old session stood, and the agent ended it"
    assert not sent_on_old_session(outcome.journal, last_session_before(outcome), bite.at + timedelta(seconds=1))
    of_the_old_one = [probe for probe in outcome.probes if probe.replica == bite.replica]
    assert not leading_between(of_the_old_one, bite.ended, bite.ended + timedelta(seconds=1))


@pytest.mark.guarantee(7)
async def test_a_member_of_etcd_in_a_minority_is_left_by_the_leader_that_used_it(hosts: Cluster) -> None:
    leader = await hosts.paired()
    outcome = await play(
        hosts, "the leader's member of etcd in a minority", [Step(1.5, Isolate(4.0))], Load(seconds=6.5)
    )
    outcome.must_be_fine()
    assert not refusals(outcome.entries)
    assert outcome.verdict.answered == outcome.verdict.asked
    assert outcome.epoch_after == outcome.epoch_before
    assert await hosts.paired() == leader
