"""The lease over a real etcd: the contract, and every way in which etcd, its client and the network mislead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.clock import boottime
from ha import etcd_runfile
from ha.etcd_access import EtcdAccess, leader_key
from ha.etcd_port import EtcdLease
from ha.lease import Gone, Grant, Held, Lost, Stored, Unknown
from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.etcd_proxy import Proxy, proxy
from tests.integration.lease_contract import TIMING, Heard, LeaseContract, record, seen, until, won


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with etcd_cluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def one() -> Iterator[Cluster]:
    with etcd_cluster(1) as cluster:
        yield cluster


class EtcdWorld:
    """Replicas of one adapter cluster, each behind relays of its own to every member."""

    def __init__(self, etcd: Cluster, directory: Path, relays: list[Proxy]) -> None:
        self.etcd = etcd
        self.cluster = f"t{uuid.uuid4().hex[:8]}"
        self.relays = relays
        self._directory = directory
        self._ports: list[EtcdLease] = []

    def run_dir(self, name: str) -> Path:
        return self._directory / name

    async def port(self, name: str) -> EtcdLease:
        self.run_dir(name).mkdir()
        access = EtcdAccess(tuple(relay.endpoint for relay in self.relays))
        port = EtcdLease(access, cluster=self.cluster, run_dir=self.run_dir(name))
        await port.start()
        self._ports.append(port)
        return port

    def in_use(self, port: EtcdLease) -> Proxy:
        """The relay to the member that the port talks to."""
        return next(relay for relay in self.relays if relay.endpoint == port.contact().member)

    async def revoke(self, lease_id: int) -> None:
        await asyncio.to_thread(self.etcd.ctl, "lease", "revoke", f"{lease_id:x}")

    async def put(self, text: str) -> None:
        await asyncio.to_thread(self.etcd.ctl, "put", leader_key(self.cluster), text)

    async def cut(self) -> None:
        for relay in self.relays:
            relay.cut = True
            relay.drop_all()

    async def mend(self) -> None:
        for relay in self.relays:
            relay.cut = False

    async def stop(self) -> None:
        await self.mend()
        for port in self._ports:
            await port.stop()


@contextlib.asynccontextmanager
async def world_over(etcd: Cluster, directory: Path) -> AsyncIterator[EtcdWorld]:
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(proxy(endpoint)) for endpoint in etcd.endpoints]
        world = EtcdWorld(etcd, directory, relays)
        stack.push_async_callback(world.stop)
        yield world


class TestEtcdKeepsTheContract(LeaseContract):
    @pytest.fixture
    async def world(self, three: Cluster, tmp_path: Path) -> AsyncIterator[EtcdWorld]:
        async with world_over(three, tmp_path) as world:
            yield world


@pytest.fixture
async def world(three: Cluster, tmp_path: Path) -> AsyncIterator[EtcdWorld]:
    async with world_over(three, tmp_path) as world:
        try:
            yield world
        finally:
            await asyncio.to_thread(three.restore)


class TestLostAnswers:
    async def test_an_acquire_that_was_carried_out_and_not_answered_is_won(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        await seen(port)
        relay = world.in_use(port)
        relay.swallow = b"KV/Txn"
        grant = await won(port, "a")
        assert relay.acted.is_set()
        assert (await seen(port)).lease_id == grant.lease_id
        assert isinstance(await port.verify(), Held)

    async def test_a_grant_that_was_carried_out_and_not_answered_is_used(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        await seen(port)
        relay = world.in_use(port)
        relay.swallow = b"Lease/LeaseGrant"
        began = boottime()
        grant = await won(port, "a")
        assert relay.acted.is_set()
        assert grant.trusted_until - began < TIMING.trust + 0.1, "trust counts from the first attempt"
        assert isinstance(await port.verify(), Held)

    async def test_an_acquire_that_arrives_late_writes_nothing(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        await seen(port)
        relay = world.in_use(port)
        relay.hold = b"KV/Txn"
        answer = await port.campaign(record("a"))
        assert isinstance(answer, Unknown), answer
        assert relay.acted.is_set()
        relay.let_go.set()
        await asyncio.wait_for(relay.delivered.wait(), 5)
        await asyncio.sleep(0.3)  # nothing is awaited here: that it does *not* happen is what is tested
        assert not (await seen(port)).taken
        await won(port, "a")

    async def test_an_acquire_lost_while_another_wins_is_lost(self, world: EtcdWorld) -> None:
        a, b = await world.port("a"), await world.port("b")
        await seen(a)
        relay = world.in_use(a)
        relay.hold = b"KV/Txn"
        campaign = asyncio.ensure_future(a.campaign(record("a")))
        await asyncio.wait_for(relay.acted.wait(), 5)
        grant = await won(b, "b")
        answer = await campaign
        assert isinstance(answer, Lost)
        assert answer.seen.lease_id == grant.lease_id
        relay.let_go.set()
        await asyncio.wait_for(relay.delivered.wait(), 5)
        assert isinstance(await b.verify(), Held)

    async def test_a_take_over_that_was_carried_out_and_not_answered_is_won(self, world: EtcdWorld) -> None:
        a, b = await world.port("a"), await world.port("b")
        heard = Heard(a)
        await won(a, "a")
        expected = await seen(b)
        relay = world.in_use(b)
        relay.swallow = b"KV/Txn"
        grant = await b.take_over(expected, record("b"))
        assert isinstance(grant, Grant)
        assert relay.acted.is_set()
        assert isinstance(await b.verify(), Held)
        await until(lambda: heard.last(Gone), 2, "the old holder is told")

    async def test_a_renewal_whose_answer_is_lost_costs_no_trust(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        heard = Heard(port)
        await won(port, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        relay = world.in_use(port)
        relay.swallow = b"Lease/LeaseKeepAlive"
        relay.drop_all()
        end = boottime() + 3  # the renewal is lost: with its connection, or on the next one
        while not any(isinstance(outcome, Unknown) for outcome in heard.outcomes) or not heard.last(Held):
            assert boottime() < end, "no renewal was lost"
            assert port.trust_left(boottime()) > 0
            await asyncio.sleep(0.01)
        assert world.in_use(port) is not relay


class TestMembers:
    async def test_a_frozen_member_is_left_within_a_third_of_the_ttl_and_costs_no_trust(self, world: EtcdWorld) -> None:
        a, b = await world.port("a"), await world.port("b")
        heard, other = Heard(a), Heard(b)
        await won(a, "a")
        await until(lambda: heard.last(Held) and other.leader == "a", 2, "renewed")
        member = world.etcd.members[world.relays.index(world.in_use(a))]
        if await asyncio.to_thread(member.leads):
            # Frozen, etcd's own leader takes the quorum with it for an election; that is another test.
            await asyncio.to_thread(world.etcd.move_leader_from, member)
            await until(lambda: heard.last(Held), 3, "renewed")
        frozen_at = boottime()
        member.freeze()
        told = len(heard.outcomes)
        await until(lambda: len(heard.outcomes) > told and heard.last(Unknown), 2, "a renewal failed")
        await until(lambda: heard.last(Held), 0.5, "another member renewed")
        assert boottime() - frozen_at < TIMING.renew_every + TIMING.ttl / 3 + 0.3
        end = boottime() + 2
        while boottime() < end:
            assert a.trust_left(boottime()) > 0
            await asyncio.sleep(0.02)
        assert isinstance(await a.release(), Gone)
        assert await until(lambda: other.leader is None, TIMING.poll_every + TIMING.ttl / 3, "b sees it") >= 0
        member.thaw()

    async def test_a_member_that_is_killed_is_left_at_once(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        heard = Heard(port)
        await won(port, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        member = world.etcd.members[world.relays.index(world.in_use(port))]
        if await asyncio.to_thread(member.leads):
            await asyncio.to_thread(world.etcd.move_leader_from, member)
            await until(lambda: heard.last(Held), 3, "renewed")
        await asyncio.to_thread(member.kill)
        end = boottime() + 2
        while boottime() < end:
            assert port.trust_left(boottime()) > TIMING.trust - TIMING.renew_every - 0.3
            await asyncio.sleep(0.02)

    async def test_without_a_quorum_it_is_unknown_and_with_one_again_the_same_lease_is_held(
        self, world: EtcdWorld
    ) -> None:
        port = await world.port("a")
        heard = Heard(port)
        grant = await won(port, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        for member in world.etcd.members[:2]:
            await asyncio.to_thread(member.kill)
        await until(lambda: port.trust_left(boottime()) == 0, TIMING.ttl + 1, "trust runs out")
        began = boottime()
        assert isinstance(await port.read(), Unknown)
        assert boottime() - began < 2 * TIMING.ttl
        assert isinstance(await port.campaign(record("a")), Unknown)
        await asyncio.to_thread(world.etcd.restore)
        await until(lambda: heard.last(Held), 5, "held again")
        assert heard.outcomes[-1].lease_id == grant.lease_id  # type: ignore[union-attr]
        assert not any(isinstance(outcome, Gone) for outcome in heard.outcomes)

    async def test_etcds_leader_killed_the_lease_is_kept(self, world: EtcdWorld) -> None:
        a, b = await world.port("a"), await world.port("b")
        heard, other = Heard(a), Heard(b)
        grant = await won(a, "a")
        await until(lambda: heard.last(Held) and other.leader == "a", 2, "renewed")
        leader = await asyncio.to_thread(lambda: world.etcd.leader)
        await asyncio.to_thread(leader.kill)
        killed = boottime()
        await until(lambda: heard.last(Held) and boottime() - killed > 0.6, 6, "held again")
        assert not any(isinstance(outcome, Gone) for outcome in heard.outcomes)
        assert (await seen(b)).lease_id == grant.lease_id, "b finds a member that answers, too"
        assert isinstance(await a.release(), Gone)
        assert await until(lambda: other.leader is None, 1.5, "b is told by a watch or by reading") < 1.5

    async def test_a_frozen_leader_of_etcd_that_wakes_up_does_not_make_the_lease_gone(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        heard = Heard(port)
        leader = await asyncio.to_thread(lambda: world.etcd.leader)
        leader.freeze()
        await until(lambda: any(m.leads() for m in world.etcd.members if m is not leader), 10, "another one leads")
        grant = None
        end = boottime() + 5
        while grant is None and boottime() < end:  # a lease that the frozen one has never heard of
            answer = await port.campaign(record("a"))
            grant = answer if isinstance(answer, Grant) else None
        assert grant is not None
        await until(lambda: heard.last(Held), 2, "renewed")
        leader.thaw()
        index = world.etcd.members.index(leader)
        for other, relay in enumerate(world.relays):
            relay.cut = other != index
            if relay.cut:
                relay.drop_all()
        await until(lambda: world.in_use(port) is world.relays[index] and heard.last(Held), 5, "renewed there")
        assert not any(isinstance(outcome, Gone) for outcome in heard.outcomes)


class TestWatch:
    async def test_a_watch_that_falls_silent_delays_a_change_by_half_a_ttl_at_most(self, world: EtcdWorld) -> None:
        for relay in world.relays:
            relay.swallow = b"Watch/Watch"
        b = await world.port("b")
        other = Heard(b)
        await asyncio.wait_for(world.in_use(b).acted.wait(), 5)
        a = await world.port("a")
        delays = []
        for _ in range(2):
            await won(a, "a")
            delays.append(await until(lambda: other.leader == "a", TIMING.poll_every + 0.3, "b reads it"))
            await a.release()
            delays.append(await until(lambda: other.leader is None, TIMING.poll_every + 0.3, "b reads it"))
        assert max(delays) > 0.3, "the watch was not silent at all: nothing was tested"

    async def test_a_change_is_told_within_milliseconds(self, world: EtcdWorld) -> None:
        a, b = await world.port("a"), await world.port("b")
        other = Heard(b)
        delays = []
        for _ in range(10):
            await won(a, "a")
            await until(lambda: other.leader == "a", 2, "b is told")
            await a.release()
            delays.append(await until(lambda: other.leader is None, 2, "b is told"))
        assert sorted(delays)[len(delays) // 2] < 0.05

    async def test_etcd_wiped_is_gone_for_the_holder_and_free_for_the_next(self, tmp_path: Path) -> None:
        with etcd_cluster(1) as etcd:
            async with world_over(etcd, tmp_path) as world:
                a, b = await world.port("a"), await world.port("b")
                heard, other = Heard(a), Heard(b)
                for n in range(20):
                    assert isinstance(await a.put_state("filler", str(n), fenced=False), Stored)
                await won(a, "a")
                await until(lambda: heard.last(Held) and other.leader == "a", 2, "renewed")
                await asyncio.to_thread(etcd.wipe)
                await until(lambda: heard.last(Gone), 5, "a is told that its lease is gone")
                await until(lambda: other.leader is None, 3, "b is told that nobody leads, at a lower revision")
                await won(b, "b")
                await until(lambda: other.leader == "b" and heard.leader == "b", 3, "both see b lead")


MEASURED = """
import asyncio, sys, time
from pathlib import Path
from ha.etcd_access import EtcdAccess
from ha.etcd_port import EtcdLease
from ha.lease import LeaderRecord

