"""What systemd is told by a real replica, and that a hung one falls silent."""

from __future__ import annotations

import asyncio
import os
import signal
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
from tests.integration.etcd_fixture import Cluster, etcd_cluster
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


async def test_ready_alive_role_and_stopping_are_told(
    urls: Urls, sim: Sim, supervisor: Systemd, tmp_path: Path
) -> None:
    with replica(tmp_path / "a", supervised(urls, sim, supervisor), "--single") as running:
        await asyncio.to_thread(self_check, running, supervisor)


def self_check(running: Replica, by: Systemd) -> None:
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
