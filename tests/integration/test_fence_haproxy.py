"""The fence agent `haproxy` with a real HAProxy before the stand-in gateway: who is dropped, who survives, how fast."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.broker import Admitted, InUse
from engine.broker_ib import IbBroker
from ha.fence import Dropped, FenceAgent, FenceRule, NothingKnown, Who
from ha.fence_haproxy import Haproxy
from ha.gateway_probe import Answers, Silent, probe
from tests.integration import haproxy_fixture
from tests.integration.etcd_fixture import free_ports
from tests.integration.haproxy_fixture import Relay, raw_client, running_relay
from tests.integration.sim_fixture import Sim, running_sim, sim_process, until_answer

CLIENT_ID = 17


@contextlib.asynccontextmanager
async def gateway_and_relay(
    extra: str = "", operator: str | None = None, *, process: bool = False, **environment: str
) -> AsyncIterator[tuple[Sim, Relay]]:
    """The stand-in, in this event loop or as a process, and the relay before it."""
    async with (
        sim_process() if process else running_sim() as sim,
        running_relay(sim.port, extra, operator, **environment) as relay,
    ):
        yield sim, relay


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for UNIX sockets, whose names have at most some hundred characters."""
    with tempfile.TemporaryDirectory(prefix="relay-", dir="/tmp") as directory:
        yield Path(directory)


@contextlib.asynccontextmanager
async def broker_at(port: int) -> AsyncIterator[IbBroker]:
    """The adapter's own door to the gateway; its session is aborted at the end."""
    broker = IbBroker("127.0.0.1", port, CLIENT_ID, lambda _fact: None)
    try:
        yield broker
    finally:
        broker.abort()


async def take_over(broker: IbBroker, agent: FenceAgent, within: float = 3.0) -> float:
    """Dial and fence until admitted; seconds from the first 326, which must come."""
    loop = asyncio.get_running_loop()
    assert isinstance(await broker.connect(3), InUse)
    refused = loop.time()
    while loop.time() < refused + within:
        await agent.drop_old_session()
        if isinstance(await broker.connect(3), Admitted):
            await broker.current_time(3)  # admission counts with a round trip
            return loop.time() - refused
    pytest.fail(f"not admitted within {within} s")


async def open_sessions(sim: Sim) -> dict[int, str]:
    """Sessions that hold a clientId at the gateway: {clientId: peer}."""
    answer = await sim.call("GET", "/sessions")
    return {one["client_id"]: one["peer"] for one in answer["sessions"] if one["state"] == "open"}


@pytest.mark.rule(15)
@pytest.mark.guarantee(2)
async def test_a_frozen_leaders_session_is_dropped_and_the_next_leader_admitted():
    async with (
        gateway_and_relay(process=True) as (sim, relay),
        raw_client(relay.a, CLIENT_ID) as old,
        broker_at(relay.b) as broker,
    ):
        assert old.admitted
        old.freeze()
        assert await take_over(broker, relay.agent("b")) < 1.0
        opened, closed = await sim.journal("session_open"), await sim.journal("session_closed")
        assert [entry["client_id"] for entry in opened] == [CLIENT_ID, CLIENT_ID]
        assert closed[0]["session"] == opened[0]["session"]
        assert closed[0]["seq"] < opened[1]["seq"], "two sessions at once"


@pytest.mark.rule(15)
async def test_without_an_agent_a_frozen_leader_keeps_the_next_one_out():
    """The test above proves something only because of this one."""
    async with gateway_and_relay() as (_, relay), raw_client(relay.a, CLIENT_ID) as old, broker_at(relay.b) as broker:
        old.freeze()
        for _ in range(5):
            assert isinstance(await broker.connect(3), InUse)
            await asyncio.sleep(0.2)


@pytest.mark.rule(15)
async def test_a_session_in_an_old_worker_is_dropped_too():
    async with gateway_and_relay() as (_, relay), raw_client(relay.a, CLIENT_ID) as old, broker_at(relay.b) as broker:
        old.freeze()
        await relay.reload()
        await relay.reload()
        assert [worker.old for worker in await relay.workers()].count(True) == 1
        assert await take_over(broker, relay.agent("b")) < 1.0
        assert [session.frontend for session in await relay.sessions()] == ["gateway_b"]


