"""The stream of events, against a real pair: every event once and in order, from either replica, over a failover, for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.api_calls import ORDERS, SECRET, bearer, body, call, in_state, quiet, seq
from tests.integration.event_reader import Reader
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(API_SECRET_KEY=SECRET, ORDER_RATE="0", ORDER_RATE_PER_SYMBOL="0") as made:
        yield made


def placed(url: str) -> str:
    answer = call(url, "POST", ORDERS, body())
    assert answer.status == 201, answer.content
    return str(answer.json["id"])


def test_an_order_is_told_by_both_replicas_under_the_same_ids(pair: RunningPair) -> None:
    with (
        Reader(pair.leader, headers=bearer("viewer")) as ours,
        Reader(pair.standby, headers=bearer("viewer")) as theirs,
    ):
        assert (ours.status, ours.headers["content-type"]) == (200, "text/event-stream")
        oid = placed(pair.leader)
        at = in_state(pair.leader, oid, "WORKING")["seq"]
        for reader in (ours, theirs):
            reader.until_seq(at)
    told = [e for e in ours.events if e.data["order_id"] == oid and e.data["seq"] <= at]
    assert told[0].kind == "order_accepted"
    assert {e.kind for e in told[1:]} == {"order_working"}
    assert told == [e for e in theirs.events if e.data["order_id"] == oid and e.data["seq"] <= at]
    epoch = ask(pair.leader, "GET", "/health").json["epoch"]
    for e in told:
        assert e.id == f"{e.id.split('-', maxsplit=1)[0]}-{epoch}-{e.data['seq']}"
        assert set(e.data) == {
            "seq", "epoch", "kind", "at", "order_id", "subject", "correlation_id", "event_id", "payload",
        }  # fmt: skip
        assert e.data["kind"] == e.kind
    assert told[0].data["subject"] == "s1"


@pytest.mark.rule(36)
def test_reader_goes_on_behind_the_id_it_had(pair: RunningPair) -> None:
    placed(pair.leader)
    head = quiet(pair.leader)
    with Reader(pair.leader, "?after=0", bearer("viewer")) as whole:
        whole.until_seq(head)
    assert whole.seqs()[:head] == list(range(1, head + 1))
    for url in (pair.leader, pair.standby):
        for behind in (1, head // 2, head - 1):
            last = whole.events[behind - 1]
            with Reader(url, headers=bearer("viewer") | {"Last-Event-ID": last.id}) as rest:
                rest.until_seq(head)
            assert rest.events[: head - behind] == whole.events[behind:head]


@pytest.mark.rule(36)
@pytest.mark.parametrize("how", ["another epoch", "another timeline", "beyond the head", "after beyond the head"])
def test_id_that_the_log_does_not_hold_is_answered_by_a_reset_and_the_present(pair: RunningPair, how: str) -> None:
    head = quiet(pair.leader)
    with Reader(pair.leader, f"?after={head - 1}", bearer("viewer")) as one:
        one.until_seq(head)
    timeline, epoch, last = one.events[-1].id.split("-")
    named = {
        "another epoch": f"{timeline}-{int(epoch) + 1}-{last}", "another timeline": f"000000FF-{epoch}-{last}",
        "beyond the head": f"{timeline}-{epoch}-{int(last) + 1000}",
    }  # fmt: skip
    headers = {"Last-Event-ID": named[how]} if how in named else {}
    query = "" if headers else f"?after={head + 1000}"
    for url in (pair.leader, pair.standby):
        until(lambda url=url, head=head: seq(url) == head, "this replica has what the other has")
        with Reader(url, query, bearer("viewer") | headers) as reader:
            until(lambda reader=reader: reader.events, "the first event")
            reset = reader.events[0]
            assert (reset.kind, reset.id, reset.data["seq"]) == ("reset", one.events[-1].id, head)
            assert "event" in reset.data["why"]
            oid = placed(pair.leader)
            reader.until_seq(in_state(pair.leader, oid, "WORKING")["seq"])
        assert reader.seqs()[1] == head + 1
        head = quiet(pair.leader)
        with Reader(pair.leader, f"?after={head - 1}", bearer("viewer")) as one:
            one.until_seq(head)


def test_wrong_places_are_refused_by_name_and_the_stream_wants_a_token(pair: RunningPair) -> None:
    def refused(query: str = "", **headers: str) -> tuple[int, str]:
        answer = ask(pair.leader, "GET", f"/api/v1/events{query}", headers=bearer("viewer") | headers)
        return answer.status, answer.problem

    assert refused(**{"Last-Event-ID": "17"}) == (400, "bad-event-id")
    assert refused(**{"Last-Event-ID": "00000001-1-99999999999999999999"}) == (400, "bad-event-id")
    assert refused("?after=-1") == (422, "invalid-order")
    assert ask(pair.leader, "GET", "/api/v1/events").problem == "unauthorized"
    head = ask(pair.leader, "HEAD", "/api/v1/events", headers=bearer("viewer"))
    assert (head.status, head.content) == (200, b"")


@pytest.mark.rule(36)
def test_reader_at_the_standby_sees_every_event_once_over_a_failover(pair: RunningPair) -> None:
    leader, standby = pair.leader, pair.standby
    start = quiet(leader)
    with Reader(standby, f"?after={start}", bearer("viewer")) as reader:
        placed(leader)
        os.kill(ask(leader, "GET", "/health").json["pid"], signal.SIGKILL)
        until(lambda: ask(standby, "GET", "/leader").status == 200, "the standby leads")
        until(lambda: ask(standby, "GET", "/readyz").status == 200, "its gate is open")
        oid = placed(standby)
        in_state(standby, oid, "WORKING")
        head = quiet(standby)
        reader.until_seq(head)
        found = [s for s in reader.seqs() if s <= head]
    assert found == list(range(start + 1, head + 1))
    assert len({e.data["epoch"] for e in reader.events}) == 2
    assert {e.kind for e in reader.events}.isdisjoint({"reset"})
    with psycopg.connect(pair.pair.info()["database_url"]) as db:
        rows = db.execute(
            "SELECT e.seq, e.epoch, timeline FROM ledger.event e JOIN ledger.term USING (epoch) WHERE e.seq > %s AND e.seq <= %s "
            "ORDER BY e.seq", (start, head),
        ).fetchall()  # fmt: skip
    assert [e.id for e in reader.events[: len(rows)]] == [f"{t.upper()}-{epoch}-{at}" for at, epoch, t in rows]
    assert pair.standby


def test_stream_ends_cleanly_when_the_replica_is_told_to_stop(pair: RunningPair) -> None:
    standby = pair.standby
    with Reader(standby, headers=bearer("viewer")) as reader:
        until(lambda: reader.comments, "the stream is open")
        started = time.monotonic()
        os.kill(ask(standby, "GET", "/health").json["pid"], signal.SIGTERM)
        until(lambda: reader.ended, "the end of the stream")
        assert reader.ended == "cleanly"
        assert time.monotonic() - started < 5
    assert pair.standby
    assert seq(pair.standby) > 0
