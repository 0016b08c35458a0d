"""Mutants of the rules of leadership and of the clients, R30 to R37."""

from __future__ import annotations

from tests.mutation.mutant import Mutant, Rewrite, Sql

PAIR = (
    Mutant(
        rule=30, name="R30_heartbeat_alone", says="silence on the heartbeat alone is enough to suspect a leader",
        steps=(
            Rewrite(
                "ha.suspicion", "Silence.last_sign", "return max(self.heartbeat_at, self.proof_at)", "return self.heartbeat_at"
            ),
        ),
        own=("tests/unit/test_suspicion.py::test_one_sign_of_life_is_enough",),
    ),
    Mutant(
        rule=30, name="R30_no_budget", says="suspicions are not counted",
        steps=(Rewrite("ha.suspicion", "Budget.allows", "len(self._recent(now)) < BUDGET", "True"),),
        own=("tests/unit/test_suspicion.py::test_three_in_ten_minutes_and_no_more",),
    ),
    Mutant(
        rule=31, name="R31_blind_claim", says="a claim does not compare the epoch with the one read before the campaign",
        steps=(Sql("ledger.claim", (("WHERE epoch = p_expected RETURNING", "WHERE true RETURNING"),)),),
        own=("tests/integration/test_fence.py::test_a_claim_under_an_epoch_that_moved_is_refused",),
    ),
    Mutant(
        rule=32, name="R32_any_etcd", says="the lease of another etcd is as good while the present leader proves its epoch",
        steps=(Rewrite("ha.claim", "other_etcd_sentence", "last is None or last == mine or not proven_lately", "True"),),
        own=("tests/unit/test_claim.py::test_a_lease_of_another_etcd_waits_while_the_present_leader_proves_its_epoch",),
    ),
    Mutant(
        rule=33, name="R33_no_deadline", says="a phase of a takeover that misses its deadline does not end the term",
        steps=(Rewrite("ha.phase", "bounded", "if limit.expired():", "if False:"),),
        own=("tests/unit/test_phase.py::test_a_phase_without_an_end_ends_the_term",),
    ),
    Mutant(
        rule=34, name="R34_granted_before_noted", says="the lease is not on the disk when it is granted",
        steps=(Rewrite("ha.etcd_port", "_RunDir.write", "etcd_runfile.write(", "(lambda *_: None)("),),
        own=("tests/integration/test_lease_etcd.py::TestRunDirectory::test_the_lease_is_on_the_disk_before_it_is_granted",),
    ),
    Mutant(
        rule=35, name="R35_circles", says="a request that was redirected once is redirected again",
        steps=(Rewrite("engine.api", "Api._elsewhere", ' or "hop" in request.query', ""),),
        own=("tests/integration/test_api.py::test_second_hop_is_503_and_not_a_circle",),
    ),
    Mutant(
        rule=36, name="R36_standby_denies", says="a standby says 404 for what it has not read yet",
        steps=(
            Rewrite("engine.api", "Api.one_order", "if not await self._leads_now():", "if False:"),
            Rewrite("engine.api", "Api.orders", "not await self._leads_now()", "False"),
        ),
        own=("tests/integration/test_api.py::test_standby_never_says_that_an_order_is_not_there",),
    ),
    Mutant(
        rule=37, name="R37_any_body", says="a key that is repeated is the same order whatever its body",
        steps=(Rewrite("engine.request", "same_order", "stored == request.canonical()", "True"),),
        own=("tests/unit/test_request.py::test_another_field_is_another_order",),
    ),
    Mutant(
        rule=37, name="R37_one_subject", says="a key belongs to everybody",
        steps=(
            Rewrite(
                "engine.reference", "order_id", "(cluster, subject, client_order_id)", '(cluster, "", client_order_id)'
            ),
        ),
        own=("tests/unit/test_reference.py::test_another_cluster_subject_or_key_is_another_id",),
    ),
)  # fmt: skip
