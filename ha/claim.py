"""The claim of the next epoch: one statement in PostgreSQL, and what may stand in its way (R10, R11, R31)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from engine.clock import Clock
from engine.commit import Committer
from engine.store import LOCK_TIMEOUT, Connection, Refused, StoreError, Unknown
from ha.lease import Grant, LeaderRecord, LeasePort
from ha.phase import TermOver
from ha.shared_state import Memory, foretell
from ha.term import Phases


def term_row(phases: Phases, me: LeaderRecord, grant: Grant | None) -> dict[str, Any]:
    """What the term's row in the history says of who claims, and why."""
    return {
        "kind": phases.kind, "reason": phases.reason, "from_name": phases.from_name, "to_name": me.name,
        "instance": me.instance, "url": me.url, "version": me.version,
        "etcd_cluster_id": grant.cluster_id if grant is not None else None,
    }  # fmt: skip


async def foretold(lease: LeasePort, seen: int, check: Callable[[], None]) -> Memory:
    """R18: etcd knows the epoch before it is claimed: a database that loses the claim cannot give it a second time.

    Returns what etcd remembers of the ledger. `check` raises TermOver when the lease is over before etcd has answered.
    """
    while (memory := await foretell(lease, seen)) is None:
        check()
        await asyncio.sleep(0.05)
    return memory


async def claim_epoch(
    connection: Connection, *, expected: int, at_least: int, term: dict[str, Any], deadline: float, clock: Clock
) -> int:
    """The new epoch, above `at_least`, if the present one is `expected`. Raises TermOver; an answer that was lost is one too.

    The statement waits a bounded time for transactions in flight; whoever writes under an older epoch for longer is ended.
    """
    parameters = {"expected": expected, "at_least": at_least, "term": json.dumps(term)}
    while True:
        try:
            [row] = await connection.run("claim", parameters)
            return int(row["epoch"])
        except Refused as refused:
            if refused.sqlstate != LOCK_TIMEOUT:
                raise TermOver(f"the claim was refused: {refused}") from refused
            if clock() > deadline:
                raise TermOver("the claim waited too long for transactions in flight") from refused
            await _end_older_writers(connection, expected)
        except Unknown as error:
            raise TermOver(f"the claim's answer was lost: {error}") from error


async def _end_older_writers(connection: Connection, epoch: int) -> None:
    """R11: no transaction holds the claim up for ever, be it a frozen leader's or that of an `adapter rebuild`."""
    try:
        await connection.run("end_older_writers", {"epoch": epoch})
        await connection.run("end_rebuild")
    except StoreError as error:
        raise TermOver(f"older writers could not be ended: {error}") from error


async def is_where_the_last_term_was(connection: Connection, place: tuple[str, str] | None) -> bool:
    """R18: whether this server and timeline are those of the last term: a promoted copy may lack what it wrote last."""
    try:
        rows = await connection.run("last_term")
    except StoreError as error:
        raise TermOver(f"the database went away before the claim: {error}") from error
    return not rows or (rows[0]["system_identifier"], rows[0]["timeline"]) == place


def new_gateway_sentence(moved: dict[str, str]) -> str:
    """R14: why everything is held after the gateway has changed."""
    return f"the gateway was {moved['was']} and is {moved['is']} now: confirm that {moved['was']} is off"


def speaks_of_new_gateway(why: object) -> bool:
    """Whether this is the sentence of a gateway that has changed, this time or one before."""
    return isinstance(why, str) and why.startswith("the gateway was ") and ": confirm that " in why


def other_etcd_sentence(last: str | None, mine: str | None, *, proven_lately: bool) -> str | None:
    """R32: two etcds after a restore each grant "the" lease; the one that the last term did not use has to wait."""
    if last is None or last == mine or not proven_lately:
        return None
    return f"etcd cluster {mine} gave the lease, the present leader has {last}'s and proves its epoch (R32)"


async def prove(committer: Committer) -> None:
    """R13: a commit under the epoch, before every attempt to connect and every use of the fence agent; waits while the database
    is away. Raises TermOver when fenced."""
    while True:
        try:
            await committer.prove_now()
        except Refused as refused:
            raise TermOver(f"fenced: {refused}") from refused
        except Unknown:
            await asyncio.sleep(0.1)  # the database is away: no attempt without a proof
        else:
            return
