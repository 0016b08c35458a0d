"""The command line against two real HTTP servers that answer as the interface says, and against none."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from rich.console import Console

from ha import cli_format as form
from ha import cli_read, cli_views
from ha.cli_grid import Grid
from ha.cli_read import Screen
from ha.cli_token import issue, lifetime
from ha.pair_client import DEFAULT_URL, Answer, NoPair, PairClient, UsageError, find_urls
from tests.unit.cli_replica import Replica, both, call, health, two_replicas

KEY = "k" * 32
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def order(number: int, **other: Any) -> dict[str, Any]:
    """An order, to the letter."""
    return {
        "id": f"ID{number:014}",
        "client_order_id": f"s1-{number:06}",
        "state": "WORKING",
        "reason": None,
        "symbol": "AAPL",
        "side": "BUY",
        "quantity": "10",
        "filled": "4",
        "remaining": "6",
        "average_price": "190.48",
        "order_type": "LMT",
        "limit_price": "190.5",
        "tif": "DAY",
        "perm_id": 900000017,
        "broker_order_id": 17,
        "cancel_requested": False,
        "revision": 1,
        "epoch": 5,
        "seq": number,
        "subject": "local",
        "correlation_id": "c",
        "sent_at": None,
        "acknowledged_at": None,
        "created_at": f"2026-03-04T09:30:00.{number:06}Z",
        "updated_at": f"2026-03-04T09:30:00.{number:06}Z",
        **other,
    }


POSITIONS = [
    {
        "account": "DU1",
        "symbol": "AAPL",
        "quantity": "12500",
        "average_cost": "190.4812",
        "broker_quantity": "12500.0",
        "break_id": None,
    },
    {
        "account": "DU1",
        "symbol": "MSFT",
        "quantity": "-3.50",
        "average_cost": "400",
        "broker_quantity": None,
        "break_id": None,
    },
]
HISTORY = [
    {
        "epoch": 6,
        "kind": "failover",
        "reason": "the lease ran out",
        "from": "a",
        "to": "b",
        "at": "2026-03-04T11:59:01.123456Z",
        "detect_ms": None,
        "acquire_ms": 12,
        "claim_ms": 14.4,
        "fence_ms": 30000,
        "connect_ms": 85,
        "reconcile_ms": 40,
        "first_order_ms": None,
        "total_ms": 30171,
        "repaired": 3,
        "held": 1,
    },
    {"epoch": 5, "kind": "start", "reason": None, "from": None, "to": "a", "at": "2026-03-03T11:59:01.123456Z"},
]
BREAKS = [
    {
        "id": "b-1",
        "kind": "in_doubt",
        "symbol": "AAPL",
        "order_id": "ABCDEFGH2345ABCD",
        "ours": {"state": "SENDING"},
        "broker": None,
        "opened_at": "2026-03-04T11:59:01.123456Z",
        "resolved_at": None,
        "resolution": None,
    },
    {
        "id": "b-0",
        "kind": "position",
        "symbol": "IBM",
        "order_id": None,
        "ours": {"quantity": "1"},
        "broker": {"quantity": "2"},
        "opened_at": "2026-03-03T11:59:01.123456Z",
        "resolved_at": "2026-03-03T12:00:00.000000Z",
        "resolution": "external_flow",
    },
]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Replica, Replica]]:
    with two_replicas() as made:
        yield made


@pytest.fixture
def pair(servers: tuple[Replica, Replica]) -> tuple[Replica, Replica]:
    """Both replicas, sound, whatever the test before made of them."""
    for r in servers:
        r.seq, r.pages, r.requests, r.asked, r.after = 1042, None, [], [], []
    cluster: dict[str, Any] = {"leader": "a", "epoch": 5, "paused": False, "halted": False}
    cluster["replicas"] = [
        {"name": r.name, "url": r.url, "role": r.role, "state": "X", "healthy": True, "lag_ms": 1, "version": "0.1.0"}
        for r in servers
    ]
    for r in servers:
        r.answers = {
            "/health": (200 if r.role == "leader" else 429, health(r.name, r.role)),
            "/api/v1/cluster": (200, cluster),
            "/api/v1/orders": (200, {"orders": [order(1), order(2, state="FILLED")], "next": None}),
            "/api/v1/positions": (200, {"positions": POSITIONS}),
            "/api/v1/history": (200, {"history": HISTORY}),
            "/api/v1/breaks": (200, {"breaks": BREAKS}),
        }
    return servers


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting and no pair of the developer's shell is seen."""
    for name in ("ADAPTER_URL", "ADAPTER_TOKEN", "API_SECRET_KEY", "SECRET_KEY", "DATABASE_URL", "REPLICA_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def unused_url() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_of_a_sound_pair_is_fine_and_shows_both(pair: tuple[Replica, Replica]) -> None:
    result = call("status", *both(pair))
    assert result.exit_code == 0
    head, columns, first, second = result.stdout.splitlines()
    assert head.strip() == "desk1, leader a, epoch 5"
    assert columns.split() == [
        "Replica",
        "Role",
        "State",
        "Epoch",
        "Trust",
        "Gate",
        "Gateway",
        "Seq",
        "etcd",
        "Lag",
        "Breaks",
        "Up",
    ]
    assert first.split() == [
        "a",
        "leader",
        "LEADING",
        "5",
        "1.48",
        "s",
        "open",
        "up",
        "1042",
        "3",
        "3",
        "ms",
        "0",
        "1h",
        "02m",
    ]
    assert second.split() == [
        "b",
        "standby",
        "STANDBY",
        "5",
        "-",
        "shut",
        "-",
        "1042",
        "3",
        "3",
        "ms",
        "0",
        "1h",
        "02m",
    ]


def test_status_as_json_holds_what_the_replicas_said(pair: tuple[Replica, Replica]) -> None:
    body = json.loads(call("status", "--json", *both(pair)).stdout)
    assert body["fine"] is True
    assert [r["health"]["name"] for r in body["replicas"]] == ["a", "b"]
    assert body["cluster"]["leader"] == "a"


def test_who_names_one_replica_sees_the_other_too(pair: tuple[Replica, Replica]) -> None:
    body = json.loads(call("status", "--json", "--url", pair[1].url).stdout)
    assert [r["health"]["name"] for r in body["replicas"]] == ["b", "a"]


def test_a_dead_replica_is_shown_with_the_reason_and_is_not_fine(pair: tuple[Replica, Replica]) -> None:
    dead = unused_url()
    result = call("status", "--url", pair[0].url, "--url", dead)
    assert result.exit_code == 1
    assert f"{dead}: no answer: connection refused, nothing listens there" in result.stdout
    assert "Traceback" not in result.output


def test_two_dead_replicas_are_a_table_and_not_a_trace() -> None:
    result = call("status", "--url", unused_url(), "--url", unused_url())
    assert result.exit_code == 1
    assert result.stdout.count("no answer: connection refused") == 2
    assert "no replica leads" in result.stdout


def test_a_replica_that_hears_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        answer = PairClient([f"http://127.0.0.1:{mute.getsockname()[1]}"], timeout=0.2).each("/health")[0]
    assert (answer.status, answer.why()) == (None, "no answer: nothing within 0.2 s")


def test_a_replica_that_hangs_up_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        answer = PairClient([f"http://127.0.0.1:{server.getsockname()[1]}"]).each("/health")[0]
        thread.join(5)
    assert "before an answer" in answer.why()


def test_something_else_on_the_port_is_said_to_be_no_adapter(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/health"] = (200, "<html>hello</html>")
    result = call("status", *both(pair))
    assert result.exit_code == 1
    assert "what answers there is not an adapter (its answer is not JSON)" in result.stdout


@pytest.mark.parametrize(
    ("who", "changes", "status", "said"),
    [
        (0, {"gate": {"open": False, "reasons": ["reconciling"]}}, 503, "a: gate shut: reconciling"),
        (1, {"status": "lagging"}, 503, "b: not healthy (lagging)"),
        (1, {"role": "leader", "state": "LEADING", "gate": {"open": True}}, 200, "leaders: a, b; there must be one"),
        (1, {"tail": {"seq": 1042, "lag_ms": 3, "digest": "fe"}}, 429, "the books differ at seq 1042"),
        (0, {"role": "standby"}, 429, "no replica leads"),
    ],
)
def test_what_is_wrong_with_the_pair_is_said_and_is_not_fine(
    pair: tuple[Replica, Replica], who: int, changes: dict[str, Any], status: int, said: str
) -> None:
    replica = pair[who]
    replica.answers["/health"] = (status, {**health(replica.name, replica.role), **changes})
    result = call("status", *both(pair))
    assert result.exit_code == 1
    assert said in result.stdout


def test_a_digest_at_another_seq_is_no_difference(pair: tuple[Replica, Replica]) -> None:
    pair[1].answers["/health"] = (429, health("b", "standby", tail={"seq": 1041, "lag_ms": 3, "digest": "fe"}))
    assert call("status", *both(pair)).exit_code == 0


def test_a_paused_pair_says_so(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/health"] = (200, health("a", "leader", paused=True))
    assert call("status", *both(pair)).stdout.splitlines()[0].strip() == "desk1, leader a, epoch 5, paused"


def test_a_pause_and_a_halt_are_shown_with_who_asked_for_them_and_why(pair: tuple[Replica, Replica]) -> None:
    said = {"paused": {"by": "ops", "reason": "new kernel"}, "halted": {"by": "risk", "reason": ""}}
    cluster = pair[0].answers["/api/v1/cluster"][1] | {"paused": True, "halted": True, "wishes": said}
    for replica in pair:
        replica.answers["/api/v1/cluster"] = (200, cluster)
    lines = call("status", *both(pair)).stdout.splitlines()
    assert lines[0].strip() == "desk1, leader a, epoch 5, paused, halted"
    assert lines[-2:] == [
        "PAUSED by ops: new kernel (no automatic failover until `adapter resume`)",
        "HALTED by risk (no new orders until `adapter unhalt`; cancels pass)",
    ]
    shown = cli_views.wishes(None, [Answer("x", 200, {"role": "leader", "halted": True})])
    assert shown == ["HALTED (no new orders until `adapter unhalt`; cancels pass)"]


def test_watch_looks_as_often_as_it_is_told(pair: tuple[Replica, Replica]) -> None:
    result = call("status", "--watch", "--every", "0.1", "--times", "3", *both(pair))
    assert result.exit_code == 0
    assert result.stdout.count("desk1, leader a, epoch 5") == 3


def test_watch_as_json_is_one_object_a_line(pair: tuple[Replica, Replica]) -> None:
    result = call("status", "--watch", "--every", "0.1", "--times", "2", "--json", *both(pair))
    assert [json.loads(line)["fine"] for line in result.stdout.splitlines()] == [True, True]


def test_watch_on_a_terminal_draws_the_table_anew(pair: tuple[Replica, Replica]) -> None:
    drawn, screen = terminal()
    assert cli_read.status(PairClient([r.url for r in pair]), screen, False, 0.1, 2) == 0
    assert drawn.getvalue().count("LEADING") >= 2


def test_interrupting_a_watch_ends_it_with_what_was_seen_last(pair: tuple[Replica, Replica]) -> None:
    watch = [sys.executable, "-m", "ha", "status", "--watch", "--every", "0.1", "--json", *both(pair)]
    with subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["fine"] is True
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_orders_are_a_table_of_one_line_each_when_piped(pair: tuple[Replica, Replica]) -> None:
    long = order(3, client_order_id="x" * 64, reason="a long reason " * 10, state="REJECTED")
    pair[0].answers["/api/v1/orders"] = (200, {"orders": [order(1), long], "next": None})
    result = call("orders", *both(pair))
    assert result.exit_code == 0
    _, first, second = result.stdout.splitlines()
    assert first.split()[2:] == ["s1-000001", "AAPL", "BUY", "10", "4", "190.48", "LMT", "190.50", "WORKING", "-"]
    assert "x" * 64 in second


def test_orders_are_read_page_by_page_and_an_order_that_moved_is_shown_once(pair: tuple[Replica, Replica]) -> None:
    asked = []

    def pages(request: web.Request) -> Any:
        after = int(request.query.get("after", 0))
        asked.append(after)
        if after == 0:
            return {"orders": [order(1), order(2)], "next": 2}
        return {"orders": [order(1, seq=9, state="FILLED")], "next": None}

    pair[0].pages = pages
    body = json.loads(call("orders", "--json", *both(pair)).stdout)
    assert asked == [0, 2]
    assert [(o["client_order_id"], o["state"]) for o in body["orders"]] == [
        ("s1-000001", "FILLED"),
        ("s1-000002", "WORKING"),
    ]


def test_a_page_that_leads_back_to_itself_ends(pair: tuple[Replica, Replica]) -> None:
    pair[0].pages = lambda _: {"orders": [order(1)], "next": 7}
    assert len(json.loads(call("orders", "--json", *both(pair)).stdout)["orders"]) == 1


def test_only_the_newest_orders_are_shown_and_it_is_said(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/api/v1/orders"] = (200, {"orders": [order(n) for n in (3, 1, 2)], "next": None})
    result = call("orders", "--limit", "2", *both(pair))
    assert [line.split()[2] for line in result.stdout.splitlines()[1:]] == ["s1-000002", "s1-000003"]
    assert "3 orders match, the newest 2 are shown" in result.stderr


def test_open_orders_leave_out_the_final_ones(pair: tuple[Replica, Replica]) -> None:
    body = json.loads(call("orders", "--open", "--json", *both(pair)).stdout)
    assert [o["state"] for o in body["orders"]] == ["WORKING"]


def test_filters_and_the_token_reach_the_replica(pair: tuple[Replica, Replica]) -> None:
    call(
        "orders", "--state", "working", "--symbol", "BRK B", "--after", "5", *both(pair), env={"ADAPTER_TOKEN": "t.o.k"}
    )
    request = pair[0].requests[-1]
    assert dict(request.query) == {"state": "WORKING", "symbol": "BRK B", "after": "5", "limit": "500"}
    assert request.headers["Authorization"] == "Bearer t.o.k"


def test_the_leaders_answer_is_preferred(pair: tuple[Replica, Replica]) -> None:
    pair[1].answers["/api/v1/orders"] = (200, {"orders": [], "next": None})
    pair[1].seq = 9999
    result = call("orders", "--json", "--url", pair[1].url, "--url", pair[0].url)
    assert len(json.loads(result.stdout)["orders"]) == 2
    assert result.stderr == ""


def test_a_standbys_answer_is_shown_as_such(pair: tuple[Replica, Replica]) -> None:
    result = call("orders", "--url", unused_url(), "--url", pair[1].url)
    assert result.exit_code == 0
    assert f"from {pair[1].url}, not the leader, at seq 1042" in result.stderr
    assert "connection refused" in result.stderr


@pytest.mark.parametrize("command", ["orders", "positions", "history", "breaks"])
def test_without_any_answer_every_reason_is_given(command: str) -> None:
    url = unused_url()
    result = call(command, "--url", url)
    assert result.exit_code == 1
    assert f"{url}: no answer: connection refused" in result.stderr
    assert result.stdout == ""


def test_a_refusal_is_shown_with_its_detail(pair: tuple[Replica, Replica]) -> None:
    refusal = {
        "type": "urn:adapter:unauthorized",
        "title": "Not authenticated",
        "status": 401,
        "detail": "Send a token.",
    }
    for replica in pair:
        replica.answers["/api/v1/orders"] = (401, refusal)
    result = call("orders", *both(pair))
    assert result.exit_code == 1
    assert result.stderr.count("401: Send a token.") == 2


def test_a_redirect_is_not_followed_with_the_token(pair: tuple[Replica, Replica]) -> None:
    pair[1].answers["/api/v1/orders"] = (307, None)
    result = call("orders", "--client-order-id", "s1-000001", "--token", "t", "--url", pair[1].url)
    assert result.exit_code == 1
    assert "307: Temporary Redirect" in result.stderr


def test_an_answer_without_its_list_is_said(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/api/v1/breaks"] = pair[1].answers["/api/v1/breaks"] = (200, {})
    result = call("breaks", *both(pair))
    assert result.exit_code == 1
    assert "its answer has no 'breaks'" in result.stderr


def test_positions_show_both_sides(pair: tuple[Replica, Replica]) -> None:
    result = call("positions", *both(pair))
    assert result.exit_code == 0
    _, first, second = result.stdout.splitlines()
    assert first.split() == ["DU1", "AAPL", "12,500", "190.4812", "12,500", "-", "-"]
    assert second.split() == ["DU1", "MSFT", "-3.5", "400.00", "unknown", "unknown", "-"]


def test_a_position_that_differs_is_not_fine(pair: tuple[Replica, Replica]) -> None:
    rows = [{**POSITIONS[0], "broker_quantity": "12510", "break_id": "b-1"}]
    pair[0].answers["/api/v1/positions"] = (200, {"positions": rows})
    result = call("positions", *both(pair))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].split()[-3:] == ["12,510", "+10", "b-1"]


def test_history_shows_each_phase(pair: tuple[Replica, Replica]) -> None:
    result = call("history", *both(pair))
    assert result.exit_code == 0
    _, failover, start = result.stdout.splitlines()
    assert failover.split()[0] == "6"
    assert " ".join(failover.split()).endswith(" a>b - 12 14 30000 85 40 - 30171 3/1 failover: the lease ran out")
    assert " ".join(start.split()).endswith(" ->a - - - - - - - - -/- start")


def test_history_can_be_cut(pair: tuple[Replica, Replica]) -> None:
    assert len(json.loads(call("history", "--limit", "1", "--json", *both(pair)).stdout)["history"]) == 1


def test_an_open_break_is_not_fine_and_resolved_ones_are_shown_on_demand(pair: tuple[Replica, Replica]) -> None:
    result = call("breaks", *both(pair))
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["b-1"]
    every = call("breaks", "--all", *both(pair))
    assert "state SENDING" in result.stdout
    assert [line.split()[0] for line in every.stdout.splitlines()[1:]] == ["b-1", "b-0"]
    pair[0].answers["/api/v1/breaks"] = (200, {"breaks": BREAKS[1:]})
    assert call("breaks", *both(pair)).exit_code == 0


def test_control_characters_from_a_replica_do_not_reach_the_terminal(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/api/v1/orders"] = (200, {"orders": [order(1, reason="\x1b[2J[red]x\n")], "next": None})
    result = call("orders", *both(pair))
    assert "\x1b" not in result.output
    assert "\\x1b[2J[red]x\\n" in result.stdout


# --- the look of it ---------------------------------------------------------------------------------------------------


def terminal(width: int = 100) -> tuple[io.StringIO, Screen]:
    drawn = io.StringIO()
    console = Console(file=drawn, width=width, force_terminal=True, color_system=None, markup=False)
    return drawn, Screen(console, console, True)


@pytest.mark.parametrize(
    "grid",
    [
        cli_views.replicas(
            [Answer("http://10.0.0.1:8080", 200, health("replica-a", "leader")), Answer("http://10.0.0.2:8080")]
        ),
        cli_views.replicas(
            [Answer("u", 200, health("replica-a", "leader", epoch=1234, state="RECONCILING", uptime_ms=10**9))]
        ),
        cli_views.orders(
            [
                order(
                    1,
                    client_order_id="momentum-20260304-000017",
                    quantity="12500",
                    filled="12500",
                    limit_price="1190.5",
                )
            ],
            NOW,
        ),
        cli_views.positions(POSITIONS),
        cli_views.history(HISTORY, NOW),
        cli_views.breaks(BREAKS, NOW),
    ],
    ids=["replicas", "replicas-wide", "orders", "positions", "history", "breaks"],
)
def test_a_table_fits_100_columns_and_keeps_its_figures_whole(grid: Grid) -> None:
    drawn, screen = terminal(100)
    screen.show(grid)
    assert max(map(len, drawn.getvalue().splitlines())) <= 100
    figures = {
        word for line in grid.lines() for word in line.split() if any(map(str.isdigit, word)) and len(word) <= 12
    }
    assert figures <= set(drawn.getvalue().split())  # no figure is broken over two lines
    assert "…" not in drawn.getvalue()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("10", "10"),
        ("10.000", "10"),
        ("12500", "12,500"),
        ("-0.50", "-0.5"),
        ("1E+3", "1,000"),
        (None, "-"),
        ("NaN", "NaN"),
    ],
)
def test_quantities_have_no_needless_zeros(value: Any, shown: str) -> None:
    assert form.quantity(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [("190.5", "190.50"), ("1.081250", "1.08125"), ("1190", "1,190.00"), ("0", "0.00"), (None, "-")]
)
def test_prices_have_at_least_two_places(value: Any, shown: str) -> None:
    assert form.price(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1480, "1.48 s"),
        (723_000, "12m 03s"),
        (3_723_000, "1h 02m"),
        (273_600_000, "3d 04h"),
        (None, "-"),
        (True, "yes"),
    ],
)
def test_durations_read_as_people_say_them(value: Any, shown: str) -> None:
    assert form.duration(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-03-04T09:30:00.123456Z", "09:30:00"),
        ("2026-03-04T01:30:00+02:00", "2026-03-03 23:30"),
        ("2026-03-04T09:30:00", "2026-03-04T09:30:00"),  # without a zone it is no time that we know
        ("soon", "soon"),
        (None, "-"),
    ],
)
def test_times_are_in_utc_and_the_date_is_left_out_today(value: Any, shown: str) -> None:
    assert form.moment(value, NOW) == shown


# --- which replicas ---------------------------------------------------------------------------------------------------


def test_replicas_are_found_by_option_then_environment_then_pair_file_then_default(tmp_path: Path) -> None:
    env = {"ADAPTER_URL": "http://c:1, http://d:2/"}
    assert find_urls([], {}, tmp_path) == [DEFAULT_URL]
    (tmp_path / "pair.json").write_text('{"replicas": [{"url": "http://e:1"}, {"url": "http://f:2"}]}')
    assert find_urls([], {}, tmp_path) == ["http://e:1", "http://f:2"]
    assert find_urls([], env, tmp_path) == ["http://c:1", "http://d:2"]
    assert find_urls(["http://g:1", "http://g:1/"], env, tmp_path) == ["http://g:1"]


def test_a_directory_that_is_named_comes_before_the_environment_and_must_have_a_pair(tmp_path: Path) -> None:
    env = {"ADAPTER_URL": "http://c:1"}
    with pytest.raises(NoPair, match=f"no pair is up in {tmp_path}"):
        find_urls([], env, tmp_path, named=True)
    (tmp_path / "pair.json").write_text('{"replicas": [{"url": "http://e:1"}]}')
    assert find_urls([], env, tmp_path, named=True) == ["http://e:1"]
    assert find_urls(["http://g:1"], env, tmp_path, named=True) == ["http://g:1"]


@pytest.mark.parametrize("command", ["status", "orders", "history", "pause", "switchover"])
def test_where_no_pair_is_up_it_is_said_and_is_not_fine(command: str, tmp_path: Path) -> None:
    result = call(command, "--dir", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert result.stderr == f"no pair is up in {tmp_path / 'none'}\n"


@pytest.mark.parametrize("url", ["8080", "ftp://h:1", "http://", "http://h:x", "http://h:1/a\nb"])
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="write http://HOST:PORT"):
        find_urls([url], {}, Path())


def test_a_pair_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "pair.json").write_text('{"replicas": 1}')
    result = call("status", "--dir", str(tmp_path))
    assert result.exit_code == 2
    assert "pair.json cannot be read" in result.stderr
    assert "name the replicas with --url" in result.stderr