@pytest.mark.rule(15)
async def test_a_worker_that_does_not_answer_costs_its_deadline_and_hides_nothing_in_the_others():
    async with gateway_and_relay() as (_, relay), raw_client(relay.a, 1) as first, raw_client(relay.b, 2):
        await relay.reload()
        (old_worker,) = [worker for worker in await relay.workers() if worker.old]
        async with raw_client(relay.a, 3) as third:
            os.kill(old_worker.pid, signal.SIGSTOP)
            try:
                agent = relay.agent("b", deadline=0.4)
                outcome = await asyncio.wait_for(agent.drop_old_session(), 2)
                assert isinstance(outcome, Dropped)
                assert [holder.address for holder in outcome.holders] == [third.address]
                again = await agent.drop_old_session()
                assert isinstance(again, NothingKnown), "who is in the old worker is not known"
                assert str(old_worker.pid) in again.reason
            finally:
                os.kill(old_worker.pid, signal.SIGCONT)
            outcome = await relay.agent("b").drop_old_session()
            assert isinstance(outcome, Dropped)
            assert first.address in [holder.address for holder in outcome.holders]


@pytest.mark.rule(15)
async def test_bystanders_survive_by_whatever_way_they_came():
    (port,) = free_ports(1)
    people = f"frontend people\n    bind 127.0.0.1:{port}\n    default_backend gateway"
    async with (
        gateway_and_relay(people) as (sim, relay),
        raw_client(relay.a, CLIENT_ID) as old,
        raw_client(port, 41) as by_another_frontend,
        broker_at(relay.b) as broker,
    ):
        direct = await sim.client(40)
        before = await open_sessions(sim)
        old.freeze()
        await take_over(broker, relay.agent("b"))
        after = await open_sessions(sim)
        assert {40: before[40], 41: before[41]} == {40: after[40], 41: after[41]}, "a bystander had to connect again"
        assert await direct.reqCurrentTimeAsync()
        assert by_another_frontend.process.returncode is None


@pytest.mark.rule(15)
async def test_what_we_have_open_ourselves_survives():
    """A probe that waits for a slow gateway while the agent drops everything else."""
    async with gateway_and_relay() as (sim, relay), raw_client(relay.a, CLIENT_ID) as old:
        await sim.fault("freeze")
        open_now: set[str] = set()
        probing = asyncio.create_task(probe("127.0.0.1", relay.b, 10, open_now=open_now))
        async with asyncio.timeout(5):
            while not {session.address for session in await relay.sessions()} & open_now:
                await asyncio.sleep(0.01)
        outcome = await relay.agent("b").drop_old_session(open_now=open_now)
        assert isinstance(outcome, Dropped)
        assert [(holder.address, holder.who) for holder in outcome.holders] == [(old.address, Who.OTHER)]
        await sim.mend("freeze")
        assert await probing == Answers(178)
        assert not open_now


@pytest.mark.rule(16)
async def test_a_stranger_at_our_own_door_is_dropped_once_and_then_named_and_left():
    async with gateway_and_relay() as (sim, relay):
        agent, rule = relay.agent("b"), FenceRule(30.0)
        async with raw_client(relay.b, CLIENT_ID):
            outcome = await agent.drop_old_session(strangers=rule.may_drop_strangers(1.0))
            assert isinstance(outcome, Dropped)
            assert [holder.who for holder in outcome.holders] == [Who.STRANGER]
            assert rule.after(outcome, 1.0) is None
        async with raw_client(relay.b, CLIENT_ID) as back_again:
            outcome = await agent.drop_old_session(strangers=rule.may_drop_strangers(2.0))
            why = rule.after(outcome, 2.0)
            assert why is not None
            assert back_again.address in why
            assert list(await open_sessions(sim)) == [CLIENT_ID]


@pytest.mark.rule(16)
async def test_our_own_earlier_connections_are_ended_and_are_no_strangers():
    async with gateway_and_relay() as (_, relay), raw_client(relay.b, CLIENT_ID) as earlier:
        earlier.freeze()
        outcome = await relay.agent("b").drop_old_session(dialed=[earlier.address], strangers=False)
        assert isinstance(outcome, Dropped)
        assert [holder.who for holder in outcome.holders] == [Who.OURSELVES]
        assert outcome.strangers == ()


@pytest.mark.rule(16)
async def test_a_holder_that_did_not_come_by_the_relay_is_not_found_and_in_the_end_held_for():
    async with gateway_and_relay() as (sim, relay), broker_at(relay.b) as broker:
        await sim.client(CLIENT_ID)
        rule = FenceRule(30.0)
        for now in (0.0, 29.0, 31.0):
            assert isinstance(await broker.connect(3), InUse)
            async with asyncio.timeout(5):
                while await relay.sessions():  # our own refused connection
                    await asyncio.sleep(0.01)
            outcome = await relay.agent("b").drop_old_session()
            assert outcome == Dropped()
            why = rule.after(outcome, now)
            assert (why is not None) is (now > 30)
        assert why is not None
        assert "directly" in why


@pytest.mark.rule(15)
async def test_a_relay_without_our_frontend_says_nothing_about_anybody():
    async with gateway_and_relay() as (_, relay):
        outcome = await relay.agent("c").drop_old_session()
        assert isinstance(outcome, NothingKnown)
        assert "no frontend gateway_c" in outcome.reason


