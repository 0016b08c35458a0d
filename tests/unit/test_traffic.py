"""The traffic: a plan drawn from a seed, arrivals that do not wait, and a record that knows everything it did."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from adapter_client import Attempt, Kind, OrderRequest
from adapter_client.record import Record
from adapter_client.schedule import LARGEST_NET, Mix, Planned, plan
from adapter_client.traffic import Traffic, main
from aiohttp import web

from ha.demo.history import Outcome, fold, read_lines
from tests.unit.scripted_replica import (
    ORDER,
    Replica,
    a_free_port,
    accepted,
    answer,
    drop_after_reading,
    listening,
    problem,
    stay_silent,
)

PRICES = {"AAPL": Decimal(190), "MSFT": Decimal(415)}


def mix(**changes: Any) -> Mix:
    settings: dict[str, Any] = {"rate": 20, "seconds": 60, "symbols": ("AAPL", "MSFT"), "prices": PRICES}
    return Mix(**(settings | changes))


def drawn(seed: int = 7, run: str = "r", **changes: Any) -> list[Planned]:
    return list(plan(mix(**changes), seed=seed, run=run))


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with listening(Replica()) as listens:
        yield listens


def entries_of(path: Path) -> list[dict[str, Any]]:
    return read_lines(path.read_text())


async def serve_all(request: web.Request) -> web.StreamResponse:
    """Takes every order under an id of its own, and every cancel."""
    if request.method == "DELETE":
        return web.json_response(ORDER | {"id": request.path.rpartition("/")[2]}, status=202)
    key = json.loads(await request.read())["client_order_id"]
    return web.json_response(ORDER | {"client_order_id": key, "id": "ID" + key[-6:]}, status=201)


# --- the plan


def test_the_same_seed_draws_the_same_orders_and_another_run_only_other_keys() -> None:
    first, again, other_run, other_seed = drawn(), drawn(), drawn(run="s"), drawn(seed=8)
    assert first == again
    assert [p.at for p in other_run] == [p.at for p in first]
    assert not {p.request.client_order_id for p in other_run} & {p.request.client_order_id for p in first}
    assert [p.request.side for p in other_seed] != [p.request.side for p in first]


def test_orders_arrive_at_the_rate_and_every_key_is_its_own() -> None:
    orders = drawn()
    assert len(orders) == 1200
    assert len({order.request.client_order_id for order in orders}) == 1200
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(orders)]
    assert min(gaps) > 0
    assert max(gaps) <= 1.5 / 20
    assert orders[-1].at < 60


def test_the_shares_are_what_was_asked_for() -> None:
    orders = drawn(seconds=300)
    types = Counter(order.request.order_type for order in orders)
    assert 0.45 < types["LMT"] / len(orders) < 0.55
    assert 0.12 < sum(order.cancel_after is not None for order in orders) / len(orders) < 0.18
    assert Counter(order.request.order_type for order in drawn(limit_share=0)) == {"MKT": 1200}
    assert all(order.cancel_after is None for order in drawn(cancel_share=0))


@pytest.mark.parametrize("seed", range(20))
def test_orders_that_fill_at_once_never_lean_far_to_one_side(seed: int) -> None:
    net: Counter[str | None] = Counter()
    for order in drawn(seed=seed, limit_share=0, seconds=300):
        net[order.request.symbol] += int(order.request.quantity) * (1 if order.request.side == "BUY" else -1)
        assert abs(net[order.request.symbol]) < LARGEST_NET + 10


def test_limits_cross_the_market_or_rest_away_from_it_and_only_resting_ones_are_cancelled() -> None:
    crossing = resting = 0
    for order in drawn(limit_share=1.0):
        request = order.request
        assert request.limit_price is not None
        ratio = request.limit_price / PRICES[request.symbol or ""]
        away = 1 - ratio if request.side == "BUY" else ratio - 1
        assert request.limit_price == request.limit_price.quantize(Decimal("0.01"))
        if away < 0:
            crossing += 1
            assert order.cancel_after is None
        else:
            resting += 1
            assert Decimal("0.002") < away < Decimal("0.031")
    assert crossing > 400
    assert resting > 400


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rate": 0}, "rate"),
        ({"seconds": -1}, "above 0"),
        ({"symbols": ()}, "symbol"),
        ({"cancel_share": 1.5}, "between"),
        ({"prices": {"AAPL": Decimal(1)}}, "MSFT"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_with_a_sentence(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        mix(**changes)


# --- the record


def test_an_attempt_is_on_disk_before_it_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "history"
    request = OrderRequest(symbol="AAPL", side="BUY", quantity=Decimal(2), client_order_id="k1")
    with Record(path) as record:
        record.expect(request)
        record.attempt(Attempt(op="place", key="k1", number=1, url="http://a", kind=Kind.INVOKE))
        (entry,) = entries_of(path)
        assert entry["order"]["quantity"] == "2"
        assert (entry["kind"], entry["client_order_id"], entry["attempt"]) == ("invoke", "k1", 1)
        assert entry["at"].endswith("+00:00")
        assert entry["mono_ns"] <= time.monotonic_ns()
        record.attempt(Attempt(op="place", key="k1", number=2, url="http://b", kind=Kind.INVOKE))
        assert "order" not in entries_of(path)[1]
        record.name("THEID", "k1")
        record.attempt(Attempt(op="cancel", key="THEID", number=1, url="http://b", kind=Kind.INVOKE))
        assert entries_of(path)[2]["client_order_id"] == "k1"
    with Record(path) as record:
        record.write({"op": "run", "kind": "start"})
    assert len(entries_of(path)) == 4
    with pytest.raises(RuntimeError):
        record.write({"op": "run"})


# --- a run


async def test_a_run_records_every_order_with_its_answer_and_cancels_some(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [serve_all]
    path = tmp_path / "history"
    short = mix(rate=100, seconds=1.0, limit_share=1.0, cancel_share=0.5)
    traffic = Traffic([replica.url], short, path, seed=3, settle=2)
    summary = await traffic.run()
    history = fold(entries_of(path))
    assert (summary.orders, summary.answered, summary.unanswered) == (100, 100, 0)
    assert history.count(Outcome.ANSWERED) == 100
    assert len(history.accepted) == 100
    assert 0 < summary.cancels == history.cancels_answered
    assert all(order.request["symbol"] in PRICES for order in history.orders.values())
    first = next(iter(history.orders.values()))
    assert first.ids == {"ID" + first.client_order_id[-6:]}
    ends = [entry for entry in entries_of(path) if entry["op"] == "run"]
    assert [entry["kind"] for entry in ends] == ["start", "end"]
    assert ends[1]["answered"] == 100


async def test_arrivals_do_not_wait_for_answers(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [stay_silent]
    traffic = Traffic([replica.url], mix(rate=50, seconds=1.0), tmp_path / "h", seed=3, settle=0.2)
    started = time.monotonic()
    summary = await traffic.run()
    assert summary.orders == 50
    assert summary.answered == 0
    assert time.monotonic() - started < 20.0  # one after the other, each waiting for its answer, they would take 100 s
    first_attempts = {order["client_order_id"] for order in (entry.body for entry in replica.seen)}
    assert len(first_attempts) == 50
    assert fold(entries_of(tmp_path / "h")).count(Outcome.UNKNOWN) == 50


async def test_an_order_of_unknown_outcome_is_repeated_with_its_key_after_the_time_is_up(
    replica: Replica, tmp_path: Path
) -> None:
    replica.answers = [*([drop_after_reading] * 4), *([answer(504)] * 4), *([problem(503)] * 4), accepted()]
    summary = await Traffic(
        [replica.url], mix(rate=20, seconds=0.1), tmp_path / "h", seed=1, settle=9, patience=0.05
    ).run()
    assert (summary.orders, summary.answered) == (2, 2)
    bodies: dict[str, list[Any]] = {}
    for seen in replica.seen:
        bodies.setdefault(seen.body["client_order_id"], []).append(seen.body)
    assert len(bodies) == 2
    assert all(all(body == sent[0] for body in sent) for sent in bodies.values())
    assert sum(len(sent) for sent in bodies.values()) == 14


async def test_what_nobody_took_until_the_end_is_counted_apart_from_what_was_refused(tmp_path: Path) -> None:
    nobody = await a_free_port()
    path = tmp_path / "h"
    summary = await Traffic([nobody], mix(rate=20, seconds=0.2), path, seed=1, settle=0.3).run()
    assert (summary.orders, summary.refused, summary.unanswered) == (4, 0, 4)
    history = fold(entries_of(path))
    # an attempt that the end cut off on its way is unknown, never a refusal
    assert history.count(Outcome.NOT_ACCEPTED) + history.count(Outcome.UNKNOWN) == 4
    assert history.count(Outcome.REFUSED) == 0


async def test_an_order_is_not_repeated_for_longer_than_it_was_asked_to_be(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [problem(503)]
    path = tmp_path / "h"
    traffic = Traffic([replica.url], mix(rate=20, seconds=0.1), path, seed=1, settle=9, patience=0.05, repeat_for=0.4)
    summary = await asyncio.wait_for(traffic.run(), 3)
    assert (summary.orders, summary.refused, summary.unanswered) == (2, 0, 2)
    spans = [(entry["at"], entry["client_order_id"]) for entry in entries_of(path) if entry["op"] == "place"]
    assert len(spans) > 4, "it was repeated"


async def test_a_refused_order_is_not_repeated(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [problem(422)]
    summary = await Traffic([replica.url], mix(rate=20, seconds=0.2), tmp_path / "h", seed=1, settle=1).run()
    assert (summary.orders, summary.refused) == (4, 4)
    assert len(replica.seen) == 4


async def test_stop_ends_the_arrivals_and_settles(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [serve_all]
    traffic = Traffic([replica.url], mix(rate=50, seconds=60), tmp_path / "h", seed=1, settle=1)
    running = asyncio.create_task(traffic.run())
    await replica.saw(10)
    traffic.stop()
    summary = await asyncio.wait_for(running, 5)
    assert summary.orders == summary.answered < 200


# --- the program


async def test_sigterm_ends_the_program_cleanly_with_its_summary_and_a_whole_history(
    replica: Replica, tmp_path: Path
) -> None:
    replica.answers = [serve_all]
    path = tmp_path / "history"
    arguments = ["--url", replica.url, "--symbols", "AAPL", "--price", "AAPL=190", "--seconds", "60", "--seed", "5"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter_client.traffic", "--history", str(path), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await replica.saw(5)
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    (line,) = output.decode().splitlines()
    summary = json.loads(line)
    assert summary["seed"] == 5
    assert summary["orders"] == summary["answered"] == len(fold(entries_of(path)).orders)
    assert entries_of(path)[-1]["kind"] == "end"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--symbols", "AAPL"], "AAPL"),
        (["--symbols", "AAPL", "--price", "AAPL=-1"], "above 0"),
        (["--symbols", "AAPL", "--price", "AAPL=x"], "SYMBOL=PRICE"),
        (["--symbols", "AAPL", "--price", "AAPL=1", "--rate", "0"], "rate"),
    ],
)
def test_wrong_usage_is_said_in_a_sentence_with_exit_code_2(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--url", "http://127.0.0.1:1", "--history", str(tmp_path / "h"), *arguments])
    assert ended.value.code == 2
    assert word in capsys.readouterr().err


def test_a_history_that_cannot_be_written_is_one_sentence_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "missing" / "h"
    arguments = ["--url", "http://127.0.0.1:1", "--history", str(place), "--symbols", "A", "--price", "A=1"]
    assert main(arguments) == 1
    assert "missing" in capsys.readouterr().err