def test_the_pair_file_of_a_running_pair_is_used(pair: tuple[Replica, Replica], tmp_path: Path) -> None:
    said = {"ready": True, "replicas": [{"name": r.name, "url": r.url, "pid": 1} for r in pair], "dir": str(tmp_path)}
    (tmp_path / ".adapter").mkdir()
    (tmp_path / ".adapter" / "pair.json").write_text(json.dumps(said))
    assert call("status").exit_code == 0


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_carries_subject_role_and_end() -> None:
    result = call("token", "--sub", "s1", "--role", "trader", "--ttl", "15m", env={"API_SECRET_KEY": KEY})
    assert result.exit_code == 0
    claims = jwt.decode(result.stdout.strip(), KEY, algorithms=["HS256"])
    assert (claims["sub"], claims["role"]) == ("s1", "trader")
    assert 0 <= claims["exp"] - time.time() <= 15 * 60


def test_a_token_as_json_says_when_it_ends() -> None:
    body = json.loads(issue(KEY, "s1", "viewer", "8h", NOW).as_json())
    assert body["expires_at"] == "2026-03-04T20:00:00.000000Z"
    assert (body["sub"], body["role"]) == ("s1", "viewer")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--sub", "s1", "--role", "king"],
            "--role 'king' is not allowed: it must be one of viewer, trader, operator.",
        ),
        (["--sub", "a b"], "--sub 'a b' is not allowed"),
        (["--sub", "s1", "--ttl", "0h"], "--ttl '0h' is not allowed"),
        (["--sub", "s1", "--ttl", "8"], "--ttl '8' is not allowed"),
        (["--sub", "s1", "--ttl", "999d"], "at most 366d"),
    ],
)
def test_a_token_that_makes_no_sense_is_wrong_usage(arguments: list[str], said: str) -> None:
    result = call("token", *arguments, env={"API_SECRET_KEY": KEY})
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_without_the_key_there_is_no_token() -> None:
    result = call("token", "--sub", "s1")
    assert result.exit_code == 2
    assert "API_SECRET_KEY is not set" in result.stderr


