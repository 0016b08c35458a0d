"""The lease of a replica without a pair: the contract, as far as one process can be asked for it, and its directory."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.clock import boottime
from ha import etcd_runfile
from ha.lease import Gone, Grant, Held, Lost, Refused, StateSeen, Stored, Unknown
from ha.lease_single import SingleLease
from ha.single_file import LOCK, VALUES
from tests.integration.lease_contract import TIMING, Heard, LeaseContract, record, seen, until, won


class OneProcess:
    """The world of a replica without a pair: there is one port, and nobody behind its back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ports: list[SingleLease] = []

    async def port(self, name: str) -> SingleLease:
        port = SingleLease(self.directory)
        self._ports.append(port)
        await port.start()
        return port

    async def revoke(self, lease_id: int) -> None:
        raise NotImplementedError("nobody else could")

    async def put(self, text: str) -> None:
        raise NotImplementedError("nobody else could")

    async def cut(self) -> None:
        raise NotImplementedError("nobody is asked")

    async def mend(self) -> None:
        raise NotImplementedError("nobody is asked")

    async def stop(self) -> None:
        for port in self._ports:
            await port.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OneProcess]:
    world = OneProcess(tmp_path)
    yield world
    await world.stop()


def does_not_apply(_why: str) -> None:
    """A case of the contract that one process cannot meet; the name is taken away from the collection."""


class TestOneProcessKeepsTheContract(LeaseContract):
    """Kept as they are: a free key is won, a held lease outlives its ttl, nothing is renewed while the loop hangs."""

    # Two campaigners: the second port is refused at `start` already (see below).
    test_who_campaigns_for_a_taken_key_loses_and_sees_whose_it_is = does_not_apply("needs a second port")
    test_of_two_campaigners_at_once_exactly_one_wins = does_not_apply("needs a second port")
    test_release_frees_the_key_at_once_and_the_other_is_told = does_not_apply("needs a second port")
    test_releasing_nothing_is_gone_and_harms_nobody = does_not_apply("needs a second port; half of it below")
    test_verify_is_held_for_the_holder_and_gone_for_everybody_else = does_not_apply("half of it below")
    test_take_over_replaces_exactly_the_lease_that_was_seen = does_not_apply("there is nobody to take it from")
    test_take_over_of_a_lease_that_changed_hands_meanwhile_is_lost = does_not_apply("it changes hands never")
    test_the_holder_rewrites_its_record_and_nobody_else_does = does_not_apply("half of it below")
    test_small_values_are_written_only_at_the_revision_that_was_expected = does_not_apply("half of it below")
    test_fenced_values_are_written_by_the_holder_only = does_not_apply("half of it below")
    test_a_cancelled_campaign_gives_back_what_it_wins = does_not_apply("it waits for nothing, so it is never cancelled")
    test_stop_leaves_the_key_free = does_not_apply("half of it below")
    test_a_loop_that_stands_still_beyond_its_allowance_loses_the_lease = does_not_apply("half of it below")
    # Nothing stands between the port and the place where the lease lives.
    test_a_lease_revoked_from_outside_is_gone_before_its_trust_ends = does_not_apply("nobody else can revoke it")
    test_a_key_that_is_not_a_record_counts_as_taken_and_says_what_is_wrong = does_not_apply("nobody else writes it")
    test_without_an_answer_the_outcome_is_unknown_and_trust_runs_out = does_not_apply("nobody is asked")


async def test_a_second_campaign_of_the_holder_is_lost_to_itself(world: OneProcess) -> None:
    port = await world.port("a")
    grant = await won(port, "a")
    again = await port.campaign(record("a"))
    assert isinstance(again, Lost)
    assert again.seen.lease_id == grant.lease_id
    assert isinstance(await port.take_over(again.seen, record("b")), Lost)
    assert isinstance(await port.verify(), Held)


@pytest.mark.rule(13)
async def test_verify_is_held_while_something_is_held_and_extends_the_trust(world: OneProcess) -> None:
    port = await world.port("a")
    assert isinstance(await port.verify(), Gone)
    grant = await won(port, "a")
    held = await port.verify()
    assert isinstance(held, Held)
    assert held.lease_id == grant.lease_id
    assert held.trusted_until > grant.trusted_until
    assert isinstance(await port.release(), Gone)
    assert isinstance(await port.verify(), Gone)
    assert port.trust_left(boottime()) == 0


async def test_what_happens_to_the_key_is_told(world: OneProcess) -> None:
    port = SingleLease(world.directory)
    heard = Heard(port)
    await port.start()
    try:
        await until(lambda: bool(heard.changes), 1, "told of the free key")
        assert not heard.changes[-1].taken
        await won(port, "a")
        assert isinstance(await port.announce(record("a", epoch=7)), Held)
        await until(lambda: heard.leader == "a", 1, "told of the lead")
        assert (await seen(port)).record == record("a", epoch=7, lease_id=heard.changes[-1].lease_id)
        await port.release()
        await until(lambda: heard.leader is None, 1, "told of the end")
        assert isinstance(await port.announce(record("a")), Gone)
        assert heard.outcomes == [o for o in heard.outcomes if isinstance(o, Held)], "a release is no surprise"
        known = len(heard.changes)
    finally:
        await port.stop()
    await asyncio.sleep(0.2)
    assert len(heard.changes) == known, "nothing is called back after the stop"


