"""Mutants of the rules of sending, R1 to R9."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.mutation.mutant import InSimulation, Mutant, OnCluster, Put, Rewrite


def _licensed_again(table: Any) -> Any:
    from engine.events import Draft, Kind

    def again(d: Any, view: Any) -> list[Draft]:
        order = d.order
        return [
            Draft(Kind.ORDER_UNLICENSED, {"reason": "again"}, view.now, order.id, order.subject, order.correlation_id)
        ]

    doubtful = ("sending_absent", "sending_unproven")
    return tuple(dataclasses.replace(row, write=again) if row.name in doubtful else row for row in table)


def _with_unlicensed(order: Any) -> Any:
    from engine.events import Kind

    return order | {Kind.ORDER_UNLICENSED: 3}


def _also_expires(table: Any) -> Any:
    from engine.events import Kind
    from engine.order import State

    return {**table, State.SENDING: {**table[State.SENDING], Kind.ORDER_EXPIRED: State.EXPIRED}}


SENDING = (
    Mutant(
        rule=1, name="R01_sent_again", says="what was licensed and is not shown is licensed anew",
        steps=(Put("reconcile.plan", "TABLE", _licensed_again), Put("reconcile.plan", "_ORDER", _with_unlicensed)),
        own=(
            "tests/unit/test_plan.py::"
            "test_sending_on_a_dead_session_absent_from_a_complete_snapshot_is_in_doubt_and_never_sent_again",
        ),
        judged=InSimulation(("ended_with_an_order_inside",)),
    ),
    Mutant(
        rule=1, name="R01_repeated_above", says="an order in doubt is repeated although higher order ids were used",
        steps=(
            Rewrite("engine.again", "why_not", "book.order_id_floor != used + 1", "False"),
            Rewrite("engine.fold", "_repeated", "book.order_id_floor != broker_order_id + 1", "False"),
        ),
        own=("tests/integration/test_doubt.py::test_send_again_is_refused_once_a_higher_order_id_was_used",),
    ),
    Mutant(
        rule=2, name="R02_any_session", says="a licence is good on whatever session there is",
        steps=(Rewrite("engine.permit", "Permit.refuses_write", "licence.session != self.session", "False"),),
        own=("tests/unit/test_permit.py::test_licence_of_another_epoch_or_session_is_dead",),
        judged=InSimulation(("session_ends_under_a_commit",)),
    ),
    Mutant(
        rule=2, name="R02_not_checked", says="nothing is checked on the line above the write",
        steps=(
            Rewrite(
                "engine.submit", "Desk._write",
                "cut or self._kept_back(order) or self.permit.refuses_write(licence, self._clock())",
                "cut or self._kept_back(order)",
            ),
        ),
        own=(
            "tests/unit/test_submit.py::"
            "test_licence_whose_gate_shut_or_session_or_epoch_ended_before_the_write_is_taken_back",
        ),
        judged=InSimulation(("session_ends_under_a_commit", "slow_commits")),
    ),
    Mutant(
        rule=3, name="R03_judges_the_living", says="an order of the session that is writing counts as absent",
        steps=(
            Rewrite(
                "reconcile.snapshot", "Snapshot.judges",
                "order.session != self.session and not self.moved_on(order)", "True",
            ),
        ),
        own=(
            "tests/unit/test_plan.py::test_order_of_the_present_session_is_not_judged",
            "tests/unit/test_snapshot.py::test_only_orders_of_dead_sessions_that_did_not_move_meanwhile_are_judged",
        ),
        judged=OnCluster("a gateway that loses orders"),
    ),
    Mutant(
        rule=4, name="R04_ids_go_back", says="order ids begin where the gateway says, whatever was used before",
        steps=(
            Rewrite(
                "engine.licences", "Licences.session_opened", "max(floor, self._book.order_id_floor)", "floor"
            ),
            Rewrite(
                "engine.licences", "Licences.issue", "max(self._next_broker_id, self._book.order_id_floor)",
                "self._next_broker_id",
            ),
        ),
        own=(
            "tests/unit/test_submit.py::test_ids_start_at_the_highest_floor_and_only_rise",
            "tests/integration/test_known_mistakes.py::test_ids_that_the_gateway_rolled_back_are_not_used_again",
        ),
        judged=OnCluster("a gateway that rolls its ids back"),
    ),
    Mutant(
        rule=5, name="R05_waits_for_ever", says="an order that is not acknowledged is waited for without an end",
        steps=(Rewrite("ha.tend", "Tender._watch_answers", "listing_at) > self._rules.ack_deadline", "listing_at) < 0.0"),),
        own=("tests/integration/test_api.py::test_lost_order_is_in_doubt_its_break_is_open_and_its_contract_held",),
        judged=OnCluster("a gateway that loses orders"),
    ),
    Mutant(
        rule=6, name="R06_late_ones_stay", says="what the gateway kept past its age while its link was down is not cancelled",
        steps=(Rewrite("ha.second_try", "cancel_late", "for oid in marks.marked:", "for oid in ():"),),
        own=(
            "tests/unit/test_second_try.py::"
            "test_what_met_a_lost_link_is_judged_by_the_next_session_whose_gateway_has_its_link",
            "tests/integration/test_link.py::"
            "test_what_the_gateway_kept_past_its_age_is_cancelled_before_the_gate_opens_and_nothing_else_is",
        ),
        judged=OnCluster("a link that is lost for longer than an order may wait"),
    ),
    Mutant(
        rule=6, name="R06_link_unproven", says="IB's own servers are not asked before an order is called absent",
        steps=(
            Rewrite("reconcile.collect", "collect", "linked=prove_link", "linked=True"),
            Rewrite("reconcile.run", "Reconciler._collect", "prove_link=prove_link", "prove_link=False"),
        ),
        own=(
            "tests/unit/test_run.py::"
            "test_order_that_is_not_shown_while_ib_does_not_answer_is_parked_as_unproven_and_never_called_absent",
        ),
    ),
    Mutant(
        rule=7, name="R07_dead_pairs", says="a cancel uses ids that another session showed",
        steps=(
            Rewrite(
                "engine.cancel", "Cancels.licence", "pair = self._live.get(order.id)",
                "pair = self._live.get(order.id) or (order.broker_order_id or 0, order.perm_id or 0)",
            ),
        ),
        own=("tests/unit/test_submit.py::test_working_order_that_this_session_did_not_show_writes_nothing_at_every_tick",),
    ),
    Mutant(
        rule=7, name="R07_older_change", says="a change that was made of an older revision is written",
        steps=(
            Rewrite("engine.modify", "Changes.licence", "request.revision != order.revision", "False"),
            Rewrite("engine.fold", "_modify_licensed", 'p.get("revision", known.revision) != known.revision', "False"),
        ),
        own=("tests/unit/test_attacks.py::test_of_two_changes_of_one_revision_at_once_the_second_is_412",),
    ),
    Mutant(
        rule=8, name="R08_never_too_old", says="an order waits for the gate however old it is",
        steps=(Rewrite("engine.intent", "too_old", "> limit:", "> limit and False:"),),
        own=("tests/unit/test_submit.py::test_order_that_waited_too_long_expires_and_is_never_sent",),
        judged=OnCluster("a gateway away for longer than an order may wait"),
    ),
    Mutant(
        rule=8, name="R08_sending_expires", says="an order that was licensed may expire",
        steps=(Put("engine.order", "TRANSITIONS", _also_expires),),
        own=("tests/unit/test_order.py::test_expired_is_reachable_from_queued_only",),
    ),
    Mutant(
        rule=8, name="R08_commit_takes_its_time", says="an order that grew too old while its licence was committed is written",
        steps=(
            Rewrite("engine.intent", "outlived", "if (why := too_old(order, now, max_age, since)) is not None:", "if why := None:"),
        ),
        own=(
            "tests/unit/test_submit.py::test_order_whose_licence_was_committed_too_late_is_not_written_any_more",
            "tests/unit/test_submit.py::test_family_of_which_one_became_too_old_under_its_commit_is_not_begun",
        ),
    ),
    Mutant(
        rule=9, name="R09_one_takes_all", says="one group that the database refuses takes those in its commit with it",
        steps=(
            Rewrite(
                "engine.commit", "Committer._write_group", "self._over(refused) or len(groups) == 1", "True",
            ),
        ),
        own=("tests/integration/test_fence.py::test_one_bad_group_does_not_take_the_others_with_it",),
    ),
    Mutant(
        rule=9, name="R09_last_first", says="of the orders that waited for the gate the last one is written first",
        steps=(
            Rewrite(
                "engine.queue", "Queue._front", "for oid in self._book.queued:",
                "for oid in reversed(self._book.queued):",
            ),
        ),
        own=("tests/unit/test_submit.py::test_order_behind_a_shut_gate_is_queued_and_sent_in_accept_order_when_it_opens",),
        judged=OnCluster("leader killed"),
    ),
)  # fmt: skip
