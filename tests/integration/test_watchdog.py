"""What systemd is told by a real replica, and that a hung one falls silent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.clock import boottime
from ha.etcd_access import EtcdAccess
from ha.etcd_keeper import Job
from ha.etcd_port import EtcdLease
from ha.watchdog import BEATS, Watchdog
from tests.integration.etcd_fixture import Cluster, etcd_cluster, free_ports
from tests.integration.pair_fixture import ask, until
from tests.integration.pg_fixture import Urls
from tests.integration.replica_fixture import Replica, Systemd, replica, settings_for, systemd
from tests.integration.sim_fixture import Sim, sim_process

INTERVAL = 1.5


@pytest.fixture
async def sim() -> Any:
    async with sim_process() as running:
        yield running


@pytest.fixture
def supervisor() -> Iterator[Systemd]:
    with systemd() as listening:
        yield listening


def supervised(urls: Urls, sim: Sim, by: Systemd, **more: str) -> dict[str, str]:
    return settings_for(urls, sim.port, NOTIFY_SOCKET=by.address, **more)


def check_life(by: Systemd) -> None:
    """Signs of life come often enough, with one lost."""
    begin = time.monotonic()
    until(lambda: len(by.heard("WATCHDOG=1", begin)) > 4, "signs of life")
    gaps = [b - a for a, b in pairwise(by.heard("WATCHDOG=1", begin))]
    assert max(gaps) < INTERVAL / BEATS + 0.4, gaps


@pytest.mark.rule(12)
async def test_ready_alive_role_and_stopping_are_told(
    urls: Urls, sim: Sim, supervisor: Systemd, tmp_path: Path
) -> None:
    with replica(tmp_path, supervised(urls, sim, supervisor), "--single") as running:
        await asyncio.to_thread(live, running, supervisor)


def live(running: Replica, by: Systemd) -> None:
    until(lambda: by.heard("READY=1"), "ready")
    running.until_leads()
    until(lambda: by.status == "leader LEADING, epoch 1", "the status")
    check_life(by)
    assert len(by.heard("READY=1")) == 1
    assert by.heard("WATCHDOG=1")[0] >= by.heard("READY=1")[0]
    assert not by.heard("STOPPING=1")
    assert running.end() == 0
    assert len(by.heard("STOPPING=1")) == 1
    assert by.status == "stopping"


@pytest.mark.rule(12)
async def test_a_replica_that_is_hung_or_frozen_gives_no_sign(
    urls: Urls, sim: Sim, supervisor: Systemd, tmp_path: Path
) -> None:
    hang = {"FAILPOINTS": "submit.after_write=sleep:2.5@1"}
    with replica(tmp_path, supervised(urls, sim, supervisor, **hang), "--single") as running:
        await asyncio.to_thread(fall_silent, running, supervisor)


def fall_silent(running: Replica, by: Systemd) -> None:
    running.until_leads()
    order = {"client_order_id": "w-1", "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "LMT",
             "limit_price": "1.00"}  # fmt: skip
    hung_at = time.monotonic()
    ask(running.url, "POST", "/api/v1/orders", order)  # answered once the loop runs again
    assert longest_silence(by, hung_at) > 2.4
    assert "stood still" in running.said(), "and it gave up its term before anything else"
    until(lambda: by.status == "leader LEADING, epoch 2", "it leads again")
    running.send(signal.SIGSTOP)
    frozen_at = time.monotonic()
    until(lambda: time.monotonic() - frozen_at > 2, "two seconds")
    assert not by.heard("WATCHDOG=1", frozen_at + 0.1), "a supervisor would have killed it by now"
    running.send(signal.SIGCONT)
    until(lambda: by.heard("WATCHDOG=1", frozen_at + 2), "it gives signs again")


def longest_silence(by: Systemd, since: float) -> float:
    before = by.heard("WATCHDOG=1")
    until(lambda: by.heard("WATCHDOG=1", since + 1), "the next sign of life")
    moments = [at for at in by.heard("WATCHDOG=1") if at >= max(b for b in before if b <= since)]
    return max(b - a for a, b in pairwise(moments))


async def test_a_replica_that_waits_for_its_database_asks_for_time_and_is_not_ready(
    urls: Urls, sim: Sim, supervisor: Systemd, tmp_path: Path
) -> None:
    away = {"DATABASE_URL": f"postgresql://adapter:x@127.0.0.1:{free_ports(1)[0]}/ledger"}
    with replica(tmp_path, supervised(urls, sim, supervisor) | away, "--single") as running:
        await asyncio.to_thread(
            until, lambda: len(supervisor.heard("EXTEND_TIMEOUT_USEC=15000000")) > 3, "it asks for time"
        )
        assert not supervisor.heard("READY=1")
        assert not supervisor.heard("WATCHDOG=1")
        assert await asyncio.to_thread(running.end) == 0
        assert supervisor.heard("STOPPING=1")


@pytest.mark.rule(12)
async def test_a_supervisor_more_patient_than_the_lease_is_refused_with_a_sentence(
    urls: Urls, sim: Sim, supervisor: Systemd, tmp_path: Path
) -> None:
    env = supervised(urls, sim, supervisor, WATCHDOG_USEC="2000000")
    with replica(tmp_path, env, "--single") as running:
        assert await asyncio.to_thread(running.process.wait, 30) == 1
        assert "The supervisor's watchdog waits 2 s (WATCHDOG_USEC=2000000), and LEASE_TTL=2" in running.said()
        assert "Traceback" not in running.said()
    assert not supervisor.heard("READY=1")


# --- the same object beside a real lease, and before a supervisor that does not listen -------------------------------


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


@pytest.mark.rule(12)
async def test_a_renewing_thread_that_hangs_ends_the_signs_although_the_loop_runs(
    etcd: Cluster, supervisor: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.address)
    lease = EtcdLease(EtcdAccess(etcd.endpoints), cluster="w", run_dir=tmp_path)
    watchdog = Watchdog(0.3, status=lambda: "x", renewed_at=lambda: lease.contact().keeper_seen_at, renewed_within=2.0)
    await lease.start()
    watchdog.start()
    watchdog.ready()
    await asyncio.sleep(1)
    lease._keeper.submit(Job(lambda: time.sleep(4), lambda _: None))  # as if it hung in a system call
    hung_at = time.monotonic()
    await asyncio.sleep(3)
    heard = supervisor.heard("WATCHDOG=1")
    assert any(at < hung_at for at in heard)
    assert max(heard) < hung_at + 2.3
    assert not supervisor.heard("WATCHDOG=1", hung_at + 2.3)
    await asyncio.sleep(1.6)
    assert supervisor.heard("WATCHDOG=1", hung_at + 3.5), "it comes round again"
    await watchdog.stop()
    await lease.stop()


async def test_a_supervisor_that_does_not_read_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/tmp/sd-{os.getpid()}-deaf"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(path)
        os.chmod(path, 0o600)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        watchdog = Watchdog(0.003, status=lambda: f"{boottime()}", renewed_at=None, renewed_within=2.0)
        watchdog.start()
        watchdog.ready()
        for _ in range(50):  # far more than the queue of such a socket holds
            began = boottime()
            await asyncio.sleep(0.02)
            assert boottime() - began < 0.3
        await watchdog.stop()
    os.unlink(path)


async def test_a_supervisor_that_was_away_is_told_everything_when_it_listens(
    supervisor: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{supervisor.address}-2")
    watchdog = Watchdog(0.06, status=lambda: "leader", renewed_at=None, renewed_within=2.0)
    watchdog.start()
    watchdog.ready()
    await asyncio.sleep(0.1)
    late = Systemd(f"{supervisor.address}-2")
    try:
        await asyncio.sleep(0.2)
        assert late.heard("READY=1")
        assert late.status == "leader"
        await watchdog.stop()
    finally:
        late.close()


async def test_without_a_supervisor_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    asked: list[str] = []
    watchdog = Watchdog(0.03, status=lambda: asked.append("status") or "x", renewed_at=None, renewed_within=2.0)
    watchdog.start()
    watchdog.ready()
    await asyncio.sleep(0.1)
    watchdog.stopping()
    await watchdog.stop()
    assert asked == []
