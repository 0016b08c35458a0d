"""The lease's values: timing that is refused, trust, and the record in the leader key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.lease import MAX_LEASE_ID, BadLeaderRecord, LeaderRecord, LeaderSeen, LeaseTiming, trust_until

names = st.text(min_size=1, max_size=20)
RECORD = LeaderRecord("a", "i-1", "http://a:8080", 7, 3, "0.1.0")


@pytest.mark.rule(12)
def test_the_defaults_are_the_rules_and_hold() -> None:
    timing = LeaseTiming()
    assert (timing.ttl, timing.margin, timing.renew_every, timing.loop_allowance) == (2, 0.5, 0.5, 0.5)
    assert timing.trust == 1.5
    assert timing.call_limit == pytest.approx(2 / 3)
    assert timing.poll_every == 1.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ttl": 1}, "whole seconds, 2 s at least"),
        ({"ttl": 2.5}, "whole seconds"),
        ({"margin": 0}, "margin is 0 s; it must be above 0"),
        ({"renew_every": -1}, "renew_every is -1 s"),
        ({"renew_every": float("nan")}, "renew_every is nan s"),
        ({"loop_allowance": 0}, "loop_allowance is 0 s"),
        ({"renew_every": 0.9}, "no time for a second attempt"),
        ({"margin": 1.0}, "lower renew_every or the margin"),
        ({"margin": 3}, "no time for a second attempt"),
        ({"loop_allowance": 1.5}, "lower loop_allowance below that"),
    ],
)
def test_relations_that_do_not_hold_are_refused_with_a_sentence(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LeaseTiming(**wrong)  # type: ignore[arg-type]


@given(st.integers(2, 60), st.floats(0.05, 20), st.floats(0.05, 20), st.floats(0.05, 20), st.floats(0, 1e6))
def test_timing_that_is_accepted_survives_one_frozen_member(
    ttl: int, margin: float, every: float, allowance: float, start: float
) -> None:
    try:
        timing = LeaseTiming(ttl, margin, every, allowance)
    except ValueError:
        return
    second_attempt = start + timing.renew_every + timing.call_limit
    assert second_attempt < trust_until(start, ttl, margin) < start + ttl


def test_trust_counts_from_the_start_of_the_attempt_with_the_ttl_that_was_granted() -> None:
    assert trust_until(100.0, 5, 0.5) == 104.5


@given(names, names, names, st.integers(1, MAX_LEASE_ID), st.integers(0, 2**40), st.text(max_size=10))
def test_a_record_reads_back_as_it_was_written(
    name: str, instance: str, url: str, lease_id: int, epoch: int, version: str
) -> None:
    record = LeaderRecord(name, instance, url, lease_id, epoch, version)
    assert LeaderRecord.from_text(record.to_text()) == record
    assert LeaderRecord.from_text(record.to_text().encode()) == record


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": None}, "name is not a text"),
        ({"instance": 3}, "instance is not a text"),
        ({"url": ["http://a"]}, "url is not a text"),
        ({"version": None}, "version is not a text"),
        ({"lease_id": 0}, "lease_id is not a number from 1 on"),
        ({"lease_id": 2**63}, "lease_id is not a number"),
        ({"lease_id": "7"}, "lease_id is not a number"),
        ({"lease_id": 7.0}, "lease_id is not a number"),
        ({"epoch": -1}, "epoch is not a number from 0 on"),
        ({"epoch": True}, "epoch is not a number"),
    ],
)
def test_a_malformed_record_is_refused_with_what_is_wrong(change: dict[str, object], says: str) -> None:
    fields = json.loads(RECORD.to_text()) | change
    with pytest.raises(BadLeaderRecord, match=says):
        LeaderRecord.from_text(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "x", "[]", "1", b"\xff\xfe", '{"name": "a"}', "null", '{"lease_id": NaN}'])
def test_what_is_no_record_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadLeaderRecord):
        LeaderRecord.from_text(text)


def test_fields_of_a_newer_version_are_left_aside() -> None:
    fields = json.loads(RECORD.to_text()) | {"colour": "blue"}
    assert LeaderRecord.from_text(json.dumps(fields)) == RECORD


def test_the_same_key_at_a_later_revision_is_the_same_key() -> None:
    earlier = LeaderSeen(RECORD, 7, 5, 5, "c")
    assert earlier.same_key(LeaderSeen(RECORD, 7, 5, 99, "c"))
    assert not earlier.same_key(LeaderSeen(RECORD.under(8), 8, 5, 99, "c"))
    assert not earlier.same_key(LeaderSeen(RECORD, 7, 6, 99, "c"))
    assert not earlier.same_key(LeaderSeen(RECORD, 7, 5, 5, "another etcd"))
