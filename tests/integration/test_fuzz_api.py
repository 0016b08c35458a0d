"""Every field of every path, fuzzed from the project's own description: no defect shows, every answer is as described, and what is
refused has written nothing, neither in the log nor at the broker.

FUZZ_EXAMPLES (cases for each path and mode) and FUZZ_SEED make it longer and other; `make fuzz-api` does.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from engine import api_paths, openapi
from engine.openapi import describe
from engine.request import ChangeRequest, OrderRequest
from ha import paths
from tests.integration.api_calls import ORDERS, body, call, in_state, key
from tests.integration.pair_fixture import Answer, ask
from tests.integration.pg_fixture import Postgres, Urls
from tests.integration.replica_fixture import Replica, replica, settings_for
from tests.integration.sim_fixture import sim_child

EXAMPLES, SEED = int(os.environ.get("FUZZ_EXAMPLES", "5")), int(os.environ.get("FUZZ_SEED", "1"))
TABLES = (api_paths.OPERATIONS, paths.OPERATIONS, openapi.OPERATIONS)
OPERATIONS = {where: operation for table in TABLES for where, operation in table.items()}
STREAMS = frozenset({("GET", "/api/v1/events")})
"""Answers without an end: they have tests of their own."""

FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONGEST_WAIT = 20  # milliseconds that a fuzzed request waits for evidence
_numbers = itertools.count(1)

pytestmark = pytest.mark.timeout(max(120, EXAMPLES * 20))


class Desk:
    """One replica without a pair, its database and its broker."""

    def __init__(self, running: Replica, urls: Urls, control: str) -> None:
        self.url, self.control, self.replica = running.url, control, running
        self.database = psycopg.connect(urls.adapter, autocommit=True)
        self.accepted: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.wrote: set[str] = set()  # correlation ids of requests that were not refused
        answer = call(self.url, "POST", ORDERS, body(), {})
        assert answer.status == 201, answer.content
        self.known = str(in_state(self.url, answer.json["id"], "WORKING")["id"])
        self.accepted.add(self.known)

    def events_of(self, correlation_id: str) -> int:
        """Events of the log that carry it."""
        [(found,)] = self.database.execute(
            "SELECT count(*) FROM ledger.event WHERE correlation_id = %s", (correlation_id,)
        ).fetchall()
        return int(found)

    def judge(self, status: int, headers: Any, content: bytes, json: Any) -> None:
        """What holds for every answer."""
        self.statuses[status] += 1
        correlation_id = headers["X-Correlation-ID"]
        if status >= 500:
            assert status in (503, 504), content
        if status in (503, 504) and headers["Content-Type"] == "application/problem+json":
            assert json["status"] == status
        if status >= 400:
            if status != 504 and correlation_id not in self.wrote:
                assert self.events_of(correlation_id) == 0, "a refused request has written"
            return
        self.wrote.add(correlation_id)
        found = json.get("orders", [json]) if isinstance(json, dict) else []
        self.accepted |= {str(order["id"]) for order in found if "client_order_id" in order}

    def at_the_broker(self) -> set[str]:
        """The orders that ever reached it, by their ids."""
        entries = ask(self.control, "GET", "/journal?after=0").json["entries"]
        return {str(e["order_ref"]).rsplit(".", 1)[-1] for e in entries if e["kind"] == "order"}


@contextmanager
def no_wishes(desk: Desk) -> Iterator[None]:
    """Whatever a fuzzed operator wished is taken back."""
    try:
        yield
    finally:
        for wish in ("unhalt", "resume"):
            assert call(desk.url, "POST", f"/api/v1/cluster/{wish}", {}, {}).status == 202


@pytest.fixture(scope="module")
def desk(postgres_server: Postgres) -> Iterator[Desk]:
    urls = postgres_server.fresh()
    with tempfile.TemporaryDirectory(prefix="pa-fuzz-") as place, sim_child() as sim:
        given_settings = settings_for(
            urls, sim.port, ORDER_RATE="0", ORDER_RATE_PER_SYMBOL="0", MAX_OPEN_ORDERS="100000"
        )
        with replica(Path(place), given_settings, "--single") as running:
            running.until_leads()
            made = Desk(running, urls, sim.control)
            try:
                yield made
            finally:
                made.database.close()


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(describe(OPERATIONS, "fuzzed"))


def told(case: Any) -> None:
    """Nobody waits long here, and each request has a correlation id of its own unless it is what is fuzzed."""
    if (wait := (case.query or {}).get("timeout_ms")) is not None and str(wait).isdigit():
        case.query["timeout_ms"] = min(int(wait), LONGEST_WAIT)


PRICES = {
    "LMT": {"limit_price": "1.00", "stop_price": None}, "MKT": {"limit_price": None, "stop_price": None},
    "STP": {"limit_price": None, "stop_price": "999.00"}, "STP LMT": {"limit_price": "1.00", "stop_price": "999.00"},
}  # fmt: skip
GOOD = st.sampled_from(sorted(PRICES)).map(
    lambda kind: body(client_order_id=key("fuzz"), order_type=kind, sec_type="STK", **PRICES[kind])
)
"""Orders that are accepted; what rests is never filled."""

MODES = {"described": GenerationMode.POSITIVE, "wrong": GenerationMode.NEGATIVE}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", sorted(set(OPERATIONS) - STREAMS), ids=" ".join)
def test_no_answer_is_a_defect_and_each_is_as_described(
    desk: Desk, schema: Any, where: tuple[str, str], mode: str
) -> None:
    method, path = where
    operation = schema[path][method]
    ids = [desk.known, None] if "{id}" in path else [None]

    @seed(SEED)
    @FUZZ
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(ids))
        fixed = {"path_parameters": {"id": known}} if known is not None else {}
        case = data.draw(operation.as_strategy(MODES[mode], **fixed))
        told(case)
        if where == ("POST", ORDERS) and isinstance(case.body, dict) and data.draw(st.booleans()):
            case.body |= data.draw(GOOD)  # past the contract's look-up, with whatever else there is
        answer = case.call(base_url=desk.url, timeout=30)
        json = answer.json() if "json" in answer.headers.get("content-type", [""])[0] and answer.content else None
        headers = {name.title().replace("Id", "ID"): values[0] for name, values in answer.headers.items()}
        desk.judge(answer.status_code, headers, answer.content, json)
        if method != "HEAD":
            case.validate_response(
                answer, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
            )

    with no_wishes(desk):
        fuzz()
    assert desk.at_the_broker() <= desk.accepted, "a refused order reached the broker"
    assert "unhandled in" not in desk.replica.said()


@pytest.mark.parametrize("kind", sorted(PRICES))
def test_order_that_the_fuzz_begins_with_is_accepted(desk: Desk, kind: str) -> None:
    """The control: what is refused below is refused for the one field that was fuzzed."""
    for _ in range(3):
        sent = body(client_order_id=key("fuzz"), order_type=kind, sec_type="STK", **PRICES[kind])
        answer = call(desk.url, "POST", ORDERS, sent, {"X-Correlation-ID": f"control-{next(_numbers)}"})
        assert answer.status == 201, answer.content
        refused_or_accepted(desk, answer)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
NASTY = st.none() | st.sampled_from([
    "", " ", "0", "-1", "1e30", "NaN", "Infinity", "-0", "00", "1_000", "٣", "1" * 40, "\x00", "A\x00", "ﬀ", "�", "a" * 70000,
    "1.123456789", "999999999.99999999", "0.00000001", 0, -1, 2**31, 2**63, 10**30, 1.5, True, [], {}, "null",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "2030-01-01T00:00:00", "20301301", "MKT", "IBM",
])  # fmt: skip


def refused_or_accepted(desk: Desk, answer: Answer) -> None:
    headers = {name.title().replace("Id", "ID"): value for name, value in answer.headers.items()}
    desk.judge(answer.status, headers, answer.content, answer.json if answer.content else None)
    if answer.status >= 400:
        assert answer.problem


@pytest.mark.parametrize("name", sorted(OrderRequest.model_fields))
def test_any_value_of_one_field_of_a_good_order_is_accepted_or_refused_by_name(desk: Desk, name: str) -> None:
    @seed(SEED)
    @FUZZ
    @given(NASTY | ANYTHING, GOOD, st.sampled_from(["STK", "STK", "STK", "OPT", "FUT", "CASH"]))
    def fuzz(value: object, good: dict[str, object], sec_type: str) -> None:
        sent = good | {"client_order_id": key("fuzz"), "sec_type": sec_type} | {name: value}
        answer = call(desk.url, "POST", ORDERS, sent, {"X-Correlation-ID": f"field-{next(_numbers)}"})
        refused_or_accepted(desk, answer)
        if answer.status == 201:
            assert Decimal(answer.json["quantity"]) > 0

    fuzz()
    assert desk.at_the_broker() <= desk.accepted, "a refused order reached the broker"
    assert "unhandled in" not in desk.replica.said()


@pytest.mark.parametrize("name", sorted(ChangeRequest.model_fields))
def test_any_value_of_one_field_of_a_good_change_is_accepted_or_refused_by_name(desk: Desk, name: str) -> None:
    @seed(SEED)
    @FUZZ
    @given(NASTY | ANYTHING)
    def fuzz(value: object) -> None:
        now = call(desk.url, "GET", f"{ORDERS}/{desk.known}", None, {}).json
        sent = {"revision": now["revision"], "limit_price": "1.01"} | {name: value}
        answer = call(
            desk.url, "PATCH", f"{ORDERS}/{desk.known}", sent, {"X-Correlation-ID": f"change-{next(_numbers)}"}
        )
        refused_or_accepted(desk, answer)

    fuzz()
    assert "unhandled in" not in desk.replica.said()


def test_the_fuzz_reached_what_it_is_about(desk: Desk) -> None:
    """Last of the module: without acceptances, refusals and redirects of every kind the rest would prove little."""
    assert set(desk.statuses) >= {200, 201, 202, 400, 404, 409, 412, 422}
    assert desk.statuses[201] > 3 * len(PRICES), desk.statuses
    assert len(desk.accepted) > 3 * len(PRICES)
