"""What every implementation of the lease port must do. A second one inherits `LeaseContract` and gives it a `world`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import pytest

from engine.clock import boottime
from ha.lease import (
    Gone,
    Grant,
    Held,
    LeaderRecord,
    LeaderSeen,
    LeasePort,
    LeaseTiming,
    Lost,
    Outcome,
    Refused,
    StateSeen,
    Stored,
    Unknown,
)

TIMING = LeaseTiming()


class World(Protocol):
    """Where leases live, with the faults that the contract needs."""

    async def port(self, name: str) -> LeasePort:
        """A started port of one more replica of the same cluster; the world stops it."""

    async def revoke(self, lease_id: int) -> None:
        """End a lease behind its holder's back."""

    async def put(self, text: str) -> None:
        """Write the leader key by hand, without a lease."""

    async def cut(self) -> None:
        """From now on nobody is answered."""

    async def mend(self) -> None:
        """The reverse of `cut`."""


def record(name: str, **changes: object) -> LeaderRecord:
    fields = {"name": name, "instance": f"instance-{name}", "url": f"http://{name}", "version": "1"} | changes
    return LeaderRecord(**fields)  # type: ignore[arg-type]


async def until(true: Callable[[], bool], within: float, what: str) -> float:
    """Wait for a condition, return the seconds that it took; AssertionError names it when it does not come true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


class Heard:
    """What a port called back."""

    def __init__(self, port: LeasePort) -> None:
        self.outcomes: list[Outcome] = []
        self.changes: list[LeaderSeen] = []
        self.stalls: list[float] = []
        port.on_outcome = self.outcomes.append
        port.on_change = self.changes.append
        port.on_stall = self.stalls.append

    def last(self, kind: type[Outcome]) -> bool:
        return bool(self.outcomes) and isinstance(self.outcomes[-1], kind)

    @property
    def leader(self) -> str | None:
        seen = self.changes[-1].record if self.changes else None
        return seen.name if seen is not None else None


async def won(port: LeasePort, name: str) -> Grant:
    answer = await port.campaign(record(name))
    assert isinstance(answer, Grant), answer
    return answer


async def seen(port: LeasePort) -> LeaderSeen:
    answer = await port.read()
    assert isinstance(answer, LeaderSeen), answer
    return answer


class LeaseContract:
    """Inherit as `Test…`, with a fixture `world`."""

    async def test_a_free_key_is_won_and_shows_the_record_under_the_lease(self, world: World) -> None:
        port = await world.port("a")
        assert not (await seen(port)).taken
        grant = await won(port, "a")
        now = await seen(port)
        assert now.record == record("a", lease_id=grant.lease_id)
        assert (now.lease_id, now.create_revision, now.cluster_id) == (
            grant.lease_id,
            grant.create_revision,
            grant.cluster_id,
        )

    async def test_who_campaigns_for_a_taken_key_loses_and_sees_whose_it_is(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        grant = await won(a, "a")
        answer = await b.campaign(record("b"))
        assert isinstance(answer, Lost)
        assert answer.seen.lease_id == grant.lease_id
        assert answer.seen.record == record("a", lease_id=grant.lease_id)
        assert b.trust_left(boottime()) == 0

    async def test_of_two_campaigners_at_once_exactly_one_wins(self, world: World) -> None:
        ports = [await world.port("a"), await world.port("b")]
        for _ in range(20):
            answers = await asyncio.gather(*(port.campaign(record(n)) for port, n in zip(ports, "ab", strict=True)))
            winners = [port for port, answer in zip(ports, answers, strict=True) if isinstance(answer, Grant)]
            assert len(winners) == 1, answers
            assert sum(isinstance(answer, Lost) for answer in answers) == 1, answers
            assert isinstance(await winners[0].release(), Gone)

    async def test_a_held_lease_outlives_its_ttl_and_trust_never_exceeds_ttl_less_margin(self, world: World) -> None:
        port = await world.port("a")
        heard = Heard(port)
        grant = await won(port, "a")
        end = boottime() + 1.5 * TIMING.ttl
        while boottime() < end:
            assert 0 < port.trust_left(boottime()) <= grant.ttl - TIMING.margin
            await asyncio.sleep(0.02)
        assert (await seen(port)).lease_id == grant.lease_id
        assert all(isinstance(outcome, Held) and outcome.lease_id == grant.lease_id for outcome in heard.outcomes)
        assert len(heard.outcomes) >= 1.5 * TIMING.ttl / TIMING.renew_every - 1

    async def test_release_frees_the_key_at_once_and_the_other_is_told(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        heard = Heard(b)
        await won(a, "a")
        await until(lambda: heard.leader == "a", 2, "b sees a lead")
        assert isinstance(await a.release(), Gone)
        assert a.trust_left(boottime()) == 0
        assert await until(lambda: heard.leader is None, 2, "b sees nobody lead") < 0.25
        await won(b, "b")

    async def test_releasing_nothing_is_gone_and_harms_nobody(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        grant = await won(a, "a")
        assert isinstance(await b.release(), Gone)
        assert (await seen(b)).lease_id == grant.lease_id

    @pytest.mark.rule(13)
    async def test_verify_is_held_for_the_holder_and_gone_for_everybody_else(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        grant = await won(a, "a")
        held = await a.verify()
        assert isinstance(held, Held)
        assert held.lease_id == grant.lease_id
        assert held.trusted_until > grant.trusted_until
        assert isinstance(await b.verify(), Gone)
        await a.release()
        assert isinstance(await a.verify(), Gone)

    async def test_a_lease_revoked_from_outside_is_gone_before_its_trust_ends(self, world: World) -> None:
        port = await world.port("a")
        heard = Heard(port)
        grant = await won(port, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        await world.revoke(grant.lease_id)
        assert await until(lambda: heard.last(Gone), 2, "told that it is gone") <= TIMING.renew_every + 0.2
        assert port.trust_left(boottime()) == 0
        assert isinstance(await port.verify(), Gone)

    @pytest.mark.rule(30)
    async def test_take_over_replaces_exactly_the_lease_that_was_seen(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        heard = Heard(a)
        first = await won(a, "a")
        expected = await seen(b)
        second = await b.take_over(expected, record("b"))
        assert isinstance(second, Grant)
        now = await seen(b)
        assert now.record == record("b", lease_id=second.lease_id)
        assert now.lease_id == second.lease_id != first.lease_id
        await until(lambda: heard.last(Gone), 2, "the old holder is told")
        assert isinstance(await b.verify(), Held)

    @pytest.mark.rule(30)
    async def test_take_over_of_a_lease_that_changed_hands_meanwhile_is_lost(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        await won(a, "a")
        expected = await seen(b)
        await a.release()
        assert isinstance(await b.take_over(expected, record("b")), Lost), "the key is free: a campaign's business"
        fresh = await won(a, "a")
        answer = await b.take_over(expected, record("b"))
        assert isinstance(answer, Lost)
        assert answer.seen.lease_id == fresh.lease_id
        assert isinstance(await a.verify(), Held)

    async def test_the_holder_rewrites_its_record_and_nobody_else_does(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        grant = await won(a, "a")
        assert isinstance(await a.announce(record("a", epoch=7)), Held)
        assert isinstance(await b.announce(record("b", epoch=8)), Gone)
        now = await seen(b)
        assert now.record == record("a", epoch=7, lease_id=grant.lease_id)
        assert now.create_revision == grant.create_revision
        assert isinstance(await a.verify(), Held)

    async def test_a_key_that_is_not_a_record_counts_as_taken_and_says_what_is_wrong(self, world: World) -> None:
        port = await world.port("a")
        await world.put("by hand")
        answer = await port.campaign(record("a"))
        assert isinstance(answer, Lost)
        assert answer.seen.taken
        assert answer.seen.record is None
        assert "not JSON" in (answer.seen.problem or "")

    async def test_small_values_are_written_only_at_the_revision_that_was_expected(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        assert await a.get_state("budget") == StateSeen(None, 0)
        first = await a.put_state("budget", "1", expect=0, fenced=False)
        assert isinstance(first, Stored)
        assert isinstance(await b.put_state("budget", "2", expect=0, fenced=False), Refused)
        second = await b.put_state("budget", "2", expect=first.revision, fenced=False)
        assert isinstance(second, Stored)
        assert await a.get_state("budget") == StateSeen("2", second.revision)

    async def test_fenced_values_are_written_by_the_holder_only(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        await won(a, "a")
        assert isinstance(await b.put_state("copy", "b"), Refused)
        assert isinstance(await a.put_state("copy", "a"), Stored)
        assert isinstance(await b.take_over(await seen(b), record("b")), Grant)
        assert isinstance(await a.put_state("copy", "late"), Refused)
        value = await a.get_state("copy")
        assert isinstance(value, StateSeen)
        assert value.value == "a"

    async def test_a_cancelled_campaign_gives_back_what_it_wins(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        for turns in range(12):
            task = asyncio.ensure_future(a.campaign(record("a")))
            await asyncio.sleep(0.001 * turns)
            if not task.cancel():
                await a.release()
            await asyncio.wait([task])
            if not task.cancelled():
                await a.release()
            await until(lambda: a.trust_left(boottime()) == 0, 1, "a holds nothing")
            end = boottime() + 1
            while not isinstance(await b.campaign(record("b")), Grant):
                assert boottime() < end, "the key stayed with a campaign that nobody waits for"
            await b.release()

    async def test_stop_leaves_the_key_free(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        await won(a, "a")
        await a.stop()
        assert not (await seen(b)).taken

    @pytest.mark.rule(12)
    async def test_a_loop_that_stands_still_beyond_its_allowance_loses_the_lease(self, world: World) -> None:
        a, b = await world.port("a"), await world.port("b")
        heard = Heard(a)
        grant = await won(a, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        stood = TIMING.loop_allowance + 0.4
        time.sleep(stood)  # noqa: ASYNC251 - the hang is what is tested
        assert a.loop_stalled_for(boottime()) > TIMING.loop_allowance, "seen by who runs before the next tick"
        await until(lambda: bool(heard.stalls), 0.3, "told of the stall")
        assert heard.stalls[0] == pytest.approx(stood, abs=0.2)
        assert a.trust_left(boottime()) == 0
        await until(lambda: heard.last(Gone), 1, "told that the lease may not be used")
        assert isinstance(await a.verify(), Gone)
        assert (await seen(b)).lease_id == grant.lease_id, "given back by who stops acting first, not behind its back"
        assert isinstance(await a.release(), Gone)
        assert not (await seen(b)).taken

    @pytest.mark.rule(12)
    async def test_nothing_is_renewed_while_the_loop_hangs(self, world: World) -> None:
        a = await world.port("a")
        heard = Heard(a)
        grant = await won(a, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        time.sleep(grant.ttl + 1.2)  # noqa: ASYNC251 - the hang is what is tested
        assert not (await seen(a)).taken, "the lease ran out during the hang"

    async def test_without_an_answer_the_outcome_is_unknown_and_trust_runs_out(self, world: World) -> None:
        a = await world.port("a")
        heard = Heard(a)
        grant = await won(a, "a")
        await until(lambda: heard.last(Held), 2, "renewed")
        await world.cut()
        await until(lambda: heard.last(Unknown), TIMING.ttl, "told that it is unknown")
        await until(lambda: a.trust_left(boottime()) == 0, TIMING.ttl, "trust runs out")
        assert isinstance(await a.read(), Unknown)
        assert isinstance(await a.verify(), Unknown)
        assert isinstance(await a.campaign(record("a")), Unknown)
        began = time.monotonic()
        assert isinstance(await a.get_state("x"), Unknown)
        assert isinstance(await a.put_state("x", "y", fenced=False), Unknown)
        assert time.monotonic() - began < 4 * TIMING.ttl
        assert not any(isinstance(outcome, Gone) for outcome in heard.outcomes)
        await world.mend()
        await until(lambda: not heard.last(Unknown), 5, "answered again")
        assert (await seen(a)).lease_id in (grant.lease_id, 0)
