"""Mutants of the rules of the fences, R10 to R17."""

from __future__ import annotations

from tests.mutation.mutant import InSimulation, Mutant, OnCluster, Rewrite, Sql

_NOBODY_IS_FENCED = (("IF named IS NULL OR named <> present::text THEN", "IF named IS NULL THEN"),)

FENCES = (
    Mutant(
        rule=10, name="R10_any_epoch", says="the trigger lets every epoch write, and the log takes its rows",
        steps=(Sql("ledger.fence", _NOBODY_IS_FENCED),),
        own=(
            "tests/integration/test_fence.py::test_a_psql_session_under_an_old_epoch_cannot_write",
            "tests/integration/test_fence.py::test_the_fence_is_proven_by_each_new_leader",
        ),
        judged=InSimulation(("revoke", "cut_etcd"), "no_epoch_fence"),
    ),
    Mutant(
        rule=10, name="R10_unfenced_and_unproven",
        says="the same, and a new leader does not try whether a forbidden write is refused",
        steps=(
            Sql("ledger.fence", _NOBODY_IS_FENCED),
            Sql("ledger.fence_holds", (("WHEN SQLSTATE 'PA000' THEN RETURN false;", "WHEN SQLSTATE 'PA000' THEN RETURN true;"),)),
        ),
        own=("tests/integration/test_fence.py::test_the_fence_is_proven_by_each_new_leader",),
        judged=OnCluster("leader without etcd and without the other replica"),
    ),
    Mutant(
        rule=10, name="R10_no_gate", says="a claim does not wait for transactions in flight",
        steps=(
            Sql(
                "ledger.fence",
                (
                    ("    LOCK TABLE ledger.write_gate IN ROW EXCLUSIVE MODE;\n", ""),
                    ("SELECT epoch INTO present FROM ledger.epoch FOR SHARE;", "SELECT epoch INTO present FROM ledger.epoch;"),
                ),
            ),
        ),
        own=("tests/integration/test_fence.py::test_a_claim_waits_for_a_write_in_flight",),
        judged=InSimulation(("session_ends_under_a_commit", "revoke", "slow_commits"), "fence_without_gate"),
    ),
    Mutant(
        rule=11, name="R11_claim_waits", says="a claim waits for a frozen transaction for as long as that lives",
        steps=(
            Rewrite("ha.claim", "_end_older_writers", 'await connection.run("end_older_writers", {"epoch": epoch})', "pass"),
        ),
        own=("tests/unit/test_claim.py::test_a_claim_that_had_to_wait_ends_the_writers_of_older_epochs_and_tries_again",),
    ),
    Mutant(
        rule=12, name="R12_proof_never_ages", says="a leader trusts its epoch for ever",
        steps=(Rewrite("engine.permit", "Permit.proven", " and self.proof_age(now) <= self.proof_max_age", ""),),
        own=("tests/unit/test_permit.py::test_epoch_that_was_not_proven_for_too_long_counts_as_lost",),
        judged=InSimulation(("cut_database", "slow_commits")),
    ),
    Mutant(
        rule=12, name="R12_proof_from_its_end", says="a proof's age counts from its answer",
        steps=(
            Rewrite(
                "engine.permit", "Permit.prove", "self.proof_at = max(self.proof_at, started)",
                "self.proof_at = max(self.proof_at, started) + 1.0",
            ),
        ),
        own=("tests/unit/test_permit.py::test_proof_counts_from_its_start_never_moves_back_and_only_under_the_present_epoch",),
    ),
    Mutant(
        rule=13, name="R13_dials_unproven", says="no commit before an attempt to connect",
        steps=(
            Rewrite(
                "ha.takeover", "Takeover.connect", "await prove(committer)  # R13: a commit under my epoch before every attempt",
                "pass",
            ),
        ),
        own=("tests/unit/test_connect.py::test_every_dial_and_every_use_of_the_agent_follows_a_commit",),
        judged=InSimulation(("relay_drops", "gateway_restart")),
    ),
    Mutant(
        rule=13, name="R13_lease_not_verified", says="a session is opened although nobody says that the lease is held",
        steps=(Rewrite("ha.takeover", "Takeover.connect", "not isinstance(await self._lease.verify(), Held)", "False"),),
        own=("tests/unit/test_connect.py::test_no_session_is_opened_while_the_lease_is_not_verified",),
    ),
    Mutant(
        rule=14, name="R14_any_identity", says="a replica of another gateway or clientId starts",
        steps=(
            Rewrite("ha.startup", "identity_sentences", "if ours != theirs:", "if False:"),
        ),
        own=("tests/integration/test_cli_pair.py::test_replica_of_another_cluster_gateway_or_client_id_is_refused",),
    ),
    Mutant(
        rule=15, name="R15_newest_worker_only", says="the agent leaves the relay's old workers alone",
        steps=(
            Rewrite(
                "ha.fence_haproxy", "Haproxy.drop_old_session", 'found = workers(await self._cli.ask("show proc"))',
                'found = [one for one in workers(await self._cli.ask("show proc")) if not one.old]',
            ),
        ),
        own=("tests/integration/test_fence_haproxy.py::test_a_session_in_an_old_worker_is_dropped_too",),
    ),
    Mutant(
        rule=16, name="R16_war", says="a stranger is dropped each time that it comes back",
        steps=(
            Rewrite(
                "ha.fence", "FenceRule.may_drop_strangers",
                "self._stranger_dropped_at is None or now - self._stranger_dropped_at > STRANGER_REMEMBERED", "True",
            ),
        ),
        own=("tests/unit/test_fence_agents.py::test_a_stranger_is_fenced_at_most_once_and_then_everything_is_held_with_its_address",),
    ),
    Mutant(
        rule=17, name="R17_probe_takes_the_session", says="the probe of the gateway goes on to take the clientId",
        steps=(
            Rewrite(
                "ha.gateway_probe", "_shake_hands", "    return Answers(int(version))",
                '    start = b"71\\x002\\x0017\\x00\\x00"\n    writer.write(len(start).to_bytes(4, "big") + start)\n'
                "    await reader.readexactly(8)\n    return Answers(int(version))",
            ),
        ),
        own=("tests/integration/test_gateway_probe.py::test_a_healthy_gateway_answers_and_its_session_is_not_disturbed",),
    ),
    Mutant(
        rule=17, name="R17_swaps_for_ever", says="each look at a mute gateway buys another hand-over",
        steps=(Rewrite("ha.outage", "Outage.buys_hand_over", "away_since is None or self.spent or", "away_since is None or"),),
        own=("tests/unit/test_outage.py::test_an_outage_buys_one_hand_over",),
    ),
)  # fmt: skip
