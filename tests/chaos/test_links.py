"""Links cut one by one, and one way only: a standby that hears nothing acts only when it is the leader that is silent."""

from __future__ import annotations

import pytest

from tests.chaos.check import refusals
from tests.chaos.cluster import Cluster
from tests.chaos.links import Way
from tests.chaos.partitions import CutLinks
from tests.chaos.scenario import Outcome, Step, play
from tests.chaos.traffic import Load

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(240)]

LONGER_THAN_SUSPICION = 2.5  # seconds; suspicion comes after 1.5


def nothing_happened(outcome: Outcome) -> None:
    """The fault cost no order, no answer and no term."""
    outcome.must_be_fine()
    assert outcome.epoch_after == outcome.epoch_before
    assert not refusals(outcome.entries)
    assert outcome.verdict.answered == outcome.verdict.asked


@pytest.mark.rule(30)
@pytest.mark.guarantee(7)
async def test_a_replicas_connection_cut_one_way_is_no_reason_for_a_failover(linked: Cluster) -> None:
    steps = [
        Step(1.0, CutLinks(("peer-{leader}",), LONGER_THAN_SUSPICION, (Way.BACK,))),
        Step(0.5, CutLinks(("peer-{leader}",), LONGER_THAN_SUSPICION, (Way.THERE,))),
    ]
    nothing_happened(await play(linked, "the replicas' connection cut, one way each", steps, Load(seconds=7.0)))


@pytest.mark.rule(30)
@pytest.mark.guarantee(7)
async def test_a_standby_that_is_cut_off_itself_never_acts_on_suspicion(linked: Cluster) -> None:
    steps = [
        Step(1.0, CutLinks(("peer-{leader}", "{standby}-postgres"), LONGER_THAN_SUSPICION)),
        Step(1.5, CutLinks(("peer-{leader}", "{standby}-"), LONGER_THAN_SUSPICION)),
    ]
    nothing_happened(await play(linked, "standby cut off", steps, Load(seconds=8.5)))
