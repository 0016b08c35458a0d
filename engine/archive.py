"""What has left memory, read from the database: for evidence about it, for old keys, for people's questions. Thin.

Every read is on one connection of its own, opened when it is first needed, so that nothing waits behind it but other reads.
Raises StoreError where the database does not answer; nobody may take that for "there is none" (G6).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.book import Book
from engine.events import event_of
from engine.order import Order
from engine.position import Execution
from engine.recall import Recalled, execution_of, from_tables, recalled_orders
from engine.store import Connection, Row

Key = tuple[str, str]
"""Account and root of an execution."""

_AT_ONCE = 1000


@dataclass(slots=True)
class Wanted:
    """What may be in the database and is not in memory."""

    orders: set[str] = field(default_factory=set)
    perm_ids: set[int] = field(default_factory=set)  # of orders whose id nobody told
    executions: set[Key] = field(default_factory=set)
    loose: set[Key] = field(default_factory=set)  # executions of no order, to be recalled themselves

    def __bool__(self) -> bool:
        return bool(self.orders or self.perm_ids or self.executions or self.loose)


@dataclass(slots=True)
class LookedUp:
    """What the database said of it so far."""

    orders: dict[str, Recalled | None] = field(default_factory=dict)  # None: there is none
    perm_ids: dict[int, str | None] = field(default_factory=dict)
    executions: dict[Key, Execution | None] = field(default_factory=dict)


class Archive:
    """The reads. `book` holds what left memory and is not in the tables yet."""

    def __init__(self, book: Book, connection: Connection) -> None:
        self._book, self._connection = book, connection

    async def close(self) -> None:
        """Give the connection back."""
        await self._connection.close()

    async def look_up(self, wanted: Wanted, known: LookedUp) -> None:
        """Ask for all of `wanted` that `known` has no answer about, and note the answers there. Raises StoreError."""
        perm_ids = wanted.perm_ids - known.perm_ids.keys()
        leaving = self._leaving_perm_ids()
        for part in _parts(perm_ids):
            rows = await self._run("orders_of_perm_ids", {"perm_ids": part})
            known.perm_ids |= dict.fromkeys(part) | {row["perm_id"]: row["id"] for row in rows}
        leaving |= self._leaving_perm_ids()
        known.perm_ids |= {number: oid for number, oid in leaving.items() if number in perm_ids}
        found = {oid for number in wanted.perm_ids if (oid := known.perm_ids[number]) is not None}
        keys = (wanted.executions | wanted.loose) - known.executions.keys()
        known.executions |= await self._executions(keys)
        ids = (wanted.orders | found) - known.orders.keys()
        known.orders |= dict.fromkeys(ids) | await self.orders(ids)

    async def orders(self, ids: Collection[str]) -> dict[str, Recalled]:
        """Those of these orders that the ledger has, in their last state. Raises StoreError."""
        found: dict[str, Recalled] = {}
        for part in _parts(ids):
            leaving, ended = self._leaving_executions(), self._leaving_orders()
            events = await self._run("events_of_orders", {"ids": part})
            rows = {
                (row["account"], row["root"]): row for row in await self._run("executions_of_orders", {"ids": part})
            }
            executions = {key: execution_of(row) for key, row in rows.items()}
            leaving |= self._leaving_executions()
            executions |= {key: e for key, e in leaving.items() if e.order_id in part}
            archived = from_tables(await self._run("orders_of_archived_parts", {"ids": part}), executions.values())
            ended |= self._leaving_orders()
            for oid in archived.keys() & ended.keys():  # the row may be of a time before its end
                archived[oid] = replace(archived[oid], order=ended[oid].copy())
            whole = [event for event in map(event_of, events) if event.order_id not in archived]
            found |= recalled_orders(whole, executions.values()) | archived
        return found

    async def of_perm_id(self, perm_id: int) -> list[Recalled]:
        """Whatever the ledger has of the broker's order with this permId and memory has not. Raises StoreError."""
        known = LookedUp()
        await self.look_up(Wanted(perm_ids={perm_id}), known)
        orders = [one for oid, one in known.orders.items() if one is not None and oid not in self._book.orders]
        leaving = self._leaving_executions()
        rows = await self._run("loose_executions_of_perm_id", {"perm_id": perm_id})
        loose = {(row["account"], row["root"]): execution_of(row) for row in rows}
        leaving |= self._leaving_executions()
        loose |= {key: e for key, e in leaving.items() if e.perm_id == perm_id and e.order_id is None}
        return orders + [Recalled(None, (e,)) for key, e in loose.items() if key not in self._book.executions]

    async def order(self, oid: str) -> Order | None:
        """The order in its last state, None when the ledger has none of this id. Raises StoreError."""
        found = (await self.orders([oid])).get(oid)
        return found.order if found is not None else None

    async def has_body(self, oid: str, body: Mapping[str, Any]) -> bool | None:
        """Whether the order was accepted with this body, None where the ledger never had one of it. Raises StoreError."""
        rows = await self._run("body_is", {"id": oid, "body": json.dumps(body)})
        return rows[0]["same"] if rows else None

    async def page(self, name: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Rows of a table that people query, by a named query. Raises StoreError."""
        return await self._run(name, parameters)

    async def _executions(self, keys: Collection[Key]) -> dict[Key, Execution | None]:
        found: dict[Key, Execution | None] = dict.fromkeys(keys)
        leaving = self._leaving_executions()
        for part in _parts(keys):
            named = json.dumps([{"account": account, "root": root} for account, root in part])
            for row in await self._run("executions_named", {"keys": named}):
                found[row["account"], row["root"]] = execution_of(row)
        leaving |= self._leaving_executions()
        return found | {key: e for key, e in leaving.items() if key in found}

    # What left memory and is not in the tables yet. Both are read before the tables and after them: a statement that began before
    # the projector's commit does not see what that wrote, and its answer may come when the book has let go of it already.

    def _leaving_executions(self) -> dict[Key, Execution]:
        return {(e.account, e.root): e for e in self._book.leaving.values() if isinstance(e, Execution)}

    def _leaving_orders(self) -> dict[str, Order]:
        return {o.id: o for o in self._book.leaving.values() if isinstance(o, Order)}

    def _leaving_perm_ids(self) -> dict[int, str]:
        return {o.perm_id: o.id for o in self._leaving_orders().values() if o.perm_id}

    async def _run(self, name: str, parameters: Mapping[str, Any]) -> list[Row]:
        if not self._connection.is_open:
            await self._connection.open()
        return await self._connection.run(name, parameters)


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    every = sorted(items)
    return (every[i : i + _AT_ONCE] for i in range(0, len(every), _AT_ONCE))
