"""Whom to leave, when to pause, and what a failed call proves."""

from __future__ import annotations

import pytest

from ha.etcd_members import FIRST_PAUSE, Rotation, TermGuard, Verdict, judge


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED", "NEW_CODE"]
)
def test_what_says_nothing_about_the_lease_leaves_the_member(code: str) -> None:
    assert judge(code, "whatever") is Verdict.LEAVE


@pytest.mark.parametrize(
    ("code", "details", "verdict"),
    [
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", Verdict.TOKEN),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", Verdict.TOKEN),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", Verdict.TOKEN),
        ("NOT_FOUND", "etcdserver: requested lease not found", Verdict.NO_LEASE),
        ("FAILED_PRECONDITION", "etcdserver: lease already exists", Verdict.EXISTS),
        ("PERMISSION_DENIED", "etcdserver: permission denied", Verdict.REFUSED),
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password", Verdict.REFUSED),
        ("FAILED_PRECONDITION", "etcdserver: authentication is not enabled", Verdict.REFUSED),
        ("NOT_FOUND", "etcdserver: member not found", Verdict.LEAVE),
    ],
)
def test_a_status_proves_only_what_it_says(code: str, details: str, verdict: Verdict) -> None:
    assert judge(code, details) is verdict


def test_each_member_is_asked_once_without_a_pause_and_then_ever_more_rarely() -> None:
    rotation = Rotation(("a", "b", "c"), longest_pause=0.5)
    asked, pauses = [], []
    for _ in range(21):
        asked.append(rotation.current)
        rotation.leave()
        pauses.append(rotation.pause())
    assert asked[:6] == ["a", "b", "c", "a", "b", "c"]
    after_rounds = pauses[2::3]
    assert after_rounds == [FIRST_PAUSE, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]
    assert sum(pauses) == sum(after_rounds), "no pause within a round"


def test_an_answer_ends_the_pauses_and_keeps_the_member() -> None:
    rotation = Rotation(("a", "b"), longest_pause=0.5)
    for _ in range(7):
        rotation.leave()
    rotation.answered()
    assert rotation.pause() == 0.0
    assert rotation.current == "b"


def test_a_single_member_that_fails_is_asked_again_after_a_pause() -> None:
    rotation = Rotation(("a",), longest_pause=0.5)
    rotation.leave()
    assert rotation.current == "a"
    assert rotation.pause() == FIRST_PAUSE


def test_a_refused_token_is_tried_at_the_same_member_but_not_for_ever_without_a_pause() -> None:
    rotation = Rotation(("a", "b"), longest_pause=0.5)
    rotation.failed_here()
    assert rotation.current == "a"
    assert rotation.pause() == 0.0
    rotation.failed_here()
    assert rotation.pause() > 0


def test_pauses_do_not_overflow_after_a_year_without_etcd() -> None:
    rotation = Rotation(("a",), longest_pause=0.5, failures=10**8)
    assert rotation.pause() == 0.5


def test_a_member_whose_term_goes_back_is_stale() -> None:
    guard = TermGuard(3)
    assert not guard.stale("a", "c", 5)
    assert not guard.stale("b", "c", 6)
    assert guard.stale("a", "c", 5)
    assert guard.stale("a", "c", 5), "however often it says so"
    assert not guard.stale("a", "c", 6), "until it has caught up"


def test_a_member_of_another_cluster_is_stale_while_it_is_alone() -> None:
    guard = TermGuard(3)
    assert not guard.stale("a", "c", 5)
    assert guard.stale("b", "other", 99)
    assert not guard.stale("c", "c", 5)


def test_a_majority_with_a_lower_term_is_another_history_and_counts() -> None:
    guard = TermGuard(3)
    assert not guard.stale("a", "c", 50)
    assert guard.stale("a", "c", 2)
    assert not guard.stale("b", "c", 2)
    assert not guard.stale("c", "c", 2)


def test_one_fresh_answer_between_two_stale_ones_keeps_the_history() -> None:
    guard = TermGuard(3)
    assert not guard.stale("a", "c", 50)
    assert guard.stale("a", "c", 2)
    assert not guard.stale("c", "c", 50)
    assert guard.stale("b", "c", 2), "no majority: the count began anew"


def test_a_single_etcd_that_was_wiped_counts_at_once() -> None:
    guard = TermGuard(1)
    assert not guard.stale("a", "c", 9)
    assert not guard.stale("a", "c", 2)
    assert not guard.stale("a", "d", 2)
