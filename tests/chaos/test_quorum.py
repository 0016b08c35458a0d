"""The pair while members of etcd, or all of it, are away: trading goes on, and nobody leads twice."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest

from tests.chaos.check import leading_between, orders_between, refusals
from tests.chaos.cluster import CLIENT_ID, Cluster
from tests.chaos.members import used_members
from tests.chaos.partitions import FreezeParts, KillTogether, etcd_away
from tests.chaos.processes import Used
from tests.chaos.scenario import Step, play
from tests.chaos.traffic import Load

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(240)]

AWAY = float(os.environ.get("CHAOS_ETCD_AWAY", "8"))  # seconds; the benchmark's is 60
LONGEST_SILENCE = 7000.0  # ms; a bound against standstill on any machine, the figures are the benchmark's
SPINNING = 40.0  # % of a core, on any machine; the figure is the benchmark's


@pytest.mark.guarantee(1)
@pytest.mark.guarantee(2)
@pytest.mark.guarantee(7)
async def test_the_leaders_of_etcd_and_of_the_pair_killed_together_cost_an_election_and_no_order(
    cluster: Cluster,
) -> None:
    fault = KillTogether(("release", "etcd-leader", "leader"), away=4.5)
    outcome = await play(cluster, "both leaders killed", [Step(1.5, fault)], Load(seconds=5.5))
    outcome.must_be_fine()
    assert outcome.epoch_after > outcome.epoch_before
    assert outcome.silences[0].broker_ms is not None
    assert outcome.silences[0].broker_ms < LONGEST_SILENCE


@pytest.mark.guarantee(3)
@pytest.mark.guarantee(7)
async def test_a_leader_that_nobody_releases_is_succeeded_when_its_lease_ends(cluster: Cluster) -> None:
    told = len(cluster.events)
    fault = KillTogether(("release", "leader"), away=4.0)
    outcome = await play(cluster, "leader and its supervisor killed", [Step(1.5, fault)], Load(seconds=5.0))
    outcome.must_be_fine()
    leader = outcome.bites[0].replica
    answers = [event.detail for event in cluster.events[told:] if event.kind == "released" and event.part == leader]
    assert answers[:1] == ["not known to be given back: it may live until its time is over"]
    assert outcome.epoch_after == outcome.epoch_before + 1
    assert outcome.silences[0].broker_ms is not None
    assert 1000 < outcome.silences[0].broker_ms < LONGEST_SILENCE


@pytest.mark.guarantee(7)
async def test_a_frozen_member_that_the_leader_used_costs_no_order_and_no_term(cluster: Cluster) -> None:
    leader = await cluster.paired()
    [used, *_] = used_members(cluster, leader)
    outcome = await play(
        cluster, "one member of etcd frozen", [Step(1.5, FreezeParts((used,), 4.0))], Load(seconds=6.0)
    )
    outcome.must_be_fine()
    assert not refusals(outcome.entries)
    assert outcome.verdict.answered == outcome.verdict.asked
    assert outcome.epoch_after == outcome.epoch_before
    assert await cluster.paired() == leader
    assert used_members(cluster, leader) != [used], "it was left"


@pytest.mark.guarantee(7)
async def test_etcd_wholly_away_refuses_no_order_changes_no_epoch_and_burns_no_core(cluster: Cluster) -> None:
    leader = await cluster.paired()
    standby = cluster.child(cluster.other(leader)).pid
    shares: list[float] = []

    async def watch_the_standby() -> None:
        while cluster.living():
            await asyncio.sleep(0.1)
        before = Used.by(standby)
        await asyncio.sleep(AWAY - 2.0)
        assert not cluster.living()
        shares.append(Used.by(standby).share_since(before))

    async with asyncio.TaskGroup() as both:
        both.create_task(watch_the_standby())
        steps = [Step(1.5, etcd_away(AWAY))]
        outcome = await play(cluster, f"etcd away for {AWAY:g} s", steps, Load(seconds=AWAY + 4.0))
    outcome.must_be_fine()
    assert not refusals(outcome.entries)
    assert outcome.verdict.answered == outcome.verdict.asked
    assert outcome.epoch_after == outcome.epoch_before
    assert await cluster.paired() == leader
    assert shares[0] < SPINNING


async def test_with_on_etcd_loss_stop_the_gate_closes_with_the_trust_and_opens_with_etcd(cluster: Cluster) -> None:
    leader = await cluster.paired()
    stopping = cluster.other(leader)
    await cluster.renew([stopping], {}, {"ON_ETCD_LOSS": "stop"})
    await cluster.pair.kill(leader)
    await cluster.until(lambda: cluster.scene.paired() == stopping or None, 40.0)
    try:
        steps = [Step(1.5, etcd_away(4.0))]
        outcome = await play(cluster, "etcd away for 4 s, to stop then", steps, Load(seconds=6.5))
    finally:
        await cluster.pair.kill(stopping)  # its successor goes on without etcd, as the others do
    outcome.must_be_fine()
    bite = outcome.bites[0]
    assert bite.ended is not None
    # trust ends 1.5 s after the last renewal began; the attempt that is under way then is bounded by ttl / 3
    shut = bite.at + timedelta(seconds=2.5)
    assert not orders_between(outcome.journal, CLIENT_ID, shut, bite.ended)
    assert not leading_between(outcome.probes, shut, bite.ended)
    assert outcome.epoch_after > outcome.epoch_before
