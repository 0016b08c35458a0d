"""The interface to the letter, against one real pair: each answer, each body field by field, and nothing written by a refusal."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import psycopg
import pytest

from engine.reference import cluster_tag, order_id
from tests.integration.pair_fixture import Answer, RunningPair, ask, running_pair, until

SECRET = "integration-" * 4
ORDERS = "/api/v1/orders"
RESTING = {"symbol": "IBM", "side": "BUY", "quantity": "10", "order_type": "LMT", "limit_price": "1.00"}
"""Far below the market: taken by the broker, never filled."""

_numbers = count(1)


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    settings = {
        "API_SECRET_KEY": SECRET, "MAX_ORDER_QUANTITY": "5000", "ACK_TIMEOUT": "1", "ACK_DEADLINE": "2", "ORDER_RATE": "0",
        "ORDER_RATE_PER_SYMBOL": "0",
    }  # fmt: skip
    with running_pair(**settings) as made:
        yield made


def bearer(role: str = "trader", subject: str = "s1") -> dict[str, str]:
    claims = {"sub": subject, "role": role, "exp": 4_000_000_000}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


def call(url: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    return ask(url, method, path, body, bearer() if headers is None else headers)


def key(name: str = "k") -> str:
    return f"{name}-{next(_numbers):06d}"


def body(**fields: object) -> dict[str, object]:
    return {"client_order_id": key(), **RESTING, **fields}


def seq(url: str) -> int:
    return int(ask(url, "GET", "/health").json["database"]["seq"])


def quiet(url: str) -> int:
    """The ledger's seq, once nothing moves it any more."""

    def same() -> int:
        before = seq(url)
        time.sleep(0.15)
        return before if seq(url) == before else 0

    return until(same, "a ledger that stands still")


def one(url: str, oid: str) -> dict[str, Any]:
    answer = call(url, "GET", f"{ORDERS}/{oid}")
    assert answer.status == 200, answer
    return dict(answer.json)


def in_state(url: str, oid: str, state: str) -> dict[str, Any]:
    return until(lambda: (order := one(url, oid))["state"] == state and order, f"order {oid} {state}")


