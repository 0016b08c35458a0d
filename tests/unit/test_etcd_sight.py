"""The newest state of the leader key, whatever order reads and watch events come in."""

from __future__ import annotations

from ha.etcd_sight import Sight, seen
from ha.lease import LeaderRecord, LeaderSeen

RECORD = LeaderRecord("a", "i", "http://a", 7)


def state(lease_id: int, revision: int, cluster_id: str = "c") -> LeaderSeen:
    if lease_id == 0:
        return seen(None, 0, 0, revision=revision, cluster_id=cluster_id)
    value = RECORD.under(lease_id).to_text().encode()
    return seen(value, lease_id, 1, revision=revision, cluster_id=cluster_id)


def told() -> tuple[Sight, list[tuple[int, int]]]:
    reports: list[tuple[int, int]] = []
    return Sight(lambda one: reports.append((one.lease_id, one.revision))), reports


def test_the_first_state_is_told_and_the_same_one_is_not_told_again() -> None:
    sight, reports = told()
    sight.read(state(0, 1), known_before=0)
    sight.read(state(0, 5), known_before=1)
    sight.event(state(7, 6))
    sight.read(state(7, 9), known_before=6)
    assert reports == [(0, 1), (7, 6)]
    assert sight.revision == 9


def test_an_event_older_than_what_is_known_is_late_and_not_told() -> None:
    sight, reports = told()
    sight.read(state(7, 10), known_before=0)
    sight.event(state(0, 8))
    assert reports == [(7, 10)]


def test_a_read_overtaken_by_an_event_is_late_and_not_told() -> None:
    sight, reports = told()
    sight.read(state(7, 10), known_before=0)
    before = sight.revision
    sight.event(state(0, 12))
    sight.read(state(7, 11), known_before=before)
    assert reports == [(7, 10), (0, 12)]


def test_a_read_begun_later_that_shows_less_is_another_history_and_is_told() -> None:
    sight, reports = told()
    sight.read(state(7, 10), known_before=0)
    sight.read(state(0, 3), known_before=sight.revision)
    sight.event(state(8, 4))
    assert reports == [(7, 10), (0, 3), (8, 4)]


def test_another_cluster_is_told_whatever_its_revision() -> None:
    sight, reports = told()
    sight.read(state(7, 10), known_before=0)
    sight.event(state(7, 2, "other"))
    assert reports == [(7, 10), (7, 2)]


def test_a_value_that_is_no_record_is_a_key_with_a_problem() -> None:
    odd = seen(b"\xff", 7, 3, revision=4, cluster_id="c")
    assert odd.taken
    assert odd.record is None
    assert "not JSON" in (odd.problem or "")
