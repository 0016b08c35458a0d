"""Suspicion: silence on both ways, while this replica was there to hear it, within the pair's budget (R30)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ha.suspicion import BUDGET, WINDOW, Budget, Entry, Silence

pytestmark = pytest.mark.rule(30)
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def run(
    silence: Silence,
    start: float,
    seconds: float,
    *,
    beat: bool = False,
    proof: bool = False,
    database: bool = True,
    step: float = 0.05,
) -> float | None:
    """Ask every 50 ms; when it suspects, or None."""
    now = start
    while now < start + seconds:
        now = round(now + 0.05, 6)
        if beat:
            silence.heartbeat("i", now)
        if proof:
            silence.proof(now)
        if silence.suspects(now, database_seen_at=now if database else start):
            return now
    return None


def watching(now: float = 100.0) -> Silence:
    silence = Silence(after=1.5)
    silence.watch(7, "i", now)
    silence.suspects(now, database_seen_at=now)
    return silence


def test_silence_on_both_ways_is_suspected_after_the_allowance() -> None:
    assert run(watching(), 100.0, 5.0) == pytest.approx(101.5, abs=0.051)


@pytest.mark.parametrize(("beat", "proof"), [(True, False), (False, True), (True, True)])
def test_one_sign_of_life_is_enough(beat: bool, proof: bool) -> None:
    assert run(watching(), 100.0, 20.0, beat=beat, proof=proof) is None


def test_a_heartbeat_of_another_process_is_no_sign() -> None:
    silence = watching()
    silence.heartbeat("another", 101.4)
    assert run(silence, 100.0, 5.0) == pytest.approx(101.5, abs=0.051)


def test_a_new_leader_starts_fresh_and_the_same_one_does_not() -> None:
    silence = watching()
    assert run(silence, 100.0, 1.4) is None
    silence.watch(7, "i", 101.4)  # the same: the count goes on
    assert run(silence, 101.4, 1.0) == pytest.approx(101.5, abs=0.051)
    silence.watch(8, "j", 101.5)
    assert run(silence, 101.5, 1.4) is None


def test_a_watcher_that_sleeps_until_silence_is_due_is_not_late() -> None:
    silence = watching()
    assert silence.due_in(100.0) == pytest.approx(1.5)
    silence.heartbeat("i", 100.3)
    silence.proof(100.2)
    assert silence.due_in(101.0) == pytest.approx(0.8)
    for now in (100.4, 100.8, 101.2, 101.6):  # the looks in between keep it from taking its own sleep for a freeze
        assert not silence.suspects(now, database_seen_at=now)
    assert silence.suspects(101.81, database_seen_at=101.8)
    silence.unwatch()
    assert silence.due_in(102.0) is None


def test_without_a_leader_nobody_is_suspected() -> None:
    silence = watching()
    silence.unwatch()
    assert run(silence, 100.0, 10.0) is None


def test_a_standby_that_does_not_see_the_database_suspects_nobody_and_the_count_goes_on() -> None:
    silence = watching()
    assert run(silence, 100.0, 5.0, database=False) is None or pytest.fail("acted without the database")
    assert silence.suspects(105.05, database_seen_at=105.05)  # delayed, not restarted


def test_a_standby_that_was_frozen_itself_starts_the_count_anew() -> None:
    silence = watching()
    assert run(silence, 100.0, 1.0, beat=True, proof=True) is None
    assert not silence.suspects(160.0, database_seen_at=160.0)  # a minute of its own silence
    assert run(silence, 160.0, 1.4) is None
    assert run(silence, 161.4, 1.0) == pytest.approx(161.5, abs=0.051)


def entry(minutes_ago: float, suspect: str = "s", name: str = "a") -> Entry:
    return Entry(NOW - timedelta(minutes=minutes_ago), suspect, name, "b")


def test_three_in_ten_minutes_and_no_more() -> None:
    budget = Budget()
    for i in range(BUDGET):
        assert budget.allows(NOW)
        budget = budget.spend(entry(i))
    assert not budget.allows(NOW)
    assert budget.allows(NOW + WINDOW)


def test_the_budget_survives_its_text() -> None:
    budget = Budget().spend(entry(1)).spend(entry(2, "t", "c"))
    assert Budget.from_text(budget.to_text()) == budget
    assert Budget.from_text(None) == Budget()


@pytest.mark.parametrize("text", ["nonsense", "{}x", '[{"at": "2026-01-05T12:00:00"}]', '[{"at": null}]', "[1]"])
def test_a_budget_that_cannot_be_read_counts_as_spent(text: str) -> None:
    assert not Budget.from_text(text).allows(NOW)


def test_a_suspicion_is_given_back_when_its_suspect_proves_dead() -> None:
    budget = Budget().spend(entry(1, "dead", "a")).spend(entry(2, "alive", "c"))
    assert budget.give_back("a", "reborn").entries == (entry(2, "alive", "c"),)
    assert budget.give_back("c", "alive") == budget  # it lives as the same process: the suspicion was false, and counts
