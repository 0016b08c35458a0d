"""`adapter rebuild`: the log replayed from its first event, in files and in the database, by the fold that everybody uses.

`--verify` compares what it gives with everything that was derived from the log: the leader's digest, checkpoints, the digests of
archived parts, the tables that people query, and the keys. Without it the tables are written anew, in one transaction.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.digest import DIGEST_VERSION, written
from engine.events import Event, Kind
from engine.projection import take_rows
from engine.store import Row
from ha.ledger_log import Log, Progress

_PAGE = 2000
_LOOKS = 3  # a projection of several batches may be under way: the tables are looked at again before they are called different
_SHOWN = 20
_NAMES = {"orders": ("id",), "executions": ("account", "root"), "positions": ("account", "con_id"), "breaks": ("id",)}
_NEW_KEYS = frozenset({Kind.ORDER_ACCEPTED, Kind.ORDER_EXTERNAL, Kind.ORDER_RESTORED})

Key = tuple[Any, ...]


@dataclass(slots=True)
class Report:
    """What was replayed, and what is different from it."""

    seq: int = 0
    digest: str = ""
    compared: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "seq": self.seq, "digest": self.digest, "equal": not self.differences, "compared": self.compared,
            "differences": self.differences, "rows": self.rows,
        }  # fmt: skip


class Replay:
    """The log folded from its beginning, with every row and key that it gives: also of what the book has let go of."""

    def __init__(self, log: Log, say: Progress) -> None:
        self._log, self._say = log, say
        self.book = log.empty_book()
        self.tables: dict[str, dict[Key, Row]] = {name: {} for name in _NAMES}
        self.order_keys: set[Key] = set()
        self.execution_keys: set[Key] = set()
        self.digests: dict[int, str] = {}
        self._wanted: set[int] = set()

    async def to(self, seq: int, remember: set[int] | None = None) -> None:
        """Fold on to `seq`; the digests at the events of `remember` are kept. Raises LedgerProblem, BadArchive, StoreError."""
        self._wanted |= remember or set()
        await self._log.fold(self.book, seq, self._folded)
        self._take()

    def _folded(self, event: Event) -> None:
        if event.seq in self._wanted:
            self.digests[event.seq] = written(self.book.digest)
        if event.kind in _NEW_KEYS:
            self.order_keys.add((event.order_id, event.subject, event.payload.get("client_order_id")))
        elif event.kind == Kind.EXECUTION:
            p = event.payload
            self.execution_keys.add((p["account"], p["root"], int(p["revision"])))
        if event.seq % 1000 == 0:
            self._take()

    def _take(self) -> None:
        for name, rows in take_rows(self.book).items():
            self.tables[name].update({tuple(row[part] for part in _NAMES[name]): row for row in rows})


async def verify(log: Log, say: Progress) -> Report:
    """Compare everything that is derived from the log with the log. Raises LedgerProblem, BadArchive, StoreError."""
    report, replay = Report(), Replay(log, say)
    [proof] = await log.run("proof")
    points = [c for c in await log.run("checkpoints") if c["digest_version"] == DIGEST_VERSION]
    parts = [p for p in await log.parts() if p.digest is not None and p.last_seq is not None]
    wanted = {proof["seq"], *(c["seq"] for c in points), *(p.last_seq for p in parts if p.last_seq)}
    for look in range(_LOOKS):
        await log.run("begin_snapshot")
        try:
            [[projected], [head]] = [await log.run("projected"), await log.run("log_head")]
            await replay.to(projected["seq"], wanted)
            different = await _tables(log, replay, say)
            if not different or look == _LOOKS - 1:
                await replay.to(head["head"])
                different += await _keys(log, replay)
                break
        finally:
            await log.run("commit")
        await asyncio.sleep(1.0)
    report.differences = different
    report.compared = ["tables", "keys"]
    told = [(proof["seq"], proof["digest"], "the leader's proof")]
    told += [(c["seq"], c["digest"], "a checkpoint") for c in points]
    told += [(p.last_seq, p.digest, f"the archived part {p.name}") for p in parts]
    _digests(report, replay, told)
    report.seq, report.digest = replay.book.seq, written(replay.book.digest)
    report.rows = {name: len(rows) for name, rows in replay.tables.items()}
    return report


def _digests(report: Report, replay: Replay, told: list[tuple[Any, Any, str]]) -> None:
    for seq, digest, whose in told:
        if seq in replay.digests and str(digest).startswith(f"{DIGEST_VERSION}:"):
            report.compared.append(f"{whose} at event {seq}")
            if replay.digests[seq] != digest:
                report.differences.append(
                    f"at event {seq} the log gives the digest {replay.digests[seq]}, {whose} says {digest}"
                )


async def rewrite(log: Log, say: Progress) -> Report:
    """Write the tables anew from the log, at the event where the log ends. Raises LedgerProblem, BadArchive, StoreError.

    The log is replayed first; then the tables are held for as long as it takes to write them, and the leader's projector waits.
    """
    replay = Replay(log, say)
    [head] = await log.run("log_head")
    await replay.to(head["head"])
    [present] = await log.run("epoch")
    epoch = present["epoch"]
    await log.run("name_epoch", {"epoch": epoch})
    await log.run("end_me_when_idle")
    await log.run("begin")
    try:
        await log.run("hold_tables")
        [[head], [projected]] = [await log.run("log_head"), await log.run("projected")]
        await replay.to(head["head"])
        await log.run("empty_tables")
        queue = [(name, row) for name, rows in replay.tables.items() for row in rows.values()]
        for start in range(0, max(len(queue), 1), _PAGE):
            rows: dict[str, list[Row]] = {name: [] for name in _NAMES}
            for name, row in queue[start : start + _PAGE]:
                rows[name].append(row)
            say(f"writing row {start} of {len(queue)}")
            where = max(replay.book.seq, projected["seq"])
            await log.run("project", {"epoch": epoch, "rows": json.dumps(rows), "seq": where})
        await log.note("rebuild", seq=replay.book.seq)
    except BaseException:
        await log.run("rollback")
        raise
    await log.run("commit")
    return Report(
        replay.book.seq, written(replay.book.digest), rows={name: len(rows) for name, rows in replay.tables.items()}
    )


async def write_checkpoint(log: Log, say: Progress) -> Row | None:
    """A checkpoint of this version's form, from the log's first event, whatever stands there; None while no event is proven.

    Raises LedgerProblem, BadArchive, StoreError.
    """
    say("replaying the log")
    return await log.keep_checkpoint(log.empty_book(), anew=True)


# ---- comparing


async def _tables(log: Log, replay: Replay, say: Progress) -> list[str]:
    found = []
    for name, parts in _NAMES.items():
        say(f"comparing {name}")
        ours = dict(replay.tables[name])
        async for row in _every_row(log, name):
            key = tuple(row[part] for part in parts)
            mine = ours.pop(key, None)
            if mine is None:
                found.append(f"{name}: the table has {_shown(key)}, the log does not give it")
            elif wrong := [column for column in mine if not _same(mine[column], row[column])]:
                what = ", ".join(f"{column} is {row[column]} and should be {mine[column]}" for column in wrong[:3])
                found.append(f"{name}: of {_shown(key)} {what}")
        found += [f"{name}: {_shown(key)} is missing in the table" for key in ours]
    return found[:_SHOWN] + ([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, Decimal) and ours is not None:
        return Decimal(ours) == theirs
    if isinstance(theirs, datetime) and ours is not None:
        return datetime.fromisoformat(ours) == theirs
    return bool(ours == theirs)


def _shown(key: Key) -> str:
    return "/".join(map(str, key))


async def _every_row(log: Log, name: str) -> AsyncIterator[Row]:
    if name == "positions":
        for row in await log.run("all_positions"):
            yield row
    elif name == "executions":
        async for row in _pages(log, "page_of_executions", {"account": "", "root": ""}, lambda r: r):
            yield row
    else:
        async for row in _pages(log, f"page_of_{name}", {"after": ""}, lambda r: {"after": r["id"]}):
            yield row


async def _keys(log: Log, replay: Replay) -> list[str]:
    theirs: set[Key] = set()
    async for row in _pages(log, "page_of_order_keys", {"after": ""}, lambda r: {"after": r["order_id"]}):
        theirs.add((row["order_id"], row["user_id"], row["client_order_id"]))
    found = _both_ways("order key", replay.order_keys, theirs)
    theirs = set()
    start = {"account": "", "root": "", "revision": -1}
    async for row in _pages(log, "page_of_execution_keys", start, lambda r: r):
        theirs.add((row["account"], row["root"], row["revision"]))
    return found + _both_ways("execution key", replay.execution_keys, theirs)


def _both_ways(what: str, ours: set[Key], theirs: set[Key]) -> list[str]:
    found = [f"the {what} {_shown(key)} is missing" for key in sorted(ours - theirs, key=str)[:_SHOWN]]
    return found + [f"the {what} {_shown(key)} is in no event" for key in sorted(theirs - ours, key=str)[:_SHOWN]]


async def _pages(
    log: Log, query: str, start: Mapping[str, Any], after: Callable[[Row], Mapping[str, Any]]
) -> AsyncIterator[Row]:
    where = dict(start)
    while rows := await log.run(query, {**where, "limit": _PAGE}):
        for row in rows:
            yield row
        where = {name: value for name, value in after(rows[-1]).items() if name in start}