TEXT, WHOLE, FLAG = str, int, bool
DECIMAL = re.compile(r"-?\d+(\.\d{1,8})?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def shaped(found: Mapping[str, Any], shape: Mapping[str, object]) -> None:
    """Each field of the interface is there and of its kind: a type, a pattern of text, or a tuple of what may be."""
    for name, kind in shape.items():
        assert name in found, f"{name} is missing in {found}"
        kinds = kind if isinstance(kind, tuple) else (kind,)
        assert any(_is(found[name], k) for k in kinds), f"{name} is {found[name]!r}"


def _is(value: object, kind: object) -> bool:
    if kind is None:
        return value is None
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    return type(value) is kind


ORDER_SHAPE = {
    "id": re.compile("[A-Z2-7]{16}"), "client_order_id": TEXT, "state": TEXT, "reason": (TEXT, None), "symbol": TEXT, "side": TEXT,
    "quantity": DECIMAL, "filled": DECIMAL, "remaining": DECIMAL, "average_price": (DECIMAL, None), "order_type": TEXT,
    "limit_price": (DECIMAL, None), "tif": TEXT, "perm_id": (WHOLE, None), "broker_order_id": (WHOLE, None),
    "cancel_requested": FLAG, "revision": WHOLE, "epoch": WHOLE, "seq": WHOLE, "subject": TEXT, "correlation_id": TEXT,
    "sent_at": (TIME, None), "acknowledged_at": (TIME, None), "created_at": TIME, "updated_at": TIME,
}  # fmt: skip


# ---- POST


def test_accepted_order_is_201_with_the_order_and_where_it_is(pair: RunningPair) -> None:
    sent = body()
    answer = call(pair.leader, "POST", ORDERS, sent)
    order = answer.json
    assert answer.status == 201
    assert answer.headers["location"] == f"{ORDERS}/{order['id']}"
    assert order["id"] == order_id("local", "s1", str(sent["client_order_id"]))
    assert order["state"] in ("SENDING", "WORKING")
    assert (order["subject"], order["quantity"], order["limit_price"], order["tif"]) == ("s1", "10", "1.00", "DAY")
    assert (order["filled"], order["remaining"], order["average_price"], order["revision"]) == ("0", "10", None, 1)
    shaped(order, ORDER_SHAPE)
    working = in_state(pair.leader, order["id"], "WORKING")
    shaped(working, {**ORDER_SHAPE, "perm_id": WHOLE, "broker_order_id": WHOLE, "acknowledged_at": TIME, "sent_at": TIME})
    assert order["created_at"] <= working["sent_at"] <= working["acknowledged_at"] <= working["updated_at"]
    [entry] = [e for e in pair.journal(order["id"]) if e["kind"] == "order"]
    assert entry["order_ref"] == f"pa.{cluster_tag('local')}.{order['epoch']}.{order['id']}"
    assert (entry["perm_id"], entry["order_id"]) == (working["perm_id"], working["broker_order_id"])


@pytest.mark.rule(37)
def test_same_key_and_body_is_200_with_the_same_order(pair: RunningPair) -> None:
    sent = body()
    first = call(pair.leader, "POST", ORDERS, sent)
    for spelling in (sent, {**sent, "quantity": "10.00"}, {**sent, "quantity": 10, "account": None}):
        again = call(pair.leader, "POST", ORDERS, spelling)
        assert (again.status, again.json["id"]) == (200, first.json["id"])
    quiet(pair.leader)
    assert len([e for e in pair.journal(first.json["id"]) if e["kind"] == "order"]) == 1


@pytest.mark.rule(37)
def test_same_key_and_another_body_is_409_and_nothing_is_written(pair: RunningPair) -> None:
    sent = body()
    call(pair.leader, "POST", ORDERS, sent)
    before = quiet(pair.leader)
    for change in ({"quantity": "11"}, {"side": "SELL"}, {"tif": "GTC"}):
        answer = call(pair.leader, "POST", ORDERS, sent | change)
        assert (answer.status, answer.problem, answer.fields) == (409, "key-reused", {"client_order_id"})
    assert seq(pair.leader) == before


@pytest.mark.rule(37)
def test_key_belongs_to_its_subject(pair: RunningPair) -> None:
    sent = body()
    mine = call(pair.leader, "POST", ORDERS, sent, bearer(subject="s1"))
    theirs = call(pair.leader, "POST", ORDERS, sent, bearer(subject="s2"))
    assert (mine.status, theirs.status) == (201, 201)
    assert mine.json["id"] != theirs.json["id"]


@pytest.mark.guarantee(4)
def test_same_key_at_the_same_time_at_both_replicas_is_one_order(pair: RunningPair) -> None:
    sent, leader, standby = body(), pair.leader, pair.standby
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: call((leader, standby)[i % 2], "POST", ORDERS, sent), range(12)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(201) == 1
    assert set(statuses) <= {200, 201, 307}
    quiet(leader)
    [oid] = {answer.json["id"] for answer in answers if answer.status != 307}
    assert len([e for e in pair.journal(oid) if e["kind"] == "order"]) == 1


def test_wait_answers_after_the_first_evidence(pair: RunningPair) -> None:
    answer = call(pair.leader, "POST", f"{ORDERS}?wait=working&timeout_ms=5000", body())
    assert (answer.status, answer.json["state"]) == (201, "WORKING")


def test_wait_ends_as_usual_when_its_time_is_up(pair: RunningPair) -> None:
    pair.control("POST", "/faults/delay", {"ms": 600})
    try:
        answer = call(pair.leader, "POST", f"{ORDERS}?wait=working&timeout_ms=100", body())
        assert (answer.status, answer.json["state"]) == (201, "SENDING")
    finally:
        pair.control("DELETE", "/faults/delay")
    in_state(pair.leader, answer.json["id"], "WORKING")


def test_correlation_id_stands_in_the_order_and_in_its_events(pair: RunningPair) -> None:
    made = call(pair.leader, "POST", ORDERS, body(), {**bearer(), "X-Correlation-ID": "desk:run-7"})
    assert (made.headers["x-correlation-id"], made.json["correlation_id"]) == ("desk:run-7", "desk:run-7")
    in_state(pair.leader, made.json["id"], "WORKING")
    with psycopg.connect(pair.pair.info()["database_url"]) as db:
        rows = db.execute("SELECT event_type, user_id FROM ledger.event WHERE correlation_id = 'desk:run-7' ORDER BY seq").fetchall()
    assert rows == [("order_accepted", "s1"), ("order_working", "s1")]


# ---- refusals write nothing

REFUSED: list[tuple[str, object, int, str, set[str]]] = [
    ("not JSON", b"{", 400, "malformed", set()),
    ("NaN", b'{"quantity": NaN}', 400, "malformed", set()),
    ("not UTF-8", b'{"symbol": "\xff"}', 400, "malformed", set()),
    ("deep", b"[" * 30_000, 400, "malformed", set()),
    ("a name twice", b'{"quantity": "1", "quantity": "2"}', 400, "malformed", set()),
    ("too large", b'"' + b"x" * 70_000 + b'"', 413, "too-large", set()),
    ("an array", [RESTING], 422, "invalid-order", {"body"}),
    ("no key", RESTING, 422, "invalid-order", {"client_order_id"}),
    ("unknown field", body(limitprice="1"), 422, "invalid-order", {"limitprice"}),
    ("known, not served", body(oca_group="g"), 422, "invalid-order", {"oca_group"}),
    ("known type, not served", body(order_type="MOC", limit_price=None), 422, "invalid-order", {"order_type"}),
    ("NUL", body(client_order_id="a\x00b"), 422, "invalid-order", {"client_order_id"}),
    ("NUL in the account", body(account="DU\x00"), 422, "invalid-order", {"account"}),
    ("a float", body(quantity=10.5), 422, "invalid-order", {"quantity"}),
    ("huge", body(quantity=10**300), 422, "invalid-order", {"quantity"}),
    ("several", body(side="HOLD", quantity="0", tif="X"), 422, "invalid-order", {"side", "quantity", "tif"}),
    ("no price", body(limit_price=None), 422, "invalid-order", {"limit_price"}),
    ("passed already", body(valid_until="2020-01-31T15:00:00Z"), 422, "invalid-order", {"valid_until"}),
    ("above the limit", body(quantity="5001"), 422, "risk-limit", {"quantity"}),
]


@pytest.mark.parametrize(("sent", "status", "kind", "fields"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_order_names_its_fields_and_nothing_is_written(
    pair: RunningPair, sent: object, status: int, kind: str, fields: set[str]
) -> None:
    before = quiet(pair.leader)
    answer = call(pair.leader, "POST", ORDERS, sent)
    assert (answer.status, answer.problem, answer.fields) == (status, kind, fields)
    assert seq(pair.leader) == before


def test_limit_is_named_in_its_refusal(pair: RunningPair) -> None:
    answer = call(pair.leader, "POST", ORDERS, body(quantity="5001"))
    assert "MAX_ORDER_QUANTITY 5000" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [("?wait=filled", "wait"), ("?wait=working&timeout_ms=x", "timeout_ms"), ("?wait=working&timeout_ms=9999999", "timeout_ms")],
)
def test_wrong_query_of_a_post_is_refused_before_anything_is_written(pair: RunningPair, path: str, field: str) -> None:
    before = quiet(pair.leader)
    answer = call(pair.leader, "POST", ORDERS + path, body())
    assert (answer.status, answer.fields) == (422, {field})
    assert seq(pair.leader) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ORDERS), ("DELETE", f"{ORDERS}/X"), ("GET", ORDERS), ("GET", f"{ORDERS}/X"), ("GET", "/api/v1/executions"),
     ("GET", "/api/v1/positions"), ("GET", "/api/v1/breaks"), ("GET", "/api/v1/cluster"), ("GET", "/api/v1/history"),
     ("POST", f"{ORDERS}/batch"), ("PATCH", f"{ORDERS}/X")],
)  # fmt: skip
def test_every_path_of_the_api_wants_a_token_at_both_replicas(pair: RunningPair, method: str, path: str) -> None:
    before = quiet(pair.leader)
    for url in (pair.leader, pair.standby):
        answer = call(url, method, path, body() if method == "POST" else None, {})
        assert (answer.status, answer.problem) == (401, "unauthorized")
    assert seq(pair.leader) == before


