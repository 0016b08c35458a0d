"""Giving back a dead replica's lease: exactly that one, and at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.clock import boottime
from ha import etcd_runfile
from ha.etcd_access import EtcdAccess, leader_key
from ha.etcd_port import EtcdLease
from ha.release import release
from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.lease_contract import Heard, seen, until, won

HOLDER = """
import asyncio, sys
from pathlib import Path
from ha.etcd_access import EtcdAccess
from ha.etcd_port import EtcdLease
from ha.lease import LeaderRecord

async def hold(endpoints, cluster, run_dir):
    port = EtcdLease(EtcdAccess(endpoints), cluster=cluster, run_dir=Path(run_dir))
    await port.start()
    print(await port.campaign(LeaderRecord("victim", "i", "http://victim")), flush=True)
    await asyncio.Event().wait()

asyncio.run(hold(tuple(sys.argv[1].split(",")), sys.argv[2], sys.argv[3]))
"""


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


@pytest.fixture
def cluster() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def watcher(etcd: Cluster, cluster: str, tmp_path: Path) -> AsyncIterator[EtcdLease]:
    """The other replica."""
    run_dir = tmp_path / "watcher"
    run_dir.mkdir()
    port = EtcdLease(EtcdAccess(etcd.endpoints), cluster=cluster, run_dir=run_dir)
    await port.start()
    try:
        yield port
    finally:
        await port.stop()


@contextlib.asynccontextmanager
async def holder(etcd: Cluster, cluster: str, run_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds the lease until it is killed."""
    os.mkdir(run_dir)
    arguments = ["-c", HOLDER, ",".join(etcd.endpoints), cluster, str(run_dir)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert line.startswith(b"Grant("), line
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def server(etcd: Cluster) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m ha.release --serve`, ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ha.release",
        "--serve",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"ETCD_ENDPOINTS": ",".join(etcd.endpoints)},
    )
    try:
        assert process.stdout is not None
        assert json.loads(await asyncio.wait_for(process.stdout.readline(), 20)) == {"ready": True}
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask(process: asyncio.subprocess.Process, run_dir: Path) -> dict[str, object]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{run_dir}\n".encode())
    answer: dict[str, object] = json.loads(await asyncio.wait_for(process.stdout.readline(), 5))
    return answer


@pytest.mark.rule(34)
async def test_a_killed_process_loses_its_lease_within_milliseconds_of_being_named(
    etcd: Cluster, cluster: str, watcher: EtcdLease, tmp_path: Path
) -> None:
    heard = Heard(watcher)
    delays = []
    async with server(etcd) as serving:
        for n in range(4):
            async with holder(etcd, cluster, tmp_path / f"r{n}") as process:
                await until(lambda: heard.leader == "victim", 3, "the victim leads")
                process.kill()
                await process.wait()
                began = boottime()
                answer = await ask(serving, tmp_path / f"r{n}")
                await until(lambda: heard.leader is None, 1, "the key is free")
                delays.append(boottime() - began)
                assert answer["outcome"] == "released", answer
    print("from the line written to the key seen free, ms:", [round(delay * 1000, 1) for delay in delays])
    assert sorted(delays)[1] < 0.05


@pytest.mark.rule(34)
async def test_only_the_lease_of_that_directory_is_revoked(
    etcd: Cluster, cluster: str, watcher: EtcdLease, tmp_path: Path
) -> None:
    async with holder(etcd, cluster, tmp_path / "old") as process:
        process.kill()
        await process.wait()
        file = etcd_runfile.read(tmp_path / "old")
        assert file is not None
        await asyncio.to_thread(etcd.ctl, "lease", "revoke", f"{file.lease_id:x}")
        grant = await won(watcher, "new")
        result = await asyncio.to_thread(release, tmp_path / "old")
        assert result.outcome == "nothing", result
        assert (await seen(watcher)).lease_id == grant.lease_id


async def test_the_lease_of_a_process_that_lives_is_refused(
    etcd: Cluster, cluster: str, watcher: EtcdLease, tmp_path: Path
) -> None:
    async with holder(etcd, cluster, tmp_path / "r") as process:
        result = await asyncio.to_thread(release, tmp_path / "r")
        assert result.outcome == "refused", result
        assert str(process.pid) in result.reason
        process.send_signal(signal.SIGSTOP)
        assert (await asyncio.to_thread(release, tmp_path / "r")).outcome == "refused", "stopped is not ended"
        assert (await seen(watcher)).taken


async def test_a_process_that_ends_a_moment_later_is_waited_for(
    etcd: Cluster, cluster: str, watcher: EtcdLease, tmp_path: Path
) -> None:
    async with holder(etcd, cluster, tmp_path / "r") as process:
        asyncio.get_running_loop().call_later(0.1, process.kill)
        result = await asyncio.to_thread(release, tmp_path / "r")
        assert result.outcome == "released", result


async def test_without_a_file_there_is_nothing_and_a_spoilt_one_is_refused(tmp_path: Path) -> None:
    assert release(tmp_path).outcome == "nothing"
    (tmp_path / etcd_runfile.NAME).write_text("{")
    assert release(tmp_path).outcome == "refused"


async def test_without_etcd_it_is_unknown_within_its_time(tmp_path: Path) -> None:
    with etcd_cluster(1) as gone:
        access = EtcdAccess(gone.endpoints)
    file = etcd_runfile.LeaseFile.of_this_process(5, "c", leader_key("c"), access)
    etcd_runfile.write(tmp_path, replace(file, started=file.started + 1))  # another process, that has ended
    began = boottime()
    assert release(tmp_path, within=0.5).outcome == "unknown"
    assert boottime() - began < 1.5


async def test_the_server_ends_with_its_input_and_survives_a_bad_line(etcd: Cluster, tmp_path: Path) -> None:
    async with server(etcd) as serving:
        assert (await ask(serving, tmp_path / "not there"))["outcome"] == "nothing"
        (tmp_path / etcd_runfile.NAME).write_bytes(b"\xff\xfe")
        assert (await ask(serving, tmp_path))["outcome"] == "refused"
        assert serving.stdin is not None
        serving.stdin.close()
        assert await asyncio.wait_for(serving.wait(), 5) == 0
