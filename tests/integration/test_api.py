"""The interface to the letter, against one real pair: each answer, each body field by field, and nothing written by a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest

from engine.reference import cluster_tag, order_id
from tests.integration.api_calls import (
    DECIMAL,
    FLAG,
    ORDER_SHAPE,
    ORDERS,
    RESTING,
    SECRET,
    TEXT,
    TIME,
    WHOLE,
    bearer,
    body,
    call,
    in_state,
    one,
    quiet,
    seq,
    shaped,
)
from tests.integration.pair_fixture import Answer, RunningPair, ask, running_pair, until


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    settings = {
        "API_SECRET_KEY": SECRET, "MAX_ORDER_QUANTITY": "5000", "ACK_TIMEOUT": "1", "ACK_DEADLINE": "2", "RECONCILE_EVERY": "5",
        "ORDER_RATE": "0", "ORDER_RATE_PER_SYMBOL": "0",
    }  # fmt: skip
    with running_pair(**settings) as made:
        yield made


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
    shaped(
        working, {**ORDER_SHAPE, "perm_id": WHOLE, "broker_order_id": WHOLE, "acknowledged_at": TIME, "sent_at": TIME}
    )
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
        rows = db.execute(
            "SELECT event_type, user_id FROM ledger.event WHERE correlation_id = 'desk:run-7' ORDER BY seq"
        ).fetchall()
    assert (rows[0], set(rows[1:])) == (("order_accepted", "s1"), {("order_working", "s1")})


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
    ("a parent that nobody knows", body(parent_client_order_id="p"), 422, "invalid-order", {"parent_client_order_id"}),
    ("unknown at IB", body(symbol="NOSUCH"), 422, "invalid-order", {"symbol"}),
    ("unknown conId", body(symbol=None, con_id=1), 422, "invalid-order", {"con_id"}),
    ("off the tick", body(limit_price="1.005"), 422, "invalid-order", {"limit_price"}),
    ("good till the past", body(tif="GTD", good_till="2020-01-31T15:00:00Z"), 422, "invalid-order", {"good_till"}),
    ("NUL", body(client_order_id="a\x00b"), 422, "invalid-order", {"client_order_id"}),
    ("NUL in the account", body(account="DU\x00"), 422, "invalid-order", {"account"}),
    ("a float", body(quantity=10.5), 422, "invalid-order", {"quantity"}),
    ("huge", body(quantity=10**300), 422, "invalid-order", {"quantity"}),
    ("several", body(side="HOLD", quantity="0", tif="X"), 422, "invalid-order", {"side", "quantity", "tif"}),
    ("no price", body(limit_price=None), 422, "invalid-order", {"limit_price"}),
    ("passed already", body(valid_until="2020-01-31T15:00:00Z"), 422, "invalid-order", {"valid_until"}),
    ("above the limit", body(quantity="5001"), 422, "risk-limit", {"quantity"}),
    *(
        (
            f"{name} {value!r}",
            body(order_type="STP LMT", **{"stop_price": "2.00", name: value}),
            422,
            "invalid-order",
            {name},
        )
        for name in ("quantity", "limit_price", "stop_price")
        for value in ("0", "-1", "1e30", "NaN", "Infinity", "", "1,5", 0, -1, 1.5, True, [])
    ),
    ("a bare NaN", b'{"client_order_id": "n", "quantity": NaN}', 400, "malformed", set()),
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
    [
        ("?wait=filled", "wait"),
        ("?wait=working&timeout_ms=x", "timeout_ms"),
        ("?wait=working&timeout_ms=9999999", "timeout_ms"),
    ],
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
     ("POST", f"{ORDERS}/batch"), ("PATCH", f"{ORDERS}/X"), ("GET", "/api/v1/events")],
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
    [(f"{ORDERS}/AAAAAAAAAAAAAAAA", f"{ORDERS}/AAAAAAAAAAAAAAAA?hop=1"),
     (f"{ORDERS}?client_order_id=none", f"{ORDERS}?client_order_id=none&hop=1"),
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


# ---- reads, field by field


def test_list_of_orders_is_paged_by_seq_and_filtered(pair: RunningPair) -> None:
    made = [call(pair.leader, "POST", f"{ORDERS}?wait=working", body(symbol="MSFT")).json for _ in range(3)]
    until(lambda: all(one(pair.leader, o["id"])["state"] == "WORKING" for o in made), "three resting orders")
    quiet(pair.leader)
    answer = call(pair.leader, "GET", f"{ORDERS}?symbol=MSFT&state=WORKING&limit=2")
    page = answer.json
    assert set(page) == {"orders", "next"}
    assert [o["id"] for o in page["orders"]] == [o["id"] for o in made[:2]]
    assert page["next"] == page["orders"][-1]["seq"]
    rest = call(pair.leader, "GET", f"{ORDERS}?symbol=MSFT&state=WORKING&after={page['next']}").json
    assert ([o["id"] for o in rest["orders"]], rest["next"]) == ([made[2]["id"]], None)
    found = call(
        pair.leader, "GET", f"{ORDERS}?state=&symbol=&after=&client_order_id={made[0]['client_order_id']}"
    ).json
    assert [o["id"] for o in found["orders"]] == [made[0]["id"]]
    for order in page["orders"]:
        shaped(order, ORDER_SHAPE)
    role, epoch, at = (answer.headers[f"adapter-{name}"] for name in ("role", "epoch", "seq"))
    assert (role, int(epoch), int(at)) == ("leader", page["orders"][0]["epoch"], seq(pair.leader))


@pytest.mark.parametrize(
    ("query", "field"),
    [("state=OPEN", "state"), ("state=working", "state"), ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=1e2", "limit"),
     ("after=-1", "after"), ("after=٣", "after"), ("after=99999999999999999999", "after")],
)  # fmt: skip
def test_wrong_query_names_its_parameter(pair: RunningPair, query: str, field: str) -> None:
    answer = call(pair.leader, "GET", f"{ORDERS}?{quote(query, safe='=&')}")
    assert (answer.status, answer.fields) == (422, {field})


def test_unknown_order_is_404_at_the_leader_only(pair: RunningPair) -> None:
    for method in ("GET", "DELETE"):
        answer = call(pair.leader, method, f"{ORDERS}/AAAAAAAAAAAAAAAA")
        assert (answer.status, answer.problem) == (404, "no-such-order")


@pytest.mark.guarantee(5)
def test_filled_order_its_execution_and_its_position(pair: RunningPair) -> None:
    made = call(pair.leader, "POST", ORDERS, body(symbol="AAPL", order_type="MKT", limit_price=None, quantity="7")).json
    order = in_state(pair.leader, made["id"], "FILLED")
    assert (order["filled"], order["remaining"], order["limit_price"]) == ("7", "0", None)
    shaped(order, {**ORDER_SHAPE, "average_price": DECIMAL, "perm_id": WHOLE})

    def booked() -> list[dict[str, object]]:
        page = call(pair.leader, "GET", "/api/v1/executions?limit=1000").json
        mine = [e for e in page["executions"] if e["order_id"] == made["id"]]
        return mine if mine and all(e["commission"] is not None for e in mine) else []

    executions = until(booked, "executions with their commission")
    assert sum(Decimal(str(e["quantity"])) for e in executions) == 7
    for execution in executions:
        shaped(execution, {
            "exec_id": TEXT, "order_id": TEXT, "client_order_id": TEXT, "symbol": TEXT, "side": TEXT, "quantity": DECIMAL,
            "price": DECIMAL, "account": TEXT, "exchange": TEXT, "perm_id": WHOLE, "commission": DECIMAL,
            "commission_currency": TEXT, "realized_pnl": (DECIMAL, None), "at": TIME, "revision": WHOLE, "seq": WHOLE,
        })  # fmt: skip
        assert (execution["client_order_id"], execution["perm_id"]) == (order["client_order_id"], order["perm_id"])
    made_there = {e["exec_id"] for e in pair.journal(made["id"]) if e["kind"] == "execution"}
    assert made_there == {e["exec_id"] for e in executions}
    [position] = [p for p in call(pair.leader, "GET", "/api/v1/positions").json["positions"] if p["symbol"] == "AAPL"]
    shaped(position, {
        "account": TEXT, "symbol": TEXT, "quantity": DECIMAL, "average_cost": DECIMAL, "broker_quantity": (DECIMAL, None),
        "break_id": (TEXT, None),
    })  # fmt: skip
    [there] = [p for p in pair.control("GET", "/positions")["positions"] if p["symbol"] == "AAPL"]
    assert Decimal(position["quantity"]) == Decimal(there["quantity"]) == 7


@pytest.mark.rule(7)
def test_cancel_is_202_and_an_ended_order_is_409(pair: RunningPair) -> None:
    made = call(pair.leader, "POST", f"{ORDERS}?wait=working", body()).json
    standby = call(pair.standby, "DELETE", f"{ORDERS}/{made['id']}")
    assert (standby.status, standby.headers["location"]) == (307, f"{pair.leader}{ORDERS}/{made['id']}?hop=1")
    answer = call(pair.leader, "DELETE", f"{ORDERS}/{made['id']}")
    assert (answer.status, answer.json["id"], answer.json["cancel_requested"]) == (202, made["id"], True)
    shaped(answer.json, ORDER_SHAPE)
    ended = in_state(pair.leader, made["id"], "CANCELLED")
    assert ended["reason"]
    [cancel] = [e for e in pair.journal(made["id"]) if e["kind"] == "cancel"]
    assert (cancel["order_id"], cancel["perm_id"]) == (ended["broker_order_id"], ended["perm_id"])
    again = call(pair.leader, "DELETE", f"{ORDERS}/{made['id']}")
    assert (again.status, again.problem) == (409, "order-final")


@pytest.mark.rule(7)
def test_change_is_202_and_true_when_the_broker_shows_it_and_an_older_revision_is_412(pair: RunningPair) -> None:
    oid = call(pair.leader, "POST", ORDERS, body()).json["id"]
    in_state(pair.leader, oid, "WORKING")
    path = f"{ORDERS}/{oid}"
    answer = call(pair.leader, "PATCH", path, {"revision": 1, "limit_price": "1.25", "quantity": "12"})
    assert answer.status == 202
    assert (answer.json["revision"], answer.json["asked"]) == (2, {"limit_price": "1.25", "quantity": "12"})
    changed = until(lambda: (o := one(pair.leader, oid))["limit_price"] == "1.25" and o, "the new price is shown")
    assert (changed["quantity"], changed["revision"], changed["asked"], changed["state"]) == ("12", 2, None, "WORKING")
    late = call(pair.leader, "PATCH", path, {"revision": 1, "limit_price": "1.10"})
    assert (late.status, late.problem) == (412, "revision-mismatch")
    kinds = [entry["kind"] for entry in pair.journal(oid)]
    assert (kinds.count("order"), kinds.count("modify")) == (1, 1)
    until(lambda: one(pair.standby, oid)["limit_price"] == "1.25", "the standby has it too")
    elsewhere = call(pair.standby, "PATCH", path, {"revision": 2, "limit_price": "1.30"})
    assert elsewhere.status == 307
    refused = call(pair.leader, "PATCH", path, {"revision": 2, "limit_price": "1.003"})
    assert (refused.status, refused.fields) == (422, {"limit_price"}), "the price is between two steps"
    left = one(pair.leader, oid)
    assert (left["state"], left["limit_price"], left["revision"], left["asked"]) == ("WORKING", "1.25", 2, None)


def test_order_that_the_broker_rejects_is_rejected_with_its_reason(pair: RunningPair) -> None:
    pair.control("POST", "/faults/reject", {"next": 1, "code": 201})
    made = call(pair.leader, "POST", ORDERS, body()).json
    assert in_state(pair.leader, made["id"], "REJECTED")["reason"]


HEALTH = {
    "status": TEXT, "role": TEXT, "state": TEXT, "name": TEXT, "instance": TEXT, "pid": WHOLE, "cluster": TEXT, "epoch": WHOLE,
    "term_started_at": (TIME, None), "lease_trust_ms": WHOLE, "gate": dict, "gateway": dict, "database": dict, "etcd": dict,
    "tail": dict, "breaks": WHOLE, "paused": FLAG, "halted": FLAG, "version": TEXT, "uptime_ms": WHOLE,
}  # fmt: skip


def test_health_of_both_replicas(pair: RunningPair) -> None:
    for url, status, role, state in (
        (pair.leader, 200, "leader", "LEADING"),
        (pair.standby, 429, "standby", "STANDBY"),
    ):
        for path in ("/health", "/api/v1/health"):
            answer = ask(url, "GET", path)
            found = answer.json
            assert answer.status == status, "probes need no token"
            shaped(found, HEALTH)
            shaped(found["gate"], {"open": FLAG, "reasons": list})
            shaped(found["gateway"], {"session": FLAG, "link": FLAG, "next_order_id": WHOLE})
            shaped(found["database"], {"reachable": FLAG, "seq": WHOLE})
            shaped(found["etcd"], {"reachable": FLAG, "members": WHOLE})
            shaped(found["tail"], {"seq": WHOLE, "lag_ms": WHOLE, "digest": TEXT})
            assert (found["status"], found["role"], found["state"]) == ("ok", role, state)
            assert found["gate"]["open"] is found["gateway"]["session"] is (role == "leader")
    assert {ask(url, "GET", "/health").json["pid"] for url in pair.urls()} == {r.pid for r in pair.pair.replicas}


def test_probes_for_load_balancers(pair: RunningPair) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        fine = 204 if method == "OPTIONS" else 200
        not_so = 204 if method == "OPTIONS" else 503
        for path, at_leader, at_standby in (
            ("/livez", fine, fine), ("/readyz", fine, fine), ("/leader", fine, not_so), ("/standby", not_so, fine),
            ("/standby?lag=10s", not_so, fine), ("/standby?lag=500ms", not_so, fine),
        ):  # fmt: skip
            found = ask(pair.leader, method, path).status, ask(pair.standby, method, path).status
            assert found == (at_leader, at_standby), (method, path)
    assert ask(pair.standby, "GET", "/standby?lag=0.0001ms").status == 503, "it is never that near"
    assert ask(pair.standby, "GET", "/standby?lag=soon").status == 400
    shaped(ask(pair.leader, "GET", "/readyz").json, {"ready": FLAG, "role": TEXT, "reasons": list})
    refused = ask(pair.standby, "GET", "/leader").json
    assert (refused["role"], refused["state"], bool(refused["reasons"])) == ("standby", "STANDBY", True)


def test_cluster_is_the_same_at_both_replicas(pair: RunningPair) -> None:
    leader = ask(pair.leader, "GET", "/health").json["name"]
    for url in (pair.leader, pair.standby):

        def complete(url: str = url) -> dict[str, Any] | None:
            found: dict[str, Any] = call(url, "GET", "/api/v1/cluster").json
            return found if [r["healthy"] for r in found["replicas"]] == [True, True] else None

        found = until(complete, "a cluster of two healthy replicas")
        assert call(url, "GET", "/api/v1/cluster").headers["adapter-role"] == (
            "leader" if url == pair.leader else "standby"
        )
        shaped(found, {"leader": TEXT, "epoch": WHOLE, "paused": FLAG, "halted": FLAG, "replicas": list})
        assert found["leader"] == leader
        rows = found["replicas"]
        for row in rows:
            shaped(row, {
                "name": TEXT, "url": TEXT, "role": TEXT, "state": TEXT, "healthy": FLAG, "lag_ms": WHOLE, "version": TEXT,
            })  # fmt: skip
        assert {row["url"] for row in rows} == set(pair.urls())


def test_history_has_a_row_for_each_term(pair: RunningPair) -> None:
    rows = call(pair.standby, "GET", "/api/v1/history").json["history"]
    assert [row["epoch"] for row in rows] == sorted((row["epoch"] for row in rows), reverse=True)
    figure = (float, int)
    for row in rows:
        shaped(row, {
            "epoch": WHOLE, "kind": TEXT, "reason": TEXT, "from": (TEXT, None), "to": TEXT, "at": TIME,
            "detect_ms": (*figure, None), "acquire_ms": figure, "claim_ms": figure, "fence_ms": figure, "connect_ms": figure,
            "reconcile_ms": figure, "first_order_ms": (*figure, None), "total_ms": figure, "repaired": WHOLE, "held": WHOLE,
        })  # fmt: skip
    assert (rows[-1]["kind"], rows[-1]["from"]) == ("start", None)
    assert call(pair.leader, "GET", "/api/v1/history?limit=1").json["history"] == rows[:1]
    for wrong in ("0", "1001", "x", "9" * 5000):
        assert call(pair.leader, "GET", f"/api/v1/history?limit={wrong}").fields == {"limit"}


def test_metrics_are_prometheus_text(pair: RunningPair) -> None:
    for url, leads in ((pair.leader, "1.0"), (pair.standby, "0.0")):
        answer = ask(url, "GET", "/metrics")
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
        values = dict(line.rsplit(" ", 1) for line in answer.content.decode().splitlines() if not line.startswith("#"))
        assert values["adapter_leader"] == leads
        assert float(values["adapter_ledger_seq"]) > 0
        assert (values["adapter_paused"], values["adapter_halted"]) == ("0.0", "0.0")
        led = {name: value for name, value in values.items() if name.startswith("adapter_takeovers_total")}
        assert sum(map(float, led.values())) == float(leads)
        assert values.get('adapter_takeover_phase_seconds_count{phase="total"}') == (leads if leads == "1.0" else None)
        ours = {name for name in values if not name.startswith(("process_", "python_"))}
        assert all(name.startswith("adapter_") for name in ours)


# ---- what does not end well (these change the pair, and stand last)


@contextmanager
def log_locked(pair: RunningPair) -> Iterator[None]:
    """Somebody locks the event log: a commit that is under way gets no answer, reads go on."""
    with psycopg.connect(pair.pair.info()["migrate_database_url"]) as db:
        db.execute("LOCK TABLE ledger.event IN SHARE ROW EXCLUSIVE MODE")
        yield
        db.rollback()


def answered(answer: Answer) -> Answer | None:
    """An answer that says yes."""
    return answer if answer.status in (200, 201) else None


@pytest.mark.rule(20)
@pytest.mark.guarantee(3)
def test_lost_answer_of_a_commit_is_504_and_the_retry_finds_one_order(pair: RunningPair) -> None:
    sent, leader = body(), pair.leader
    with log_locked(pair):
        answer = call(leader, "POST", ORDERS, sent)
        assert (answer.status, answer.problem, answer.headers["retry-after"]) == (504, "outcome-unknown", "1")
        assert ask(leader, "GET", "/leader").status == 503, "no proof of epoch, no leader (R12)"
        later = call(leader, "POST", ORDERS, body())
        assert later.status in (503, 307), "nothing is accepted without a proof; another leader may be known by now"
    again = until(lambda: answered(call(pair.leader, "POST", ORDERS, sent)), "an answer")
    in_state(pair.leader, again.json["id"], "WORKING")
    assert len([e for e in pair.journal(again.json["id"]) if e["kind"] == "order"]) == 1
    with psycopg.connect(pair.pair.info()["database_url"]) as db:
        query = "SELECT count(*) FROM ledger.event WHERE event_type = 'order_accepted' AND order_id = %s"
        assert db.execute(query, (again.json["id"],)).fetchone() == (1,)


@pytest.mark.rule(1)
@pytest.mark.rule(5)
@pytest.mark.guarantee(6)
def test_lost_order_is_in_doubt_its_break_is_open_and_its_contract_held(pair: RunningPair) -> None:
    pair.control("POST", "/faults/lose_orders", {"next": 1})
    made = call(pair.leader, "POST", ORDERS, body(symbol="TSLA")).json
    doubt = in_state(pair.leader, made["id"], "IN_DOUBT")
    shaped(doubt, ORDER_SHAPE)
    [found] = [b for b in call(pair.leader, "GET", "/api/v1/breaks").json["breaks"] if b["order_id"] == made["id"]]
    shaped(found, {
        "id": TEXT, "kind": TEXT, "symbol": TEXT, "order_id": TEXT, "ours": dict, "broker": dict, "opened_at": TIME,
        "resolved_at": None, "resolution": None,
    })  # fmt: skip
    assert (found["kind"], found["symbol"]) == ("in_doubt", "TSLA")
    before = quiet(pair.leader)
    held = call(pair.leader, "POST", ORDERS, body(symbol="TSLA"))
    assert (held.status, held.problem, held.headers["retry-after"]) == (503, "held", "1")
    assert found["id"] in held.json["detail"]
    assert seq(pair.leader) == before, "nothing is written"
    assert call(pair.leader, "POST", ORDERS, body(symbol="IBM")).status == 201, "other contracts go on"
    assert ask(pair.leader, "GET", "/health").json["breaks"] == 1
    assert (ask(pair.leader, "GET", "/readyz").status, ask(pair.leader, "GET", "/leader").status) == (200, 200)
    assert call(pair.leader, "DELETE", f"{ORDERS}/{made['id']}").status == 202, "cancelled when it surfaces"
    assert not [e for e in pair.journal(made["id"]) if e["kind"] in ("order", "modify")], "never sent again by itself"


@pytest.mark.rule(5)
def test_lists_that_come_meanwhile_do_not_open_the_gate_behind_a_late_order(pair: RunningPair) -> None:
    """The late order itself asks for them."""
    leader = pair.leader

    def gate() -> dict[str, Any]:
        found: dict[str, Any] = ask(leader, "GET", "/health").json["gate"]
        return found

    def late(found: dict[str, Any]) -> bool:
        return any("not acknowledged" in str(reason) for reason in found["reasons"])

    pair.control("POST", "/faults/no_end", {"request": "open_orders"})
    try:
        pair.control("POST", "/faults/lose_orders", {"next": 1})
        lost = call(leader, "POST", ORDERS, body(symbol="AMZN")).json["id"]
        until(lambda: late(gate()), "the gate is shut for it")
        seen = [gate()]
        until(lambda: not late(seen[-1]) or seen.append(gate()), "that has an end")
        assert not seen[-1]["open"], "the session was dropped, and is reconciled with first"
    finally:
        pair.control("DELETE", "/faults/no_end")
    in_state(leader, lost, "IN_DOUBT")


@pytest.mark.rule(24)
def test_while_a_doubt_is_looked_at_again_the_orders_of_other_contracts_are_sent(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/lose_orders", {"next": 1})
    lost = call(leader, "POST", ORDERS, body(symbol="NVDA")).json["id"]
    pair.control("POST", "/faults/close_sessions", {})
    others: list[str] = []

    def decided() -> bool:
        answer = call(leader, "POST", ORDERS, body(symbol="GOOG"))
        others.append(answer.json["id"])
        return one(leader, lost)["state"] == "IN_DOUBT"

    until(decided, "the lost order is in doubt")
    with psycopg.connect(pair.pair.info()["database_url"]) as db:
        rows = db.execute(
            "SELECT seq, event_type, order_id, payload->>'session' FROM ledger.event ORDER BY seq"
        ).fetchall()
    [doubt] = [seq for seq, kind, oid, _ in rows if (kind, oid) == ("order_in_doubt", lost)]
    [session] = [place for seq, kind, _, place in rows if kind == "session_opened" and seq < doubt][-1:]
    licensed = [seq for seq, _, oid, place in rows if oid in others and place == session]
    assert min(licensed) < doubt, "sent on the new session before the doubt was decided"
    for oid in others:
        in_state(leader, oid, "WORKING")


@pytest.mark.rule(6)
def test_link_down_shuts_the_gate_and_opens_it_after_a_reconciliation(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/link_down", {})
    try:
        until(lambda: not ask(leader, "GET", "/health").json["gateway"]["link"], "the link known as down")
        assert not ask(leader, "GET", "/health").json["gate"]["open"]
        made = call(leader, "POST", ORDERS, body())
        assert (made.status, made.json["state"]) == (201, "QUEUED"), (
            "durable, and never licensed while the link is down"
        )
        assert ask(leader, "GET", "/leader").status == 200, "it leads all the same"
    finally:
        pair.control("DELETE", "/faults/link_down")
    in_state(leader, made.json["id"], "WORKING")
    assert ask(leader, "GET", "/readyz").status == 200


@pytest.mark.rule(8)
def test_order_valid_for_a_moment_only_is_never_sent_after_it(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/mute", {})
    try:
        pair.control("POST", "/faults/close_sessions", {})
        until(lambda: not ask(leader, "GET", "/health").json["gate"]["open"], "a shut gate")
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        made = call(leader, "POST", ORDERS, body(valid_until=soon))
        assert (made.status, made.json["state"]) == (201, "QUEUED"), "durable without a session"
        ended = in_state(leader, made.json["id"], "EXPIRED")
        assert "valid_until" in ended["reason"]
        repeated = call(
            leader, "POST", ORDERS, {**RESTING, "client_order_id": made.json["client_order_id"], "valid_until": soon}
        )
        assert (repeated.status, repeated.json["state"]) == (200, "EXPIRED"), "a known key is answered at any time"
    finally:
        pair.control("DELETE", "/faults/mute")
    until(lambda: ask(leader, "GET", "/readyz").status == 200, "an open gate")
    assert pair.journal(made.json["id"]) == []


@pytest.mark.guarantee(3)
def test_no_leader_is_503_and_nothing_acknowledged_is_lost_by_a_kill(pair: RunningPair) -> None:
    acknowledged = [call(pair.leader, "POST", ORDERS, body()).json for _ in range(5)]
    pair.standby  # noqa: B018 - waits until somebody is there to take over
    dead = next(r for r in pair.pair.replicas if r.url == pair.leader)
    other = next(r.url for r in pair.pair.replicas if r.name != dead.name)
    sent = body()
    pair.run(pair.pair.kill(dead.name))
    statuses = []

    def accepted() -> dict[str, object] | None:
        answer = call(other, "POST", f"{ORDERS}?hop=1", sent)
        statuses.append(answer.status)
        if answer.status == 503:
            assert answer.headers["retry-after"] == "1"
        return answer.json if answer.status == 201 else None

    until(accepted, "the other replica accepts")
    assert set(statuses) <= {503, 201}, "never a redirect to the dead one from a second hop, never a 404"
    for order in acknowledged:
        assert one(pair.leader, order["id"])["state"] in ("WORKING", "SENDING", "IN_DOUBT", "QUEUED")
    newest = call(other, "GET", "/api/v1/history?limit=1").json["history"][0]
    assert (newest["kind"], newest["from"]) == ("failover", dead.name)
