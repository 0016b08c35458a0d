"""R6: which orders met a lost link before IB itself had answered."""

from __future__ import annotations

import pytest

from engine.unconfirmed import Unconfirmed

pytestmark = pytest.mark.rule(6)


@pytest.mark.parametrize("status", ["ApiPending", "PendingSubmit"])
def test_what_only_the_gateway_has_seen_is_marked_when_the_link_is_lost(status: str) -> None:
    marks = Unconfirmed()
    marks.seen("gateway", status)
    marks.seen("ib", status)
    marks.seen("ib", "PreSubmitted")
    marks.link_lost(["unanswered"])
    assert marks.marked == ("gateway", "unanswered")


def test_a_mark_outlives_the_status_that_comes_with_the_link_and_ends_when_it_was_judged() -> None:
    marks = Unconfirmed()
    marks.seen("o", "PendingSubmit")
    marks.link_lost([])
    marks.link_back()
    marks.seen("o", "Submitted")
    assert marks.marked == ("o",)
    marks.judged(["o"])
    marks.link_lost([])
    assert marks.marked == ()


def test_what_the_gateway_takes_while_the_link_is_down_is_marked_too_and_with_the_link_up_it_is_not() -> None:
    marks = Unconfirmed()
    marks.link_lost([])
    marks.seen("down", "PendingSubmit")
    marks.link_back()
    marks.seen("up", "PendingSubmit")
    assert marks.marked == ("down",)


def test_an_order_that_has_ended_and_a_new_term_have_no_marks() -> None:
    marks = Unconfirmed()
    marks.link_lost(["ended", "open"])
    marks.ended("ended")
    assert marks.marked == ("open",)
    marks.begin()
    assert marks.marked == ()
