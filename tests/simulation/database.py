"""PostgreSQL with the ledger's schema, as far as its named statements reach: the fence, the gate that a claim waits for, the dense
log, keys that are used once, backends that can be ended, commits whose answer is lost. Every write is one transaction.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from engine.book import Book
from engine.events import event_of
from engine.store import EPOCH_MOVED, FENCED, LOCK_TIMEOUT, Refused, Row
from tests.simulation.gate import Gate
from tests.simulation.world import World

HOLE, TAKEN, DUPLICATE = "PA003", "PA005", "23505"
CLAIM_WAITS = 0.2
KEYED = frozenset({"order_accepted", "order_external", "order_restored"})

Params = dict[str, Any]


class Whole(Book):
    """A book that lets nothing go, whatever bound the log names."""

    def evict(self) -> tuple[str, ...]:
        return ()


@dataclass(eq=False, slots=True)
class Backend:
    """A connection's process on the server."""

    pid: int
    replica: str
    name: str
    alive: bool = True
    work: asyncio.Task[Any] | None = None
    on_end: list[Callable[[], None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Head:
    """The rows that there is one of."""

    epoch: int = 0
    name: str | None = None
    instance: str | None = None
    proof: Row = field(
        default_factory=lambda: {"proof_epoch": 0, "beat": 0, "proof_seq": 0, "digest": "0", "state": ""}
    )


class Database:
    """The server. `execute` is one statement on one backend."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.up = True
        self.fenced = True  # a mutation takes the fence away
        self.gated = True  # another one takes the gate away: the trigger only reads the epoch
        self.epoch, self.proof = 0, _Head().proof
        self.name: str | None = None
        self.instance: str | None = None
        self.log: list[Row] = []
        self.by_order: dict[str, list[Row]] = {}
        self.place = {"system": "7001", "timeline": "00000001"}
        self.terms: dict[int, Row] = {}
        self.control: dict[str, Any] = {}
        self.commands: list[dict[str, Any]] = []  # operators' commands, as `ledger.command` has them
        self.projected = 0
        self._tables = Whole()  # what the projector wrote, folded from the log up to `projected`
        self.gate = Gate()
        self.backends: dict[int, Backend] = {}
        self._pids = 100
        self._keys: set[tuple[str | None, str | None]] = set()
        self._order_ids: set[str] = set()
        self._executions: set[tuple[str, str, int]] = set()
        self.listeners: list[Callable[[], None]] = []
        self.lost: set[str] = set()  # orders whose events were lost when the server went back in time
        self._history: list[tuple[float, int, _Head]] = []  # when a head was present, with how many events

    # ---- connections

    def connect(self, replica: str, name: str) -> Backend:
        """A new backend."""
        self._pids += 1
        backend = self.backends[self._pids] = Backend(self._pids, replica, name)
        return backend

    def end(self, backend: Backend) -> None:
        """The backend is ended: what it has not committed is rolled back, its client is told."""
        if not backend.alive:
            return
        backend.alive = False
        self.backends.pop(backend.pid, None)
        if backend.work is not None:
            backend.work.cancel()
        for tell in backend.on_end:
            tell()

    def hung_up(self, backend: Backend) -> None:
        """Its client is gone: an idle backend ends, a busy one first finishes what it does."""
        if backend.work is None:
            self.end(backend)
        else:
            backend.work.add_done_callback(lambda _: self.end(backend), context=self._world.context)

    def crash(self) -> None:
        """The server goes down; what is committed stays."""
        self.up = False
        for backend in list(self.backends.values()):
            self.end(backend)

    def come_back(self) -> None:
        """The server is up again."""
        self.up = True

    def go_back(self, seconds: float) -> None:
        """A lagging copy takes over: what was committed in the last `seconds` never happened, and the timeline is another."""
        self.crash()
        then = self._world.now - seconds
        _, events, head = next(((t, n, h) for t, n, h in reversed(self._history) if t <= then), (0.0, 0, _Head()))
        lost, self.log = self.log[events:], self.log[:events]
        self._world.judge.went_back(events)
        self.lost |= {row["order_id"] for row in lost if row["order_id"] is not None}
        self.epoch, self.name, self.instance, self.proof = head.epoch, head.name, head.instance, dict(head.proof)
        self.terms = {epoch: term for epoch, term in self.terms.items() if epoch <= self.epoch}
        self.place = self.place | {"timeline": f"{int(self.place['timeline'], 16) + 1:08X}"}
        self._history = [one for one in self._history if one[0] <= then]
        self._keys, self._order_ids, self._executions, self.by_order = set(), set(), set(), {}
        self._take_keys(self.log)
        self._note(self.log)
        self.projected = min(self.projected, events)
        self._tables = Whole()
        self._world.say("pg", f"went back {seconds:.2f} s: {len(lost)} events are lost, the epoch is {self.epoch}")

    def _keep(self) -> None:
        """Remember this moment."""
        head = _Head(self.epoch, self.name, self.instance, dict(self.proof))
        self._history.append((self._world.now, len(self.log), head))

    def _note(self, rows: list[Row]) -> None:
        for row in rows:
            if row["order_id"] is not None:
                self.by_order.setdefault(row["order_id"], []).append(row)

    # ---- statements

    def execute(self, backend: Backend, name: str, p: Params, answer: Callable[[list[Row] | Refused], None]) -> None:
        """Run one statement and give its rows, or the refusal, to `answer`. Nothing is answered by a backend that is ended."""
        read = _READS.get(name)
        if read is not None:
            answer(read(self, p))
            return
        write = _WRITES.get(name)
        if write is None:
            raise NotImplementedError(f"the simulated database does not know the statement {name!r}")
        backend.work = self._world.spawn(self._run(backend, write(self, backend, p), answer), f"pg {name}")

    async def _run(
        self, backend: Backend, work: Coroutine[Any, Any, list[Row]], answer: Callable[[list[Row] | Refused], None]
    ) -> None:
        with suppress(asyncio.CancelledError):
            try:
                result: list[Row] | Refused = await work
            except Refused as refused:
                result = refused
            backend.work = None
            if backend.alive:
                answer(result)

    async def _write(self, epoch: int, what: str, change: Callable[[], list[Row]], backend: Backend) -> list[Row]:
        """A transaction that names `epoch`: past the fence, some time, then committed at once."""
        if self.gated:
            await self.gate.take(alone=False)
        try:
            if self.fenced and epoch != self.epoch:
                raise Refused(FENCED, f"fenced: this writer names epoch {epoch}, the present one is {self.epoch}")
            await asyncio.sleep(self._world.fate.commit.draw(self._world.chance))
            self._world.judge.committed(backend.replica, epoch, what)
            result = change()
            self._keep()
            return result
        finally:
            if self.gated:
                self.gate.give_back(alone=False)

    # ---- writes

    async def claim(self, backend: Backend, p: Params) -> list[Row]:
        if self.gated and not await self.gate.take(alone=True, within=CLAIM_WAITS):
            raise Refused(LOCK_TIMEOUT, "canceling statement due to lock timeout")
        try:
            if self.epoch != p["expected"]:
                raise Refused(EPOCH_MOVED, f"the epoch is no longer {p['expected']}")
            await asyncio.sleep(self._world.fate.commit.draw(self._world.chance))
            if self.epoch != p["expected"]:
                raise Refused(EPOCH_MOVED, f"the epoch is no longer {p['expected']}")
            term = json.loads(p["term"])
            claimed = max(self.epoch, p["at_least"]) + 1
            self._world.judge.claimed(backend.replica, claimed, term["instance"])
            self.epoch, self.name, self.instance = claimed, term["to_name"], term["instance"]
            self.terms[claimed] = term | {
                "epoch": claimed, "at": self._world.wall(), "seq": len(self.log), "digest": None,
                "system_identifier": self.place["system"], "timeline": self.place["timeline"],
            }  # fmt: skip
            self.proof |= {"proof_epoch": claimed, "beat": self.proof["beat"] + 1}
            self._keep()
            return [{"epoch": claimed}]
        finally:
            if self.gated:
                self.gate.give_back(alone=True)

    async def prove(self, backend: Backend, p: Params) -> list[Row]:
        def change() -> list[Row]:
            self.proof = {
                "proof_epoch": p["epoch"], "beat": self.proof["beat"] + 1, "proof_seq": p["seq"], "digest": p["digest"],
                "state": p["state"],
            }  # fmt: skip
            told = {"now": self._world.wall(), "head": len(self.log), "control": dict(self.control) or None, "level": 2}
            commands = [row for row in self.commands if row["id"] > p["noted"]][:20]
            return [told | self.place | {"commands": commands or None}]

        return await self._write(p["epoch"], "proof", change, backend)

    async def append(self, backend: Backend, p: Params) -> list[Row]:
        rows = [_stored(row, p["epoch"]) for row in json.loads(p["events"])]

        def change() -> list[Row]:
            if rows and rows[0]["seq"] <= len(self.log):
                return [{"added": self._found(rows)}]
            if rows and rows[0]["seq"] > len(self.log) + 1:
                raise Refused(HOLE, f"event {rows[0]['seq']} would leave a hole after {len(self.log)}")
            self._take_keys(rows)
            self._world.judge.appended(backend.replica, p["epoch"], rows)
            self.log += rows
            self._note(rows)
            for tell in list(self.listeners):
                tell()
            return [{"added": len(rows)}]

        if rows and rows[0]["seq"] > len(self.log) + 1:
            raise Refused(HOLE, f"event {rows[0]['seq']} would leave a hole after {len(self.log)}")
        return await self._write(p["epoch"], f"append {len(rows)}", change, backend)

    def _found(self, rows: list[Row]) -> int:
        """A repeat finds its rows and adds none; anything else is refused."""
        at = rows[0]["seq"] - 1
        there = [row["event_id"] for row in self.log[at : at + len(rows)]]
        if there != [row["event_id"] for row in rows]:
            raise Refused(TAKEN, "the place in the log holds other events")
        return 0

    def _take_keys(self, rows: list[Row]) -> None:
        keys: set[tuple[str | None, str | None]] = set()
        ids: set[str] = set()
        executions: set[tuple[str, str, int]] = set()
        for row in rows:
            p = row["payload"]
            if row["event_type"] == "execution":
                key = (p["account"], p["root"], p["revision"])
                if key in self._executions | executions:
                    raise Refused(DUPLICATE, f"duplicate key: execution {key}")
                executions.add(key)
            elif row["event_type"] in KEYED:
                user = (row["user_id"], p.get("client_order_id"))
                if row["order_id"] in self._order_ids | ids or (None not in user and user in self._keys | keys):
                    raise Refused(DUPLICATE, f"duplicate key: order {row['order_id']}")
                ids.add(row["order_id"])
                keys.add(user)
        self._keys |= keys
        self._order_ids |= ids
        self._executions |= executions

    async def note_phases(self, backend: Backend, p: Params) -> list[Row]:
        def change() -> list[Row]:
            self.terms[p["epoch"]] |= {k: v for k, v in json.loads(p["phases"]).items() if v is not None}
            return [{}]

        return await self._write(p["epoch"], "phases", change, backend)

    async def project(self, backend: Backend, p: Params) -> list[Row]:
        def change() -> list[Row]:
            self.projected = p["seq"]
            return [{}]

        return await self._write(p["epoch"], "project", change, backend)

    async def end_older_writers(self, backend: Backend, p: Params) -> list[Row]:
        ended = []
        for other in list(self.backends.values()):
            parts = other.name.split(":")
            if other is not backend and parts[0] == "adapter-writer" and int(parts[1]) <= p["epoch"]:
                ended.append({"pg_terminate_backend": True})
                self._world.after(0.001, self.end, other)
        return ended

    async def end_backend(self, backend: Backend, p: Params) -> list[Row]:
        other = self.backends.get(p["pid"])
        if other is None:
            return []
        self._world.after(0.001, self.end, other)
        return [{"pg_terminate_backend": True}]

    async def tag(self, backend: Backend, p: Params) -> list[Row]:
        backend.name = p["name"]
        return [{"set_config": p["name"]}]

    async def command(self, backend: Backend, p: Params) -> list[Row]:
        """A wish, and who wished it, in one transaction; unfenced (R29)."""
        at = self._world.wall().isoformat()
        self.commands.append({
            "id": len(self.commands) + 1, "command": p["command"], "by": p["by"], "reason": p["reason"],
            "remote": p["remote"], "correlation_id": p["correlation_id"], "details": json.loads(p["details"]), "at": at,
        })  # fmt: skip
        if p["value"] is not None:
            self.control[p["key"]] = json.loads(p["value"])
        elif p["key"] is not None:
            self.control.pop(p["key"], None)
        return [{"give_command": len(self.commands)}]

    async def wish_no_more(self, _backend: Backend, p: Params) -> list[Row]:
        self.control.pop(p["key"], None)
        return []

    # ---- reads

    def pulse(self, _p: Params) -> list[Row]:
        return [
            {"epoch": self.epoch, "name": self.name, "instance": self.instance, "head": len(self.log),
             "projected": self.projected}
            | self.proof | self.place
            | {"level": 2, "now": self._world.wall(), "control": dict(self.control) or None, "etcd_cluster_id": self._last_etcd()}
        ]  # fmt: skip

    def _last_etcd(self) -> str | None:
        return self.terms[max(self.terms)]["etcd_cluster_id"] if self.terms else None

    def events_after(self, p: Params) -> list[Row]:
        return [dict(row) for row in self.log[p["after"] : p["after"] + p["limit"]]]

    def log_begins(self, _p: Params) -> list[Row]:
        return [{"first": 1}]

    def last_checkpoint(self, _p: Params) -> list[Row]:
        return []

    def end_rebuild(self, _p: Params) -> list[Row]:
        return [{"ended": 0}]

    def fence_holds(self, p: Params) -> list[Row]:
        return [{"holds": p["other"] != self.epoch}]

    def last_epoch(self, _p: Params) -> list[Row]:
        return [{"epoch": self.epoch, "name": self.name, "instance": self.instance}]

    def last_term(self, _p: Params) -> list[Row]:
        return [self.terms[max(self.terms)]] if self.terms else []

    def tables(self) -> Book:
        """The tables that people query, as a book."""
        for row in self.log[self._tables.seq : self.projected]:
            self._tables.apply(event_of(row))
        return self._tables

    def events_of_orders(self, p: Params) -> list[Row]:
        rows = [dict(row) for oid in p["ids"] for row in self.by_order.get(oid, ())]
        return sorted(rows, key=lambda row: row["seq"])

    def executions_of_orders(self, p: Params) -> list[Row]:
        return [asdict(e) for e in self.tables().executions.values() if e.order_id in p["ids"]]

    def orders_of_archived_parts(self, p: Params) -> list[Row]:
        """None: the log is never cut here, so that whoever has no events is not in the tables."""
        return []

    def body_is(self, p: Params) -> list[Row]:
        firsts = [row["payload"].get("body") for row in self.by_order.get(p["id"], ()) if row["event_type"] in KEYED]
        return [{"same": None if body is None else body == _jsonb(json.loads(p["body"]))} for body in firsts]

    def executions_named(self, p: Params) -> list[Row]:
        keys = {(key["account"], key["root"]) for key in json.loads(p["keys"])}
        return [asdict(e) for key, e in self.tables().executions.items() if key in keys]

    def orders_of_perm_ids(self, p: Params) -> list[Row]:
        return [{"id": o.id, "perm_id": o.perm_id} for o in self.tables().orders.values() if o.perm_id in p["perm_ids"]]

    def loose_executions_of_perm_id(self, p: Params) -> list[Row]:
        mine = self.tables().executions.values()
        return [asdict(e) for e in mine if e.perm_id == p["perm_id"] and e.order_id is None]

    def where_projected(self, _p: Params) -> list[Row]:
        return [{"seq": self.projected}]


def _stored(row: Row, epoch: int) -> Row:
    return {
        "seq": row["seq"], "epoch": epoch, "event_type": row["event_type"], "payload": _jsonb(row["payload"]),
        "timestamp": datetime.fromisoformat(row["timestamp"]), "order_id": row["order_id"], "user_id": row["user_id"],
        "correlation_id": row["correlation_id"], "event_id": row["event_id"],
    }  # fmt: skip


def _jsonb(value: Any) -> Any:
    """With its keys in jsonb's own order: by length, then by bytes."""
    if isinstance(value, dict):
        return {key: _jsonb(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    return [_jsonb(item) for item in value] if isinstance(value, list) else value


_READS: dict[str, Callable[[Database, Params], list[Row]]] = {
    "pulse": Database.pulse, "events_after": Database.events_after, "fence_holds": Database.fence_holds,
    "events_of_orders": Database.events_of_orders, "executions_of_orders": Database.executions_of_orders,
    "orders_of_archived_parts": Database.orders_of_archived_parts, "body_is": Database.body_is,
    "executions_named": Database.executions_named,
    "loose_executions_of_perm_id": Database.loose_executions_of_perm_id, "orders_of_perm_ids": Database.orders_of_perm_ids,
    "epoch": Database.last_epoch, "last_term": Database.last_term, "projected": Database.where_projected,
    "log_begins": Database.log_begins, "last_checkpoint": Database.last_checkpoint,
    "end_rebuild": Database.end_rebuild,
}  # fmt: skip
_WRITES: dict[str, Callable[[Database, Backend, Params], Coroutine[Any, Any, list[Row]]]] = {
    "claim": Database.claim, "prove": Database.prove, "append": Database.append, "note_phases": Database.note_phases,
    "project": Database.project, "end_older_writers": Database.end_older_writers, "end_backend": Database.end_backend,
    "tag": Database.tag, "wish_no_more": Database.wish_no_more, "command": Database.command,
}  # fmt: skip