@pytest.mark.rule(15)
async def test_the_masters_socket_may_be_a_tcp_port():
    async with gateway_and_relay() as (_, relay), raw_client(relay.a, CLIENT_ID) as old:
        outcome = await Haproxy(f"127.0.0.1:{relay.master_port}", "b").drop_old_session()
        assert isinstance(outcome, Dropped)
        assert [holder.address for holder in outcome.holders] == [old.address]


@pytest.mark.rule(15)
@pytest.mark.parametrize(
    ("address", "reason"),
    [("{worker}", "not the master's socket"), ("{operator}", "level admin"), ("{gone}", "No such file or directory")],
)
async def test_a_wrong_socket_is_a_sentence_and_never_nobody(address: str, reason: str, short_path: Path):
    places = {name: f"{short_path}/{name}" for name in ("worker", "operator", "gone")}
    extra = f"global\n    stats socket {places['worker']} level admin"
    async with gateway_and_relay(extra, operator=places["operator"]) as (_, relay), raw_client(relay.a, CLIENT_ID):
        outcome = await Haproxy(address.format(**places), "b").drop_old_session()
        assert isinstance(outcome, NothingKnown)
        assert reason in outcome.reason


@pytest.mark.rule(15)
async def test_an_agent_that_asks_during_reloads_returns_an_outcome_each_time():
    async with gateway_and_relay() as (_, relay):
        agent = relay.agent("b", pause=0.0)
        reloading = asyncio.create_task(reload_often(relay, 5))
        outcomes = []
        while not reloading.done():
            outcomes.append(await agent.drop_old_session())
        await reloading
        assert outcomes
        async with raw_client(relay.a, CLIENT_ID):
            outcome = await agent.drop_old_session()
            assert isinstance(outcome, Dropped)
            assert len(outcome.holders) == 1


async def reload_often(relay: Relay, times: int) -> None:
    for _ in range(times):
        await relay.reload()


@pytest.mark.rule(15)
async def test_no_timeout_ends_a_silent_session_and_keepalive_watches_both_legs():
    async with gateway_and_relay() as (sim, relay), raw_client(relay.a, CLIENT_ID):
        (worker,) = await relay.workers()
        (line,) = [
            one for one in (await relay.cli.ask(f"@!{worker.pid} show sess")).splitlines() if " fe=gateway_a " in one
        ]
        assert len(re.findall(",rx=(24d|23d23h),", line)) == 2, "silence of one side ends the session"
        async with asyncio.timeout(5):
            while len(left := keepalive_timers(relay.a, sim.port)) < 2:  # at first bytes wait for their acknowledgement
                await asyncio.sleep(0.02)
        assert all(0 <= seconds <= 5.1 for seconds in left)


def keepalive_timers(local: int, remote: int) -> list[float]:
    """Seconds until the next probe, for each connection from the one port or to the other with keepalive on."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        ports = [int(words[at].split(":")[1], 16) for at in (1, 2)]
        timer, when = words[5].split(":")
        if words[3] == "01" and timer == "02" and (ports[0] == local or ports[1] == remote):
            found.append(int(when, 16) / os.sysconf("SC_CLK_TCK"))
    return found


@pytest.mark.rule(14)
async def test_each_door_lets_its_own_replica_in_and_nobody_else():
    async with gateway_and_relay(RELAY_FROM_A="192.0.2.1 192.0.2.2", RELAY_FROM_B="192.0.2.1 127.0.0.1") as (_, relay):
        assert isinstance(await probe("127.0.0.1", relay.a, 3), Silent)
        assert await probe("127.0.0.1", relay.b, 3) == Answers(178)


@pytest.mark.rule(17)
async def test_a_gateway_that_is_down_behind_the_relay_is_silent_at_once():
    async with gateway_and_relay(process=True) as (sim, relay):
        assert await probe("127.0.0.1", relay.b, 3) == Answers(178)
        await sim.end()
        assert await asyncio.wait_for(probe("127.0.0.1", relay.b, 3), 1) == Silent(
            "the connection was closed before the greeting"
        )


async def test_sessions_are_gone_from_the_relay_when_their_client_is():
    """Half-closed connections do not pile up, so that the frontends' limits are never met."""
    async with gateway_and_relay() as (sim, relay):
        for _ in range(3):
            async with raw_client(relay.a, CLIENT_ID) as client:
                assert client.admitted
            await until_answer(sim, "/sessions", lambda answer: not answer["sessions"])
        async with asyncio.timeout(5):
            while await relay.sessions():
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_haproxy_ci_fails_and_a_users_machine_skips_with_the_command_that_gets_it(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(haproxy_fixture, "ALSO_LOOKED_IN", "")
    with pytest.raises(outcome, match="apt-get install -y --no-upgrade haproxy"):
        haproxy_fixture.haproxy_binary()
