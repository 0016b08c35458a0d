"""Mutants of the rules of the database, R18 to R22."""

from __future__ import annotations

from tests.mutation.mutant import InSimulation, Mutant, Rewrite, Sql

DATABASE = (
    Mutant(
        rule=18, name="R18_shorter_log_is_taken", says="a log that is shorter than what was seen is led on as it is",
        steps=(Rewrite("ha.takeover", "Takeover.claim", "None if seen <= self._book.seq else (", "None if seen >= 0 else ("),),
        own=("tests/unit/test_attacks.py::test_event_that_only_the_leader_spoke_of_counts_as_seen",
             "tests/integration/test_operate.py::test_a_database_that_lost_rows_holds_everything_until_an_operator_looks"),
        judged=InSimulation(("database_goes_back",)),
    ),
    Mutant(
        rule=18, name="R18_same_place", says="a leader writes on when its connection leads to another server",
        steps=(Rewrite("engine.commit", "Committer._see_place", "if self._place not in (None, place):", "if False:"),),
        own=("tests/integration/test_fence.py::test_a_writer_that_comes_back_to_another_server_writes_nothing_there",),
    ),
    Mutant(
        rule=18, name="R18_no_claim_above", says="an epoch in a broker's reference that is above ours is passed over",
        steps=(Rewrite("ha.takeover", "Takeover.claim_above", "shown > self.term.epoch", "False"),),
        own=("tests/unit/test_connect.py::test_an_epoch_at_the_broker_above_ours_ends_the_term_to_be_claimed_above",),
    ),
    Mutant(
        rule=19, name="R19_drawn_ids", says="an order's id is drawn, not derived from its key",
        steps=(
            Rewrite(
                "engine.reference", "order_id", 'text = "\\x1f".join((cluster, subject, client_order_id))',
                'text = "\\x1f".join((cluster, subject, client_order_id, __import__("os").urandom(8).hex()))',
            ),
        ),
        own=("tests/unit/test_reference.py::test_derivation_never_changes_because_references_live_at_the_broker",),
        judged=InSimulation(("kill",)),
    ),
    Mutant(
        rule=19, name="R19_lost_is_a_strangers", says="an order with our tag that the ledger lost counts as somebody else's",
        steps=(
            Rewrite("reconcile.drafts", "recorded", "kind = Kind.ORDER_RESTORED if d.own is not None else", "kind ="),
        ),
        own=("tests/unit/test_plan.py::test_order_with_our_tag_that_the_ledger_lost_is_restored_under_its_own_id_and_epoch",),
    ),
    Mutant(
        rule=20, name="R20_lost_answer_is_no", says="a commit whose answer is lost counts as refused",
        steps=(
            Rewrite(
                "engine.commit", "Committer._append_until_known",
                "                self._answer_lost = True\n                await asyncio.sleep(0.05)\n                continue",
                '                raise Refused("00000", str(lost)) from lost',
            ),
        ),
        own=("tests/integration/test_fence.py::test_a_commit_whose_answer_was_lost_is_repeated_and_written_once",),
        judged=InSimulation(("answers_are_lost",)),
    ),
    Mutant(
        rule=20, name="R20_fenced_is_no", says="what is fenced after its answer was lost counts as not written",
        steps=(
            Rewrite(
                "engine.commit", "Committer._refuse",
                "Outcome.UNKNOWN if lost else Outcome.REFUSED", "Outcome.REFUSED",
            ),
        ),
        own=("tests/integration/test_fence.py::test_a_commit_that_is_fenced_after_its_answer_was_lost_is_unknown",),
    ),
    Mutant(
        rule=21, name="R21_log_takes_holes", says="the database takes an event that leaves a hole",
        steps=(Sql("ledger.event_in_place", (("IF NEW.seq > head + 1 THEN", "IF NEW.seq > head + 1000000 THEN"),)),),
        own=("tests/integration/test_fence.py::test_an_event_that_would_leave_a_hole_is_refused",),
    ),
    Mutant(
        rule=21, name="R21_reader_passes_holes", says="a reader of the log passes over a hole",
        steps=(Rewrite("engine.book", "Book.apply", "event.seq != self.seq + 1", "event.seq <= self.seq"),),
        own=("tests/unit/test_book.py::test_hole_or_repeat_in_the_log_stops_the_fold_and_changes_nothing",),
    ),
    Mutant(
        rule=21, name="R21_numbers_are_drawn",
        says="numbers come from a sequence, as in most tables: a lost one leaves a hole that neither side minds",
        steps=(
            Sql("ledger.event_in_place", (("IF NEW.seq > head + 1 THEN", "IF NEW.seq > head + 1000000 THEN"),)),
            Rewrite("engine.book", "Book.apply", "event.seq != self.seq + 1", "event.seq <= self.seq"),
            Rewrite("engine.commit", "Committer._append", "seq = self._book.seq\n",
                    "seq = self._book.seq + (self._book.seq % 97 == 96)\n"),
        ),
        own=("tests/unit/test_book.py::test_hole_or_repeat_in_the_log_stops_the_fold_and_changes_nothing",),
        judged=InSimulation(("kill",)),
    ),
    Mutant(
        rule=22, name="R22_unknown_is_nothing", says="an event of a kind that this version does not know is passed over",
        steps=(
            Rewrite(
                "engine.book", "Book.apply",
                'raise UnknownKind(f"event {event.seq} is of kind {event.kind!r}, which this version does not know")',
                "fold = lambda *_: None",
            ),
        ),
        own=("tests/unit/test_book.py::test_kind_that_this_version_does_not_know_stops_the_fold_and_changes_nothing",),
    ),
    Mutant(
        rule=22, name="R22_any_level", says="a new kind is written whatever the other replica can read",
        steps=(Rewrite("engine.events", "above", "if LEVELS[kind] > level", "if False"),),
        own=("tests/unit/test_levels.py::test_group_with_a_kind_above_the_level_is_refused_and_the_others_of_its_commit_are_not",
             "tests/unit/test_levels.py::test_kind_above_the_ledgers_level_is_named_with_the_command_that_admits_it"),
    ),
)  # fmt: skip
