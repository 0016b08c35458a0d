"""The client against scripted replicas: real HTTP on loopback, each answer decided by the test."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from adapter_client import (
    AdapterClient,
    Attempt,
    Conflict,
    Invalid,
    Kind,
    NotAccepted,
    NotFound,
    NotPermitted,
    OrderRequest,
    OutcomeUnknown,
    RevisionPassed,
    Unavailable,
    UnreadableAnswer,
)
from adapter_client.outcome import FIRST_WAIT, LONGEST_WAIT, Backoff, classify, read_retry_after
from adapter_client.transport import _onward
from aiohttp import web
from yarl import URL

from tests.unit.scripted_replica import (
    ORDER,
    Answer,
    Replica,
    a_free_port,
    accepted,
    answer,
    drop_after_reading,
    listening,
    problem,
    redirect,
    stay_silent,
)

BUY = OrderRequest(
    symbol="AAPL",
    side="BUY",
    quantity=Decimal(10),
    order_type="LMT",
    limit_price=Decimal("190.50"),
    client_order_id="s1-000001",
)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Replica, Replica]]:
    async with listening(Replica()) as a, listening(Replica()) as b:
        yield a, b


@asynccontextmanager
async def client_of(*replicas: Replica, **options: Any) -> AsyncIterator[AdapterClient]:
    urls = [replica.url for replica in replicas]
    settings: dict[str, Any] = {"timeout": 3.0, "attempt_timeout": 0.5, "rng": random.Random(1)} | options
    async with AdapterClient(urls, **settings) as client:
        yield client


# --- what an answer becomes


async def test_an_accepted_order_comes_back_typed_with_decimals_and_utc(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [accepted()]
    async with client_of(a, b, token="secret") as client:
        order = await client.place(BUY)
    assert (order.quantity, order.filled, order.average_price) == (Decimal(10), Decimal(4), Decimal("190.48"))
    assert order.limit_price == Decimal("190.50")
    assert order.sent_at == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert order.acknowledged_at is None
    assert not order.final
    assert a.seen[0].authorization == "Bearer secret"
    assert a.seen[0].body == {
        "client_order_id": "s1-000001",
        "symbol": "AAPL",
        "side": "BUY",
        "quantity": "10",
        "order_type": "LMT",
        "limit_price": "190.50",
    }
    assert b.seen == []


async def test_a_refusal_is_typed_and_carries_the_problem(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [problem(422, "urn:adapter:invalid", errors=[{"field": "quantity", "message": "must be above 0"}])]
    async with client_of(a, b) as client:
        with pytest.raises(Invalid) as caught:
            await client.place(BUY)
    assert caught.value.problem.type == "urn:adapter:invalid"
    assert [(e.field, e.message) for e in caught.value.problem.errors] == [("quantity", "must be above 0")]
    assert "quantity: must be above 0" in str(caught.value)
    assert len(a.seen) == 1
    assert b.seen == []


@pytest.mark.parametrize(("status", "error"), [(401, NotPermitted), (403, NotPermitted), (409, Conflict)])
async def test_each_refusal_has_its_error(pair: tuple[Replica, Replica], status: int, error: type[Exception]) -> None:
    a, b = pair
    a.answers = [problem(status)]
    async with client_of(a, b) as client:
        with pytest.raises(error):
            await client.place(BUY)


async def test_an_answer_that_lacks_a_promised_field_is_unreadable_and_names_it(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [answer(201, {key: value for key, value in ORDER.items() if key != "quantity"})]
    async with client_of(a, b) as client:
        with pytest.raises(UnreadableAnswer, match="quantity"):
            await client.place(BUY)


# --- redirects


@pytest.mark.rule(35)
async def test_a_redirect_is_followed_with_method_body_and_token_and_its_target_is_asked_first_from_then_on(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    a.answers = [redirect(b)]
    b.answers = [accepted()]
    async with client_of(a, b, token="secret") as client:
        await client.place(BUY)
        assert client.leader == b.url
        await client.place(BUY)
    assert len(a.seen) == 1
    assert len(b.seen) == 2
    assert b.seen[0].method == "POST"
    assert b.seen[0].query == {"hop": "1"}
    assert b.seen[0].authorization == "Bearer secret"
    assert b.seen[0].body == a.seen[0].body


@pytest.mark.rule(35)
async def test_replicas_that_redirect_to_each_other_are_never_followed_in_a_circle(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    a.answers = [redirect(b)]
    b.answers = [redirect(a)]
    steps: list[Attempt] = []
    async with client_of(a, b, timeout=0.4, observer=steps.append) as client:
        with pytest.raises(NotAccepted, match="redirected twice"):
            await client.place(BUY)
    starts = [step.number for step in steps if step.kind is Kind.INVOKE]
    assert starts
    assert all(len(list(group)) <= 2 for _, group in itertools.groupby(starts))


async def test_a_token_does_not_follow_a_redirect_from_https_to_http() -> None:
    assert _onward(URL("https://a:1/x"), "http://b:1/x") is None
    assert _onward(URL("https://a:1/x"), "https://b:1/x?hop=1") == URL("https://b:1/x?hop=1")
    assert _onward(URL("http://a:1/x"), None) is None
    assert _onward(URL("http://a:1/x"), "ftp://b/x") is None


async def test_a_redirect_to_a_leader_that_is_gone_sends_the_order_round_again(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    gone = Replica(url=await a_free_port())
    a.answers = [redirect(gone)]
    b.answers = [accepted()]
    async with client_of(a, b) as client:
        order = await client.place(BUY)
    assert order.client_order_id == "s1-000001"


# --- repeating


async def test_a_replica_that_is_not_ready_hands_the_same_key_to_the_other_without_waiting_its_retry_after(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    a.answers = [problem(503, retry_after="5")]
    b.answers = [accepted()]
    started = time.monotonic()
    async with client_of(a, b) as client:
        await client.place(BUY)
    assert time.monotonic() - started < 2.0
    assert a.seen[0].body == b.seen[0].body


@pytest.mark.guarantee(4)
@pytest.mark.parametrize("broken", [drop_after_reading, answer(504), answer(500), stay_silent])
async def test_an_attempt_of_unknown_outcome_is_repeated_with_the_same_key_and_body(
    pair: tuple[Replica, Replica], broken: Answer
) -> None:
    a, b = pair
    a.answers = [broken]
    b.answers = [accepted(200)]
    async with client_of(a, b) as client:
        await client.place(OrderRequest(symbol="AAPL", side="SELL", quantity=Decimal("1.5")))
    assert a.seen[0].body == b.seen[0].body
    assert a.seen[0].body["client_order_id"]


async def test_a_key_is_made_for_each_order_that_has_none(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [accepted()]
    request = OrderRequest(symbol="AAPL", side="BUY", quantity=Decimal(1))
    async with client_of(a, b) as client:
        first, second = await client.place(request), await client.place(request)
    assert first.client_order_id != second.client_order_id


async def test_a_replica_that_stays_silent_is_not_asked_first_again_even_by_calls_shorter_than_its_silence(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    a.answers = [stay_silent]
    b.answers = [accepted()]
    async with client_of(a, b) as client:
        with pytest.raises(OutcomeUnknown):
            await client.place(BUY, timeout=0.1)
        order = await client.place(BUY, timeout=1.0)
    assert order.client_order_id == "s1-000001"
    assert len(a.seen) == 1


async def test_a_rate_limit_is_waited_out_at_the_same_replica(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [problem(429, retry_after="0.4"), accepted()]
    started = time.monotonic()
    async with client_of(a, b) as client:
        await client.place(BUY)
    assert time.monotonic() - started >= 0.4
    assert len(a.seen) == 2
    assert b.seen == []


async def test_a_held_contract_is_asked_for_again_at_the_leader_and_not_before_it_says(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    a.answers = [problem(503, "urn:adapter:held", retry_after="0.4"), accepted()]
    started = time.monotonic()
    async with client_of(a, b) as client:
        await client.place(BUY)
        assert client.leader == a.url
    assert time.monotonic() - started >= 0.4
    assert b.seen == []


async def test_no_attempt_is_begun_that_has_no_time_left_to_be_answered(pair: tuple[Replica, Replica]) -> None:
    a, b = pair

    async def slow_no(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        return web.json_response({}, status=503)

    a.answers = b.answers = [slow_no]
    async with client_of(a, b) as client:
        for _ in range(5):
            with pytest.raises(NotAccepted):
                await client.place(BUY, timeout=0.6)


# --- deadlines: never mix unknown with refused


async def test_nobody_ready_until_the_deadline_is_not_accepted(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [problem(503, "urn:adapter:no-leader")]
    b.answers = [redirect(a)]
    async with client_of(a, b, timeout=0.4) as client:
        with pytest.raises(NotAccepted) as caught:
            await client.place(BUY)
    assert caught.value.key == "s1-000001"
    assert caught.value.attempts > 2
    assert len(b.seen) > 0


async def test_nobody_listening_is_not_accepted() -> None:
    urls = [await a_free_port(), await a_free_port()]
    async with AdapterClient(urls, timeout=0.3) as client:
        with pytest.raises(NotAccepted):
            await client.place(BUY)


@pytest.mark.parametrize("broken", [drop_after_reading, answer(504), answer(500), stay_silent, answer(201, [])])
async def test_one_unknown_attempt_makes_the_outcome_unknown_whatever_the_later_ones_say(
    pair: tuple[Replica, Replica], broken: Answer
) -> None:
    a, b = pair
    a.answers = [broken, problem(503)]
    b.answers = [problem(503)]
    async with client_of(a, b, timeout=0.5, attempt_timeout=0.2) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.place(BUY)
    assert caught.value.key == "s1-000001"


@pytest.mark.parametrize("status", [400, 401, 403, 422])
async def test_a_refusal_after_an_unknown_attempt_proves_nothing_about_it(
    pair: tuple[Replica, Replica], status: int
) -> None:
    a, b = pair
    a.answers = [answer(504)]
    b.answers = [problem(status)]
    async with client_of(a, b) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.place(BUY)
    assert str(status) in str(caught.value)


async def test_a_key_taken_by_another_body_is_a_conflict_even_after_an_unknown_attempt(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    a.answers = [answer(504)]
    b.answers = [problem(409)]
    async with client_of(a, b) as client:
        with pytest.raises(Conflict):
            await client.place(BUY)


# --- cancel, modify


async def test_a_cancel_returns_the_order_and_a_final_one_is_a_conflict(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [answer(202, ORDER | {"cancel_requested": True}), problem(409)]
    async with client_of(a, b) as client:
        assert (await client.cancel("ABC/D")).cancel_requested
        with pytest.raises(Conflict):
            await client.cancel("ABC")
    assert a.seen[0].method == "DELETE"
    assert a.seen[0].path == "/api/v1/orders/ABC/D"


async def test_a_cancel_answered_without_the_order_reads_it(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [answer(202, {}), answer(200, ORDER | {"state": "CANCELLED"})]
    async with client_of(a, b) as client:
        assert (await client.cancel("ABC")).final


@pytest.mark.rule(7)
async def test_a_modify_carries_its_revision_and_a_passed_one_is_told_apart(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [answer(202, ORDER | {"revision": 2}), problem(412)]
    async with client_of(a, b) as client:
        assert (await client.modify("ABC", revision=1, limit_price=Decimal("191.10"))).revision == 2
        with pytest.raises(RevisionPassed):
            await client.modify("ABC", revision=1, quantity=Decimal(3))
    assert (a.seen[0].method, a.seen[0].body) == ("PATCH", {"revision": 1, "limit_price": "191.10"})


async def test_a_passed_revision_after_an_unknown_attempt_may_be_our_own_change(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [answer(504)]
    b.answers = [problem(412)]
    async with client_of(a, b) as client:
        with pytest.raises(OutcomeUnknown):
            await client.modify("ABC", revision=1, quantity=Decimal(3))


# --- reads


async def test_a_read_is_answered_by_the_other_replica_when_the_first_is_gone(pair: tuple[Replica, Replica]) -> None:
    _, b = pair
    b.answers = [answer(200, {"positions": [{"account": "DU1", "symbol": "AAPL", "quantity": "-3"}]})]
    async with AdapterClient([await a_free_port(), b.url], timeout=2.0) as client:
        positions = await client.positions()
    assert [(p.symbol, p.quantity, p.break_id) for p in positions] == [("AAPL", Decimal(-3), None)]


async def test_a_list_is_read_to_its_last_page(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [
        answer(200, {"orders": [ORDER], "next": 7}),
        answer(200, {"orders": [ORDER | {"id": "B"}], "next": None}),
    ]
    async with client_of(a, b) as client:
        orders = await client.orders(state="WORKING")
    assert [order.id for order in orders] == ["ABCDEFGHIJKLMNOP", "B"]
    assert a.seen[1].query["after"] == "7"
    assert a.seen[1].query["state"] == "WORKING"


async def test_a_list_whose_pages_do_not_advance_is_not_read_for_ever(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [answer(200, {"orders": [ORDER], "next": 7})]
    async with client_of(a, b) as client:
        with pytest.raises(UnreadableAnswer):
            await client.orders()


async def test_an_order_that_the_leader_does_not_have_is_not_found(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = [problem(404)]
    async with client_of(a, b) as client:
        with pytest.raises(NotFound):
            await client.order("ABC")


async def test_a_read_that_nobody_answers_is_unavailable(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    a.answers = b.answers = [problem(503)]
    async with client_of(a, b, timeout=0.3) as client:
        with pytest.raises(Unavailable):
            await client.breaks()


async def test_executions_breaks_history_and_cluster_are_read(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    execution = {"exec_id": "x.01", "order_id": "A", "symbol": "AAPL", "side": "BUY", "quantity": "2", "price": "1.5"}
    a.answers = [
        answer(200, {"executions": [execution]}),
        answer(200, {"breaks": [{"id": 3, "kind": "in_doubt", "order_id": "A", "resolved_at": None}]}),
        answer(200, {"history": [{"epoch": 2, "kind": "failover"}]}),
        answer(200, {"leader": "a", "epoch": 2}),
    ]
    async with client_of(a, b) as client:
        assert [(e.price, e.commission) for e in await client.executions()] == [(Decimal("1.5"), None)]
        assert [(entry.id, entry.open) for entry in await client.breaks()] == [("3", True)]
        assert (await client.history())[0]["epoch"] == 2
        assert (await client.cluster())["leader"] == "a"


async def test_health_gives_the_body_whatever_its_code_and_none_for_a_dead_replica(
    pair: tuple[Replica, Replica],
) -> None:
    a, _ = pair
    a.answers = [answer(429, {"role": "standby"})]
    dead = await a_free_port()
    async with AdapterClient([a.url, dead], timeout=1.0) as client:
        assert await client.health() == {a.url: {"role": "standby"}, dead: None}


# --- observer, outcome


async def test_the_observer_sees_every_attempt_begin_before_it_is_sent_and_end(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    steps: list[Attempt] = []
    a.answers = [drop_after_reading]
    b.answers = [redirect(a), accepted()]
    async with client_of(a, b, observer=steps.append) as client:
        await client.place(BUY)
    kinds = [step.kind for step in steps]
    assert kinds[:2] == [Kind.INVOKE, Kind.UNKNOWN]
    assert kinds[::2] == [Kind.INVOKE] * (len(kinds) // 2)
    assert kinds[3] is Kind.REDIRECT
    assert kinds[-1] is Kind.OK
    assert {step.key for step in steps} == {"s1-000001"}
    assert steps[0].url == a.url


def test_only_what_is_known_to_have_written_nothing_counts_as_such() -> None:
    assert {status for status in range(100, 600) if classify(status) is Kind.UNAVAILABLE} == {503}
    assert {status for status in range(100, 600) if classify(status) is Kind.OK} == {200, 201, 202}
    unknown = {status for status in range(500, 600) if classify(status) is Kind.UNKNOWN}
    assert unknown == set(range(500, 600)) - {503}


def test_waits_grow_and_stay_below_their_ceiling() -> None:
    backoff = Backoff(random.Random(3))
    attempt = Attempt(op="place", key="k", number=1, url="u", kind=Kind.UNAVAILABLE, retry_after=5.0)
    waits = [backoff.after(attempt) for _ in range(20)]
    assert FIRST_WAIT / 2 <= waits[0] <= FIRST_WAIT
    assert LONGEST_WAIT / 2 <= waits[-1] <= LONGEST_WAIT


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert read_retry_after("1.5", now) == 1.5
    assert read_retry_after("Thu, 01 Jan 2026 00:00:07 GMT", now) == 7.0
    assert read_retry_after("soon", now) is None
    assert read_retry_after(None, now) is None


def test_a_time_is_sent_in_utc_and_one_without_a_zone_is_not_sent() -> None:
    until = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=1)))
    request = OrderRequest(symbol="A", side="BUY", quantity=Decimal("1E+2"), valid_until=until)
    assert request.body()["valid_until"] == "2026-01-01T00:00:00.000000+00:00"
    assert request.body()["quantity"] == "100"
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="zone"):
        OrderRequest(symbol="A", side="BUY", quantity=Decimal(1), valid_until=naive).body()