def test_a_short_key_is_refused_and_not_shown() -> None:
    result = call("token", "--sub", "s1", env={"API_SECRET_KEY": "hunter2"})
    assert result.exit_code == 2
    assert "API_SECRET_KEY is not allowed: it must be at least 32 bytes" in result.stderr
    assert "hunter2" not in result.output


def test_lifetimes_are_read_in_all_four_units() -> None:
    assert [lifetime(t) for t in ("90s", "15m", "8h", "30d")] == [
        timedelta(seconds=90),
        timedelta(minutes=15),
        timedelta(hours=8),
        timedelta(days=30),
    ]


# --- the command itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "migrate", "release"])
def test_wrong_settings_are_wrong_usage_with_every_sentence(command: str) -> None:
    result = call(command, env={"TWS_PORT": "x", "LEASE_TTL": "1"})
    assert result.exit_code == 2
    assert "TWS_PORT=x is not allowed" in result.stderr
    assert "LEASE_TTL=1 is not allowed" in result.stderr
    assert "is not set: it is" in result.stderr
    assert "Traceback" not in result.output


def test_a_single_replica_is_not_asked_for_etcd() -> None:
    result = call("run", "--single")
    assert result.exit_code == 2
    assert [line.split(" ")[0] for line in result.stderr.splitlines()] == ["DATABASE_URL", "REPLICA_NAME"]


