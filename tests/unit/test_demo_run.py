"""How the demonstration is carried out: its plan, its background work, and the wait until everything is at rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ha.demo.collect import NothingToJudge, Reader
from ha.demo.fetch import Fetch, FetchFailed
from ha.demo.run import Plan, _beside, _too_little, demo
from ha.demo.scene import Glimpse, Scene
from ha.demo.watch import Watch
from ha.local.ports import Ports
from tests.unit.scripted_replica import Replica, a_free_port, answer, drop_after_reading, listening
from tests.unit.test_report import GOOD

PLACED = [
    {"op": "place", "kind": "invoke", "client_order_id": "k1", "attempt": 1, "url": "http://a"},
    {"op": "place", "kind": "ok", "client_order_id": "k1", "attempt": 1, "url": "http://a", "status": 201},
]
ID = "ABCDEFGHIJKLMNOP"
TAKEN = {"seq": 1, "kind": "order", "perm_id": 7, "order_ref": f"pa.TAGA.1.{ID}", "symbol": "AAPL", "side": "BUY"}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def write_history(path: Path) -> None:
    lines = [json.dumps(entry | {"at": now(), "id": ID}) for entry in PLACED]
    path.write_text(
        "\n".join(lines) + "\n" + json.dumps({"op": "run", "kind": "end", "p50_ms": 1.5, "at": now()}) + "\n"
    )


class World:
    """Both replicas and the control port behind one address, as they answer while everything is well."""

    def __init__(self) -> None:
        self.health: dict[str, Any] = {
            "role": "leader",
            "state": "LEADING",
            "epoch": 1,
            "gate": {"open": True},
            "tail": {"seq": 5, "digest": "d"},
        }
        self.order: dict[str, Any] = {"id": ID, "client_order_id": "k1", "state": "WORKING", "symbol": "AAPL", "seq": 5}
        self.served = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.served += 1
        name = request.path.rpartition("/")[2]
        if name == "health":
            return web.json_response(self.health)
        if name == "journal":
            after = int(request.query.get("after", 0))
            entries = [TAKEN | {"at": now(), "quantity": "1"}] if after < 1 else []
            return web.json_response({"seq": 1, "entries": entries})
        return web.json_response({"next": None, name: [self.order] if name == "orders" else []})


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with listening(Replica()) as listens:
        yield listens


def at_rest() -> Scene:
    scene = Scene(names=("a", "b"))
    body = {"gate": {"open": True}, "tail": {"seq": 5, "digest": "d"}, "epoch": 1}
    scene.see(datetime.now(UTC), "a", Glimpse.read(200, body | {"role": "leader", "state": "LEADING"}))
    scene.see(datetime.now(UTC), "b", Glimpse.read(429, body | {"role": "standby", "state": "STANDBY"}))
    return scene


def reader_of(replica: Replica, path: Path, scene: Scene) -> Reader:
    return Reader({"a": replica.url, "b": replica.url}, replica.url, path, scene, since=0)


# --- the plan


def test_the_same_seed_kills_at_the_same_moments_and_both_kills_fall_into_the_flow() -> None:
    def kills(seed: int) -> list[float]:
        return list(Plan.make(Path("x"), seconds=30, rate=20, seed=seed, ports=Ports()).kills)

    assert kills(3) == kills(3) != kills(4)
    for seed in range(50):
        first, second = kills(seed)
        assert 8 < first < 12
        assert 17 < second < 23


def test_a_port_base_that_cannot_be_is_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert demo(dir=tmp_path, seconds=5, rate=1, seed=1, port_base=70000, json=False, keep=False) == 2
    assert "port-base" in capsys.readouterr().err


@pytest.mark.parametrize(("taken", "enough"), [(240, True), (239, False)])
def test_a_run_in_which_hardly_an_order_reached_the_broker_is_not_fine(taken: int, enough: bool) -> None:
    verdict = replace(GOOD, asked=480, taken=taken, unsent={"REJECTED": 241})
    assert (_too_little(verdict) == []) is enough


def test_a_run_without_a_single_order_is_not_fine() -> None:
    assert _too_little(replace(GOOD, asked=0, taken=0, unsent={}))


# --- work beside the body


async def test_work_beside_the_body_ends_with_it() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with _beside(work()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_work_that_breaks_ends_the_body_with_its_own_error() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with _beside(work()):
            await asyncio.sleep(60)


async def test_an_error_of_the_body_is_not_lost_in_the_work_beside_it() -> None:
    with pytest.raises(KeyError):
        async with _beside(asyncio.sleep(60)):
            raise KeyError("body")


async def test_a_cancelled_body_stays_cancelled() -> None:
    async def whole() -> None:
        async with _beside(asyncio.sleep(60)):
            await asyncio.sleep(60)

    task = asyncio.create_task(whole())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- reading


async def test_the_watch_sees_health_journal_and_history_and_wakes_who_waits(replica: Replica, tmp_path: Path) -> None:
    world = World()
    replica.answers = [world.serve]
    scene = Scene(names=("a",))
    watch = Watch(scene, {"a": replica.url}, replica.url, tmp_path / "h")
    async with _beside(watch.run()):
        assert await watch.until(scene.leader, 5) == "a"
        write_history(tmp_path / "h")
        await watch.until(lambda: scene.answered or None, 5)
        world.health = {"role": "standby", "state": "STANDBY"}
        await watch.until(lambda: scene.leader() is None or None, 5)
        with pytest.raises(TimeoutError):
            await watch.until(lambda: None, 0.1)
    assert len(scene.taken) == 1  # the journal is read once, from where it was left


async def test_a_replica_that_does_not_answer_is_seen_as_such(tmp_path: Path) -> None:
    nobody = await a_free_port()
    scene = Scene(names=("a",))
    scene.see(datetime.now(UTC), "a", Glimpse.read(200, {"role": "leader", "state": "LEADING", "gate": {"open": True}}))
    async with _beside((watch := Watch(scene, {"a": nobody}, nobody, tmp_path / "h")).run()):
        await watch.until(lambda: scene.glimpses["a"] is None or None, 5)


@pytest.mark.parametrize("broken", [answer(503), drop_after_reading, answer(200, [])])
async def test_what_is_not_the_json_that_was_asked_for_is_a_failure(replica: Replica, broken: Any) -> None:
    replica.answers = [broken]
    async with Fetch(timeout=1) as fetch:
        with pytest.raises(FetchFailed):
            await fetch.get(replica.url)


async def test_all_pages_are_read_and_pages_that_do_not_advance_are_refused(replica: Replica) -> None:
    replica.answers = [answer(200, {"rows": [1], "next": 4}), answer(200, {"rows": [2], "next": None})]
    async with Fetch() as fetch:
        assert await fetch.pages(f"{replica.url}/x", "rows") == [1, 2]
        assert replica.seen[1].query["after"] == "4"
        replica.answers = [answer(200, {"rows": [1], "next": 4})]
        with pytest.raises(FetchFailed, match="does not follow"):
            await fetch.pages(f"{replica.url}/x", "rows")


# --- settling


async def test_a_pair_at_rest_is_judged_at_once(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [World().serve]
    write_history(tmp_path / "h")
    settled = await reader_of(replica, tmp_path / "h", at_rest()).settle(5)
    assert settled.verdict.ok
    assert (settled.verdict.answered, settled.verdict.taken) == (1, 1)
    assert settled.traffic["p50_ms"] == 1.5
    assert settled.notes == []


async def test_an_order_on_its_way_is_waited_for(replica: Replica, tmp_path: Path) -> None:
    world = World()
    world.order["state"] = "SENDING"
    replica.answers = [world.serve]
    write_history(tmp_path / "h")
    settling = asyncio.create_task(reader_of(replica, tmp_path / "h", at_rest()).settle(20))
    await replica.saw(8)  # it has judged once and asks again
    assert not settling.done()
    world.order["state"] = "WORKING"
    assert (await settling).verdict.ok


async def test_what_never_comes_to_rest_is_judged_as_it_is_when_the_time_is_up(
    replica: Replica, tmp_path: Path
) -> None:
    world = World()
    world.order["state"] = "SENDING"
    replica.answers = [world.serve]
    write_history(tmp_path / "h")
    settled = await reader_of(replica, tmp_path / "h", at_rest()).settle(0.1)
    assert not settled.verdict.ok
    assert "1 orders are still on their way" in settled.notes[0]


async def test_replicas_that_do_not_agree_are_a_note(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [World().serve]
    write_history(tmp_path / "h")
    scene = at_rest()
    scene.see(datetime.now(UTC), "b", None)
    settled = await reader_of(replica, tmp_path / "h", scene).settle(0.1)
    assert settled.verdict.ok
    assert "no leader with a healthy standby" in settled.notes[0]


async def test_a_ledger_that_cannot_be_read_is_said_and_not_judged(replica: Replica, tmp_path: Path) -> None:
    replica.answers = [answer(503)]
    write_history(tmp_path / "h")
    with pytest.raises(NothingToJudge, match="503"):
        await reader_of(replica, tmp_path / "h", at_rest()).settle(0.1)
    with pytest.raises(NothingToJudge, match="no leader"):
        await reader_of(replica, tmp_path / "h", Scene(names=("a", "b"))).settle(0.1)