@pytest.mark.rule(12)
async def test_a_loop_that_stands_still_beyond_its_allowance_loses_the_lease(world: OneProcess) -> None:
    port = await world.port("a")
    heard = Heard(port)
    grant = await won(port, "a")
    await until(lambda: heard.last(Held), 2, "renewed")
    stood = TIMING.loop_allowance + 0.4
    time.sleep(stood)  # noqa: ASYNC251 - the hang is what is tested
    assert isinstance(await port.verify(), Gone), "also before the tick that notices it"
    await until(lambda: bool(heard.stalls), 0.3, "told of the stall")
    assert heard.stalls[0] == pytest.approx(stood, abs=0.2)
    assert port.trust_left(boottime()) == 0
    await until(lambda: heard.last(Gone), 1, "told that the lease may not be used")
    assert (await seen(port)).lease_id == grant.lease_id, "given back by who stops acting first"
    assert isinstance(await port.release(), Gone)
    assert not (await seen(port)).taken
    assert isinstance(await port.campaign(record("a")), Grant)


async def test_small_values_outlive_the_process_and_are_written_only_as_expected(world: OneProcess) -> None:
    first = await world.port("a")
    assert await first.get_state("budget") == StateSeen(None, 0)
    stored = await first.put_state("budget", "1", expect=0, fenced=False)
    assert isinstance(stored, Stored)
    assert isinstance(await first.put_state("budget", "2", expect=0, fenced=False), Refused)
    assert isinstance(await first.put_state("ledger", "x"), Refused), "fenced, and nothing is held"
    grant = await won(first, "a")
    assert isinstance(await first.put_state("ledger", "x"), Stored)
    await first.stop()
    second = await world.port("a")
    assert await second.get_state("budget") == StateSeen("1", stored.revision)
    assert isinstance(await second.get_state("ledger"), StateSeen)
    again = await won(second, "a")
    assert again.cluster_id == grant.cluster_id, "the same place: the last term's own etcd, so to speak (R32)"
    assert again.lease_id != grant.lease_id


async def test_values_at_once_are_all_kept(world: OneProcess) -> None:
    port = await world.port("a")
    answers = await asyncio.gather(*(port.put_state(f"k{n}", str(n), fenced=False) for n in range(20)))
    assert len({answer.revision for answer in answers if isinstance(answer, Stored)}) == 20
    await port.stop()
    after = await world.port("a")
    assert [await after.get_state(f"k{n}") for n in range(20)] == [
        StateSeen(str(n), answer.revision) for n, answer in enumerate(answers) if isinstance(answer, Stored)
    ]


async def test_a_directory_that_cannot_be_written_is_unknown_and_shown(world: OneProcess) -> None:
    port = await world.port("a")
    (world.directory / f".{VALUES}.new").mkdir()
    answer = await port.put_state("k", "v", fenced=False)
    assert isinstance(answer, Unknown)
    assert "cannot be written" in answer.reason
    assert port.contact().problem == answer.reason
    (world.directory / f".{VALUES}.new").rmdir()
    assert isinstance(await port.put_state("k", "v", fenced=False), Stored)
    assert port.contact().problem is None


async def test_two_on_one_directory_are_refused_with_a_sentence(world: OneProcess) -> None:
    port = await world.port("a")
    with pytest.raises(RuntimeError, match=rf"in use by another `adapter run --single` \(pid {os.getpid()}\)"):
        await world.port("b")
    await port.stop()
    await world.port("b")


async def test_the_lock_goes_with_the_process_however_it_ends(world: OneProcess) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ha.single_file import RunDir\n"
        "RunDir(Path(sys.argv[1])).take(); print('held', flush=True); time.sleep(60)"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(world.directory), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert await asyncio.wait_for(other.stdout.readline(), 10) == b"held\n"
        with pytest.raises(RuntimeError, match=rf"\(pid {other.pid}\)"):
            await world.port("a")
    finally:
        other.kill()
        await other.wait()
    await world.port("a")


async def test_a_damaged_file_is_refused_and_not_forgotten(world: OneProcess) -> None:
    (world.directory / VALUES).write_text('{"place": "x"')
    with pytest.raises(RuntimeError, match="is damaged"):
        await world.port("a")
    with pytest.raises(RuntimeError, match="is damaged"):  # not: in use
        await world.port("a")
    assert (world.directory / LOCK).exists()


async def test_a_lease_file_of_a_pairs_time_is_taken_away(world: OneProcess) -> None:
    (world.directory / etcd_runfile.NAME).write_text("{}")
    await world.port("a")
    assert etcd_runfile.read(world.directory) is None, "`adapter release` has nothing to give back"