def test_a_log_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {"DATABASE_URL": "postgresql://u@h/d", "ETCD_ENDPOINTS": "a:1", "REPLICA_NAME": "a"}
    result = call("run", env={**env, "LOG_FILE": str(tmp_path / "file" / "x.log")})
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_database_that_is_away_makes_migrate_not_fine_and_shows_no_password() -> None:
    host = unused_url().removeprefix("http://")
    env = {"DATABASE_URL": f"postgresql://adapter:hunter2@{host}/d"}
    result = call("migrate", env={**env, "MIGRATE_DATABASE_URL": f"postgresql://owner:hunter2@{host}/d"})
    assert result.exit_code == 1
    assert "refused" in result.stderr
    assert "hunter2" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("arguments", "code"), [(["nonsense"], 2), (["status", "--nonsense"], 2), (["--version"], 0)])
def test_wrong_usage_is_2(arguments: list[str], code: int) -> None:
    assert call(*arguments).exit_code == code


def adapter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ha", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    heavy = ["aiohttp", "ib_async", "psycopg", "grpc", "etcd3", "alembic", "pydantic", "loguru", "jwt", "asyncio"]
    code = (
        "import sys; sys.argv = ['adapter', '--help']\n"
        "from ha.__main__ import main\n"
        "try: main()\n"
        f"finally: print('LOADED', [m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0
    assert "LOADED []" in result.stderr
    for command in [
        "run",
        "up",
        "demo",
        "sim",
        "migrate",
        "status",
        "orders",
        "positions",
        "history",
        "breaks",
        "release",
        "token",
        "switchover",
        "pause",
        "resume",
        "halt",
        "unhalt",
    ]:
        assert f" {command} " in result.stdout


def test_sim_passes_everything_on_to_the_stand_in() -> None:
    result = adapter("sim", "--help")
    assert result.returncode == 0
    assert "--journal" in result.stdout
    assert adapter("sim", "--no-such-option").returncode == 2


def test_a_reader_that_goes_away_leaves_no_trace(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/api/v1/orders"] = (200, {"orders": [order(n) for n in range(3000)], "next": None})
    urls = " ".join(both(pair))
    line = f"{sys.executable} -m ha orders --limit 3000 {urls} | head -1"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.startswith("UTC")
    assert "Traceback" not in result.stderr
