"""A correlation id from the request on: in the answer, in each refusal, in the log lines of the replica, and in the events."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.api_calls import ORDERS, body, in_state
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import Postgres, Urls
from tests.integration.replica_fixture import Replica, replica, settings_for
from tests.integration.sim_fixture import sim_child


@pytest.fixture(scope="module")
def urls(postgres_server: Postgres) -> Urls:
    return postgres_server.fresh()


@pytest.fixture(scope="module")
def running(urls: Urls) -> Iterator[Replica]:
    with (
        tempfile.TemporaryDirectory(prefix="pa-correlation-") as place,
        sim_child() as sim,
        replica(Path(place), settings_for(urls, sim.port), "--single") as made,
    ):
        yield made.until_leads()


def of(urls: Urls, correlation_id: str) -> list[str]:
    with psycopg.connect(urls.adapter, autocommit=True) as db:
        rows = db.execute(
            "SELECT event_type FROM ledger.event WHERE correlation_id = %s ORDER BY seq", (correlation_id,)
        ).fetchall()
    return [str(kind) for (kind,) in rows]


def test_what_was_asked_is_found_by_its_id_in_answer_events_and_log(running: Replica, urls: Urls) -> None:
    made = ask(running.url, "POST", ORDERS, body(), {"X-Correlation-ID": "corr-place"})
    assert (made.status, made.headers["x-correlation-id"], made.json["correlation_id"]) == (
        201, "corr-place", "corr-place",
    )  # fmt: skip
    oid = made.json["id"]
    in_state(running.url, oid, "WORKING")
    assert of(urls, "corr-place")[0] == "order_accepted"
    asked = ask(running.url, "DELETE", f"{ORDERS}/{oid}", None, {"X-Correlation-ID": "corr-cancel"})
    assert (asked.status, of(urls, "corr-cancel")) == (202, ["cancel_requested"])


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [("POST", ORDERS, b"{", 400), ("POST", ORDERS, body(symbol="NO SUCH"), 422), ("GET", "/nowhere", None, 404),
     ("PUT", ORDERS, {}, 405), ("PATCH", f"{ORDERS}/NONE", {"revision": 1, "quantity": "1"}, 404),
     ("GET", "/api/v1/audit?limit=0", None, 422), ("GET", "/api/v1/events?after=x", None, 422)],
)  # fmt: skip
def test_refusal_carries_the_id_and_has_written_nothing_under_it(
    running: Replica, urls: Urls, method: str, path: str, sent: object, status: int
) -> None:
    given = f"corr-{method}-{status}"
    answer = ask(running.url, method, path, sent, {"X-Correlation-ID": given})
    assert (answer.status, answer.headers["x-correlation-id"], answer.json["correlation_id"]) == (status, given, given)
    assert answer.problem
    assert of(urls, given) == []


def test_log_line_of_a_request_carries_its_id(running: Replica, urls: Urls) -> None:
    for command in ("halt", "unhalt"):
        given = {"X-Correlation-ID": f"corr-{command}"}
        assert ask(running.url, "POST", f"/api/v1/cluster/{command}", {"reason": "lines"}, given).status == 202
    [line] = [line for line in running.said().splitlines() if "halted by local: lines" in line]
    assert " c=corr-halt " in line
    [line] = [line for line in running.said().splitlines() if "no longer halted" in line]
    assert " c=corr-unhalt " in line
    until(lambda: of(urls, "corr-unhalt") == ["operator_command"], "the command in the log")