@pytest.mark.parametrize(("method", "path"), [("POST", ORDERS), ("DELETE", f"{ORDERS}/X"), ("PATCH", f"{ORDERS}/X")])
def test_viewer_reads_and_changes_nothing(pair: RunningPair, method: str, path: str) -> None:
    before = quiet(pair.leader)
    answer = call(pair.leader, method, path, body() if method == "POST" else None, bearer("viewer"))
    assert (answer.status, answer.problem) == (403, "role")
    assert call(pair.leader, "GET", ORDERS, None, bearer("viewer")).status == 200
    assert seq(pair.leader) == before


@pytest.mark.parametrize(("method", "path"), [("POST", f"{ORDERS}/batch"), ("PATCH", f"{ORDERS}/AAAAAAAAAAAAAAAA")])
def test_what_is_not_served_yet_says_so(pair: RunningPair, method: str, path: str) -> None:
    answer = call(pair.leader, method, path, {})
    assert (answer.status, answer.problem) == (422, "not-served-yet")


# ---- the standby


@pytest.mark.rule(35)
def test_standby_redirects_an_order_with_one_hop(pair: RunningPair) -> None:
    leader, standby = pair.leader, pair.standby
    before = quiet(leader)
    answer = call(standby, "POST", f"{ORDERS}?wait=working", body())
    assert (answer.status, answer.content) == (307, b"")
    there = urlsplit(answer.headers["location"])
    assert f"{there.scheme}://{there.netloc}" == leader
    assert (there.path, parse_qs(there.query)) == (ORDERS, {"wait": ["working"], "hop": ["1"]})
    assert seq(leader) == before


