"""Two whole replicas in virtual time: every guarantee holds under many seeds, and the simulation notices when one is taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Outcome, many, simulate

SECONDS = float(os.environ.get("SIMULATION_SECONDS", "45"))
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "10000"))
LEAST = 50
PROCESSES = max(1, min(4, len(os.sched_getaffinity(0))))
ROOT = Path(__file__).parents[2]


def told(outcome: Outcome) -> str:
    """What to read when a seed fails: the violation, the end of the trace, and how to see all of it."""
    again = simulate(outcome.seed, trace=True)
    return "\n".join(
        [
            f"seed {outcome.seed}: {outcome.violations}",
            *again.trace[-120:],
            f"replay: {sys.executable} -m tests.simulation.run --seed {outcome.seed} --trace",
        ]
    )


@pytest.mark.timeout(SECONDS * 2 + 120)
@pytest.mark.parametrize("guarantees", [pytest.param("all", marks=[pytest.mark.guarantee(n) for n in range(1, 9)])])
def test_every_guarantee_holds_whatever_crashes_freezes_or_loses_its_lease(guarantees: str) -> None:
    found = many(range(1, SEEDS + 1), processes=PROCESSES, seconds=SECONDS, at_least=LEAST)
    bad = [outcome for outcome in found if outcome.violations]
    assert not bad, told(bad[0])
    assert len(found) >= min(LEAST, SEEDS)
    virtual = sum(outcome.seconds for outcome in found)
    print(f"{len(found)} seeds, {virtual / 3600:.1f} virtual hours, {sum(o.orders for o in found)} orders")


@pytest.mark.rule(18)
@pytest.mark.parametrize("seed", [72])
def test_a_leader_that_wakes_to_a_restored_database_does_not_even_prove_itself_there(seed: int) -> None:
    """Its epoch is the present one there again: it looks where it is before it writes anything."""
    outcome = simulate(seed, trace=True)
    assert not outcome.violations, told(outcome)
    assert any("went back" in line for line in outcome.trace)
    assert any("the database changed under this term" in line for line in outcome.trace)


def test_the_runs_are_worth_something() -> None:
    """Among few seeds there are terms that end, orders in every state, and leaders that need no long time."""
    found = many(range(1, 41), processes=PROCESSES)
    assert sum(outcome.epochs > 1 for outcome in found) >= 10
    assert {"WORKING", "FILLED", "CANCELLED", "REJECTED", "IN_DOUBT"} <= {
        s for outcome in found for s in outcome.states
    }
    assert sum(outcome.orders for outcome in found) > 400


@pytest.mark.parametrize("seed", [3, 17])
def test_a_seed_is_the_whole_run(seed: int) -> None:
    """In another process, under another order of hashes, the same things happen at the same moments."""

    def run(hashes: str) -> str:
        command = [sys.executable, "-m", "tests.simulation.run", "--seed", str(seed), "--trace"]
        environment = os.environ | {"PYTHONHASHSEED": hashes}
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout

    first = run("1")
    assert len(first.splitlines()) > 100
    assert first == run("2")


CAUGHT = {
    # what is broken: the faults under which it shows, and how many seeds that takes at most
    "no_epoch_fence": (("revoke", "cut_etcd"), 20),
    "fence_without_gate": (("session_ends_under_a_commit", "revoke", "slow_commits"), 60),
    "sending_is_sent_again": (("ended_with_an_order_inside",), 20),
    "permit_not_checked": (("session_ends_under_a_commit", "slow_commits"), 50),
    "early_snapshot": (("kill",), 10),
    "new_client_id": (("revoke", "cut_etcd"), 20),
    "send_before_commit": (("kill",), 10),
    "lost_answer_is_no": (("answers_are_lost",), 30),
    "proof_never_ages": (("cut_database", "slow_commits"), 60),
    "dial_without_proof": (("relay_drops", "gateway_restart"), 30),
    "licence_outlives_session": (("session_ends_under_a_commit",), 60),
    "gate_opens_unreconciled": (("kill", "relay_drops"), 20),
    "repeat_under_new_id": (("kill",), 10),
    "failed_request_is_empty": (("ended_and_not_answered", "session_ends_under_a_commit"), 80),
    "what_left_is_new": (("kill",), 10),
}


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_what_is_taken_away_is_missed(mutation: str) -> None:
    faults, seeds = CAUGHT[mutation]
    found = many(range(1, seeds + 1), processes=PROCESSES, mutation=mutation, only=faults, stop_at_first=True)
    assert any(outcome.violations for outcome in found), f"{mutation} was not noticed in {len(found)} seeds"
    with_the_product_whole = simulate(next(o.seed for o in found if o.violations), only=faults)
    assert not with_the_product_whole.violations, with_the_product_whole.violations
