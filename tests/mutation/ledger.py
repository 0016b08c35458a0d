"""Mutants of the rules of reconciliation and the ledger, R23 to R29."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.mutation.mutant import Mutant, OnCluster, Put, Rewrite


def _vanished_is_cancelled(table: Any) -> Any:
    from reconcile.drafts import cancelled
    from reconcile.table import Acts

    return tuple(
        dataclasses.replace(row, write=cancelled, acts=Acts.NOW) if row.name == "vanished" else row for row in table
    )


def _no_twin_cancelled(table: Any) -> Any:
    return tuple(row for row in table if row.name != "twin_cancelled")


LEDGER = (
    Mutant(
        rule=23, name="R23_nothing_is_lacking", says="a snapshot that lacks what cannot have ended proves absences",
        steps=(
            Rewrite("reconcile.snapshot", "Snapshot.lacks", "        shown = (", "        return []\n        shown = ("),
        ),
        own=(
            "tests/unit/test_plan.py::test_snapshot_that_lacks_a_working_order_proves_nothing_about_another_one",
            "tests/unit/test_snapshot.py::test_working_order_that_no_part_shows_makes_the_snapshot_lack_something",
        ),
    ),
    Mutant(
        rule=23, name="R23_missing_is_empty", says="a list that did not come counts as empty, and nobody wonders at what it lacks",
        steps=(
            Rewrite("reconcile.collect", "collect", "missing=tuple(asking.missing)", "missing=()"),
            Rewrite("reconcile.snapshot", "Snapshot.lacks", "        shown = (", "        return []\n        shown = ("),
        ),
        own=("tests/unit/test_collect.py::test_message_that_could_not_be_decoded_makes_the_collection_incomplete",),
        judged=OnCluster("a list without an end at a takeover"),
    ),
    Mutant(
        rule=23, name="R23_any_day", says="an order older than the gateway's day is called absent",
        steps=(Rewrite("reconcile.drafts", "View._why_not_judged", "order.created_at < self.day_began", "False"),),
        own=("tests/unit/test_plan.py::test_absence_of_an_order_that_is_older_than_the_gateways_day_proves_nothing",),
    ),
    Mutant(
        rule=24, name="R24_gate_stays_shut", says="a reconciliation that stays incomplete keeps the gate shut",
        steps=(
            Rewrite(
                "reconcile.run", "Reconciler._rounds", 'return ("unknown", refused) if refused else ("parked", "")',
                'return ("unknown", refused)',
            ),
        ),
        own=("tests/unit/test_run.py::test_snapshot_that_stays_incomplete_parks_the_doubtful_and_lets_the_gate_open",),
    ),
    Mutant(
        rule=25, name="R25_vanished_is_cancelled", says="an order that was seen and then is gone counts as cancelled",
        steps=(
            Put("reconcile.table", "TABLE", _vanished_is_cancelled),
            Put("reconcile.plan", "TABLE", _vanished_is_cancelled),
        ),
        own=(
            "tests/unit/test_plan.py::test_order_that_was_seen_and_then_is_gone_keeps_its_state_and_holds_its_contract",
        ),
        unseen="neither stand-in lets a working order vanish from every list and live on; "
        "the check `ended_yet_alive` has a history of it",
    ),
    Mutant(
        rule=26, name="R26_any_second_one", says="a second order is cancelled whoever's it may be",
        steps=(
            Rewrite(
                "reconcile.table", "_ours_to_cancel", "all(fact.client_id == view.me.client_id for fact in live)", "True"
            ),
            Put("reconcile.plan", "TABLE", lambda _: _table_anew()),
        ),
        own=("tests/unit/test_plan.py::test_second_order_that_is_not_surely_ours_is_never_cancelled",),
    ),
    Mutant(
        rule=26, name="R26_twins_work_on", says="a twin of the broker's making is told and not cancelled",
        steps=(Put("reconcile.plan", "TABLE", _no_twin_cancelled),),
        own=("tests/unit/test_run.py::test_twin_is_cancelled_once_and_told_and_the_next_collection_shows_what_came_of_it",),
        judged=OnCluster("a gateway that doubles orders"),
    ),
    Mutant(
        rule=27, name="R27_counted_again", says="an execution that comes once more counts once more",
        steps=(
            Rewrite(
                "engine.fold", "_execution",
                "old is not None and (old.revision >= revision or contradiction(old, new) is not None)", "False",
            ),
            Rewrite("engine.fold", "filled_by", "replaced = old is not None and old.order_id == order.id", "replaced = False"),
        ),
        own=("tests/unit/test_book.py::test_correction_that_names_another_contract_does_not_move_two_positions",),
    ),
    Mutant(
        rule=27, name="R27_status_fills", says="the status Filled fills an order, its executions add nothing",
        steps=(
            Rewrite(
                "engine.inbound", "Inbound._tells", "        if status in ENDED:",
                '        if status == "Filled":\n            return None if state in FINAL else Kind.ORDER_CANCELLED\n'
                "        if status in ENDED:",
            ),
        ),
        own=("tests/unit/test_inbound.py::test_status_filled_fills_nothing",),
        judged=OnCluster("a gateway that tells of a fill before its execution"),
    ),
    Mutant(
        rule=28, name="R28_changes_unseen", says="what a person changed at the broker is not looked at",
        steps=(Rewrite("engine.inbound", "changed", "    return {name: str(theirs)", "    return {} and {name: str(theirs)"),),
        own=("tests/unit/test_inbound.py::test_order_that_was_changed_at_the_broker_asks_once_for_each_change",),
    ),
    Mutant(
        rule=29, name="R29_shut_gate_traps", says="a shut gate keeps the cancel of a live order back",
        steps=(
            Rewrite(
                "engine.cancel", "Cancels.licence", "if self._permit.session is None or",
                "if self._permit.session is None or self._permit.shut or self._permit.halted or",
            ),
        ),
        own=("tests/unit/test_submit.py::test_hold_halt_and_a_shut_gate_never_stop_the_cancel_of_a_live_order",),
    ),
)  # fmt: skip


def _table_anew() -> Any:
    """The table with the present functions of its module: its rows hold the ones that it was made of."""
    import reconcile.table as module

    def fresh(row: Any) -> Any:
        when = getattr(module, getattr(row.when, "__name__", ""), row.when)
        return dataclasses.replace(row, when=when)

    return tuple(fresh(row) for row in module.TABLE)