@pytest.mark.rule(35)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{ORDERS}?hop=1"), ("DELETE", f"{ORDERS}/AAAAAAAAAAAAAAAA?hop=1"), ("GET", f"{ORDERS}/AAAAAAAAAAAAAAAA?hop=1"),
     ("GET", f"{ORDERS}?client_order_id=none&hop=1")],
)  # fmt: skip
def test_second_hop_is_503_and_not_a_circle(pair: RunningPair, method: str, path: str) -> None:
    answer = call(pair.standby, method, path, body() if method == "POST" else None)
    assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "not-leader", "1")


@pytest.mark.rule(36)
def test_standby_answers_a_known_key_itself(pair: RunningPair) -> None:
    sent = body()
    made = call(pair.leader, "POST", ORDERS, sent)
    standby = pair.standby
    until(lambda: seq(standby) >= made.json["seq"], "the standby's book")
    again = call(standby, "POST", ORDERS, sent)
    assert (again.status, again.json["id"], again.headers["adapter-role"]) == (200, made.json["id"], "standby")
    assert call(standby, "POST", f"{ORDERS}?hop=1", sent).status == 200, "whatever brought the client here"
    answer = call(standby, "POST", ORDERS, sent | {"quantity": "11"})
    assert (answer.status, answer.problem) == (409, "key-reused")


@pytest.mark.rule(36)
@pytest.mark.parametrize(
    ("path", "there"),
    [(f"{ORDERS}/AAAAAAAAAAAAAAAA", f"{ORDERS}/AAAAAAAAAAAAAAAA?hop=1"), (f"{ORDERS}?client_order_id=none", f"{ORDERS}?client_order_id=none&hop=1"),
     (f"{ORDERS}/%0d%0aSet-Cookie:x", f"{ORDERS}/%0D%0ASet-Cookie%3Ax?hop=1")],
)  # fmt: skip
def test_standby_never_says_that_an_order_is_not_there(pair: RunningPair, path: str, there: str) -> None:
    answer = call(pair.standby, "GET", path)
    assert (answer.status, answer.headers["location"]) == (307, pair.leader + there)
    assert "set-cookie" not in answer.headers
    at_the_leader = call(pair.leader, "GET", there)
    assert at_the_leader.status == 404 or at_the_leader.json["orders"] == []


@pytest.mark.guarantee(8)
def test_both_replicas_read_the_same(pair: RunningPair) -> None:
    at = quiet(pair.leader)
    until(lambda: seq(pair.standby) == at, "the standby's book")
    for path in (f"{ORDERS}?limit=1000", "/api/v1/executions", "/api/v1/breaks", "/api/v1/history"):
        ours, theirs = call(pair.leader, "GET", path), call(pair.standby, "GET", path)
        assert (ours.status, theirs.status) == (200, 200)
        assert ours.json == theirs.json
    ours, theirs = (ask(url, "GET", "/health").json["tail"] for url in (pair.leader, pair.standby))
    assert (ours["seq"], ours["digest"]) == (theirs["seq"], theirs["digest"])