async def measure(endpoints, run_dir, hold):
    port = EtcdLease(EtcdAccess(endpoints), cluster=Path(run_dir).name, run_dir=Path(run_dir))
    await port.start()
    print(await (port.campaign(LeaderRecord("a", "i", "http://a")) if hold else port.read()), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(3)
    print(100 * (time.process_time() - cpu) / (time.monotonic() - wall), flush=True)
    began = time.monotonic()
    await port.stop()
    print(time.monotonic() - began, flush=True)

asyncio.run(measure(tuple(sys.argv[1].split(",")), sys.argv[2], sys.argv[3] == "hold"))
"""


class TestCost:
    @pytest.mark.parametrize(
        ("role", "fault"), [("hold", "none"), ("hold", "killed"), ("hold", "frozen"), ("watch", "killed")]
    )
    async def test_the_cpu_stays_below_three_percent_of_a_core(
        self, three: Cluster, tmp_path: Path, role: str, fault: str
    ) -> None:
        arguments = ["-c", MEASURED, ",".join(three.endpoints), str(tmp_path), role]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = await asyncio.wait_for(process.stdout.readline(), 20)
            assert ready.startswith((b"Grant(", b"LeaderSeen(")), ready
            for member in three.members:
                if fault == "frozen":
                    member.freeze()
                elif fault == "killed":
                    await asyncio.to_thread(member.kill)
            process.stdin.write(b"measure\n")
            percent = float(await asyncio.wait_for(process.stdout.readline(), 20))
            assert percent < 3.0
            took = float(await asyncio.wait_for(process.stdout.readline(), 20))
            assert took < 2 * TIMING.ttl + 0.5, "stop is bounded"
            assert await asyncio.wait_for(process.wait(), 5) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await asyncio.to_thread(three.restore)


async def test_a_process_that_dies_frees_the_key_within_its_ttl(world: EtcdWorld, tmp_path: Path) -> None:
    b = await world.port("b")
    other = Heard(b)
    run_dir = tmp_path / world.cluster
    os.mkdir(run_dir)
    arguments = ["-c", MEASURED.replace("Path(run_dir).name", repr(world.cluster)), ",".join(world.etcd.endpoints)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, str(run_dir), "hold", stdin=pipe, stdout=pipe
    )
    try:
        await until(lambda: other.leader == "a", 20, "a leads")
    finally:
        process.kill()
        await process.wait()
    assert await until(lambda: not other.changes[-1].taken, TIMING.ttl + 1.5, "the lease ran out") > 0.5


TOLD = """
import asyncio, sys
from pathlib import Path
from engine.clock import boottime
from ha.etcd_access import EtcdAccess
from ha.etcd_port import EtcdLease
from ha.lease import LeaderRecord

async def tell(endpoints, cluster, run_dir):
    port = EtcdLease(EtcdAccess(endpoints), cluster=cluster, run_dir=Path(run_dir))
    def say(kind, what):
        print(kind, type(what).__name__, what, "trust", port.trust_left(boottime()), flush=True)
    port.on_outcome = lambda outcome: say("outcome", outcome)
    port.on_stall = lambda seconds: say("stall", seconds)
    await port.start()
    say("answer", await port.campaign(LeaderRecord("a", "i", "http://a")))
    await asyncio.Event().wait()

asyncio.run(tell(tuple(sys.argv[1].split(",")), sys.argv[2], sys.argv[3]))
"""


@pytest.mark.rule(12)
async def test_a_process_stopped_beyond_its_allowance_wakes_up_without_trust(world: EtcdWorld, tmp_path: Path) -> None:
    b = await world.port("b")
    other = Heard(b)
    run_dir = tmp_path / world.cluster
    os.mkdir(run_dir)
    arguments = ["-c", TOLD, ",".join(world.etcd.endpoints), world.cluster, str(run_dir)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while "outcome Held" not in (await process.stdout.readline()).decode():
                pass
            process.send_signal(signal.SIGSTOP)
            await until(lambda: bool(other.changes) and not other.changes[-1].taken, 6, "the lease ran out")
            await won(b, "b")
            process.send_signal(signal.SIGCONT)
            after: list[str] = []
            expected = ("stall", "outcome Gone")
            while not after or not all(any(line.startswith(kind) for line in after) for kind in expected):
                line = (await process.stdout.readline()).decode()
                if after or "outcome Held" not in line:  # else: said before it was stopped
                    after.append(line)
        assert not any("Held" in line for line in after)
        assert all(line.rstrip().endswith("trust 0.0") for line in after), after
        assert isinstance(await b.verify(), Held)
    finally:
        process.kill()
        await process.wait()


class TestRunDirectory:
    @pytest.mark.rule(34)
    async def test_the_lease_is_on_the_disk_before_it_is_granted(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        await seen(port)
        relay = world.in_use(port)
        relay.hold = b"Lease/LeaseGrant"
        campaign = asyncio.ensure_future(port.campaign(record("a")))
        await asyncio.wait_for(relay.acted.wait(), 5)
        file = etcd_runfile.read(world.run_dir("a"))
        assert file is not None
        assert (file.cluster, file.key) == (world.cluster, leader_key(world.cluster))
        grant = await campaign
        assert isinstance(grant, Grant)
        assert grant.lease_id == file.lease_id
        assert etcd_runfile.read(world.run_dir("a")) == file, "and it stays there while it is held"
        relay.let_go.set()

    @pytest.mark.rule(34)
    async def test_no_lease_is_used_twice(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        used = set()
        for _ in range(3):
            used.add((await won(port, "a")).lease_id)
            await port.release()
        assert len(used) == 3

    async def test_without_a_place_for_the_file_nothing_is_won(self, world: EtcdWorld) -> None:
        port = await world.port("a")
        await until(lambda: port.contact().answered_at > 0, 3, "started")
        shutil.rmtree(world.run_dir("a"))  # with the id of the next lease in it
        answer = await port.campaign(record("a"))
        assert isinstance(answer, Unknown)
        assert "lease file cannot be written" in answer.reason
        assert "lease file cannot be written" in (port.contact().problem or "")
        assert not (await seen(port)).taken
