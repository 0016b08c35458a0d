"""The pair under faults, judged at the broker's journal: nothing lost, nothing sent twice, everything booked once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.chaos.check import leading_between, orders_between, refusals, sent_on_old_session
from tests.chaos.cluster import CLIENT_ID, Cluster
from tests.chaos.faults import Away, CloseSessions, Dies, DropAcks, Freeze, Kill, KillBoth, Restart, Stalls, Together
from tests.chaos.scenario import Outcome, Step, play
from tests.chaos.traffic import Load

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(240)]

LONGEST_SILENCE = 3000.0  # ms at the broker, leader killed with its supervisor alive; the figures are the benchmark's


def last_session_before(outcome: Outcome) -> int:
    """The broker session that carried the last order before the first fault."""
    at = outcome.bites[0].at
    sessions = [one.session for one in orders_between(outcome.journal, CLIENT_ID, at - timedelta(seconds=2), at)]
    assert sessions
    assert sessions[-1] is not None
    return sessions[-1]


@pytest.mark.guarantee(1)
@pytest.mark.guarantee(2)
@pytest.mark.guarantee(3)
@pytest.mark.guarantee(4)
@pytest.mark.guarantee(5)
async def test_a_leader_killed_in_the_flow_loses_and_doubles_nothing(cluster: Cluster) -> None:
    outcome = await play(cluster, "leader killed", [Step(2.0, Kill("leader"))])
    outcome.must_be_fine()
    assert outcome.epoch_after > outcome.epoch_before
    assert outcome.silences[0].broker_ms is not None
    assert outcome.silences[0].broker_ms < LONGEST_SILENCE


@pytest.mark.rule(12)
@pytest.mark.guarantee(2)
async def test_a_leader_frozen_beyond_its_lease_sends_nothing_after_the_thaw(cluster: Cluster) -> None:
    outcome = await play(cluster, "leader frozen for 4 s", [Step(2.0, Freeze(4.0))], Load(seconds=8.0))
    outcome.must_be_fine()
    bite = outcome.bites[0]
    assert bite.ended is not None
    late = sent_on_old_session(outcome.journal, last_session_before(outcome), bite.ended)
    assert not late, f"sent after the thaw: {late}"
    assert outcome.epoch_after > outcome.epoch_before
    assert not leading_between(
        [p for p in outcome.probes if p.replica == bite.replica], bite.ended, bite.ended + timedelta(seconds=1)
    )


@pytest.mark.guarantee(5)
async def test_sessions_closed_by_the_gateway_under_load_cost_a_session_and_no_term(cluster: Cluster) -> None:
    outcome = await play(cluster, "gateway closes its sessions", [Step(2.0, CloseSessions())], Load(seconds=5.0))
    outcome.must_be_fine()
    assert outcome.epoch_after == outcome.epoch_before


@pytest.mark.guarantee(5)
async def test_a_gateway_killed_and_restarted_under_load_is_reconciled_with(cluster: Cluster) -> None:
    outcome = await play(cluster, "gateway killed", [Step(2.0, Restart("gateway"))])
    outcome.must_be_fine()
    assert outcome.epoch_after == outcome.epoch_before


@pytest.mark.rule(1)
@pytest.mark.guarantee(3)
async def test_orders_that_the_gateway_took_in_silence_are_adopted_by_the_next_leader(cluster: Cluster) -> None:
    outcome = await play(cluster, "acks dropped, leader killed", [Step(2.0, DropAcks(5)), Step(0.0, Kill("leader"))])
    outcome.must_be_fine()
    assert (
        len(outcome.bites[0].perm_ids) == 5
    )  # adopted: an order in doubt that the broker took is a problem of its own


@pytest.mark.rule(12)
@pytest.mark.rule(20)
@pytest.mark.guarantee(3)
async def test_a_database_killed_under_load_loses_no_order_and_shuts_the_gate_meanwhile(cluster: Cluster) -> None:
    outcome = await play(cluster, "PostgreSQL away for 2.5 s", [Step(2.0, Away("postgres", 2.5))], Load(seconds=8.0))
    outcome.must_be_fine()
    bite = outcome.bites[0]
    assert bite.ended is not None
    assert not outcome.verdict.unknown, "whoever was told 504 has learned since what became of it"
    # a proof may be as old as 1 s, and its age counts from its start
    shut = bite.at + timedelta(seconds=1.0)
    assert not orders_between(outcome.journal, CLIENT_ID, shut, bite.ended)
    assert not leading_between(outcome.probes, shut, bite.ended)


@pytest.mark.rule(20)
@pytest.mark.guarantee(3)
@pytest.mark.guarantee(4)
async def test_a_database_and_a_leader_killed_together_leave_no_outcome_open(cluster: Cluster) -> None:
    steps = [Step(2.0, Together(Kill("leader"), Restart("postgres")))]
    outcome = await play(cluster, "PostgreSQL and leader killed together", steps)
    outcome.must_be_fine()
    assert not outcome.verdict.unknown
    assert outcome.epoch_after > outcome.epoch_before


@pytest.mark.guarantee(7)
async def test_a_killed_standby_costs_no_client_an_answer(cluster: Cluster) -> None:
    outcome = await play(cluster, "standby killed", [Step(1.5, Kill("standby"))], Load(seconds=5.0))
    outcome.must_be_fine()
    assert not refusals(outcome.entries)
    assert outcome.verdict.answered == outcome.verdict.asked
    assert outcome.epoch_after == outcome.epoch_before


@pytest.mark.guarantee(3)
async def test_both_replicas_killed_at_once_come_back_with_everything(cluster: Cluster) -> None:
    outcome = await play(cluster, "both killed", [Step(2.0, KillBoth())])
    outcome.must_be_fine()
    assert outcome.epoch_after > outcome.epoch_before


# ---- a leader that dies at a named point of an order's way, and its successor at another one

PASSAGES = {
    "submit.before_commit": 30, "submit.before_write": 30, "submit.after_write": 30,  # once an order
    "commit.before_send": 100, "commit.after_answer": 100,  # once a commit, evidence included
    "inbound.before_commit": 100,  # once an event of the broker's
}  # fmt: skip


@pytest.mark.rule(1)
@pytest.mark.rule(2)
@pytest.mark.guarantee(3)
@pytest.mark.guarantee(4)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("submit.before_commit", "commit.before_send", marks=pytest.mark.slow),
        pytest.param("submit.after_write", "inbound.before_commit", marks=pytest.mark.slow),
        ("commit.after_answer", "submit.before_write"),  # of the others' deaths one by one, see test_catalogue.py
    ],
)
async def test_a_leader_that_dies_on_an_orders_way_leaves_it_lost_nowhere_and_sent_once(
    cluster: Cluster, first: str, second: str
) -> None:
    points = {"a": first, "b": second}
    await cluster.renew(["a", "b"], {name: f"{point}=kill@{PASSAGES[point]}" for name, point in points.items()})
    steps = [Step(0.0, Dies(points)), Step(0.0, Dies(points))]
    outcome = await play(cluster, f"death at {first}, then at {second}", steps, Load(seconds=9.0, settle=3.0))
    outcome.must_be_fine()
    assert {bite.fault for bite in outcome.bites} == {f"death at {first}", f"death at {second}"}
    if "submit.before_write" in points.values():
        assert outcome.doubts, "an order licensed and not written is in doubt"
        assert all(doubt.at_broker == "never taken" and doubt.break_ids for doubt in outcome.doubts)


@pytest.mark.guarantee(2)
@pytest.mark.guarantee(4)
@pytest.mark.parametrize(
    "phase",
    ["repaired", *(pytest.param(p, marks=pytest.mark.slow) for p in ("won", "claimed", "admitted", "collected"))],
)
async def test_a_takeover_that_dies_in_a_phase_is_done_by_the_next_one(cluster: Cluster, phase: str) -> None:
    point = f"takeover.{phase}"
    standby = cluster.other(await cluster.paired())
    await cluster.renew([standby], {standby: f"{point}=kill"})
    steps = [Step(1.5, DropAcks(2)), Step(0.0, Kill("leader")), Step(0.0, Dies({standby: point}))]
    outcome = await play(cluster, f"leader killed, takeover dies at {point}", steps, Load(seconds=6.5))
    outcome.must_be_fine()
    assert outcome.epoch_after > outcome.epoch_before


@pytest.mark.rule(31)
@pytest.mark.rule(12)
@pytest.mark.guarantee(1)
@pytest.mark.guarantee(2)
@pytest.mark.parametrize(
    "phase", ["admitted", *(pytest.param(phase, marks=pytest.mark.slow) for phase in ("won", "claimed"))]
)
async def test_a_takeover_that_stands_still_in_a_phase_wakes_beside_the_next_leader_and_yields(
    cluster: Cluster, phase: str
) -> None:
    point = f"takeover.{phase}"
    standby = cluster.other(await cluster.paired())
    await cluster.renew([standby], {standby: f"{point}=sleep:5@1"})
    steps = [Step(1.5, Kill("leader")), Step(0.0, Stalls(standby, point))]
    outcome = await play(cluster, f"leader killed, takeover frozen at {point}", steps, Load(seconds=8.0))
    outcome.must_be_fine()
    assert outcome.epoch_after > outcome.epoch_before
