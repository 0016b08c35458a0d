"""The tables that people query, written behind the log by the leader from the same fold that everybody runs.

The log is the truth; these rows may be a moment old, and `ledger.projection.seq` says up to which event they stand. They are
fenced like everything else, on a connection of their own, so that they never hold an order's commit up.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from loguru import logger

from engine.book import Book
from engine.clock import iso
from engine.order import Order
from engine.position import Break, Execution, Position
from engine.store import Connection, Refused, StoreError, writer_name

EVERY = 0.25
_BATCH = 400


class Projector:
    """Writes what the fold touched, every 250 ms, while its epoch is the present one."""

    def __init__(self, url: str, replica: str, epoch: int, book: Book) -> None:
        self._book, self._epoch = book, epoch
        self._connection = Connection(url, writer_name(epoch, replica))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; what the book holds from before is caught up first."""
        self._task = asyncio.create_task(self._project_for_ever(), name="projector")

    async def stop(self) -> None:
        """Stop; the next leader's projector catches up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._connection.close()

    async def _project_for_ever(self) -> None:
        projected: int | None = None
        while True:
            try:
                if not self._connection.is_open:
                    await self._connection.open()
                if projected is None:
                    [row] = await self._connection.run("projected")
                    projected = int(row["seq"])
                projected = await self._project(projected)
            except Refused as refused:
                if refused.fenced:
                    return
                logger.error("the tables that people query are not up to date: {}", refused)
            except StoreError as error:
                logger.debug("not projected: {}", error)
            await asyncio.sleep(EVERY)

    async def _project(self, projected: int) -> int:
        book, seq = self._book, self._book.seq
        book.projected_to(projected)
        todo = list(book.dirty)
        if seq <= projected and not todo:
            return projected
        while True:  # once also when nothing of it is to be seen in a table: `projection.seq` tells how far they stand
            rows = _rows(book, todo[:_BATCH])
            del todo[:_BATCH]
            parameters = {"epoch": self._epoch, "rows": json.dumps(rows), "seq": projected if todo else seq}
            await self._connection.run("project", parameters)
            if not todo:
                break
        book.projected_to(seq)
        return max(seq, projected)


def take_rows(book: Book) -> dict[str, list[dict[str, Any]]]:
    """The rows of all that was touched since they were last taken: for a replay, which keeps them itself."""
    rows = _rows(book, list(book.dirty))
    book.projected_to(book.seq)
    return rows


def _rows(book: Book, dirty: list[tuple[str, object]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of these entities, as they stand, or as they left memory."""
    rows: dict[str, list[dict[str, Any]]] = {"orders": [], "executions": [], "positions": [], "breaks": []}
    for name in dirty:
        kind, key = name
        if kind == "order":
            rows["orders"].append(_order(book.orders.get(cast(str, key)) or cast(Order, book.leaving[name])))
        elif kind == "execution":
            execution = book.executions.get(cast(tuple[str, str], key)) or cast(Execution, book.leaving[name])
            rows["executions"].append(_execution(execution))
        elif kind == "position":
            rows["positions"].append(_position(book.positions[cast(tuple[str, int], key)]))
        else:
            rows["breaks"].append(_break(book.breaks[cast(str, key)]))
    return rows


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _order(o: Order) -> dict[str, Any]:
    return {
        "id": o.id, "client_order_id": o.client_order_id, "user_id": o.subject, "state": o.state.value, "reason": o.reason,
        "account": o.account, "symbol": o.symbol, "sec_type": o.sec_type, "exchange": o.exchange, "currency": o.currency,
        "con_id": o.con_id, "side": o.side, "quantity": str(o.quantity), "filled": str(o.filled),
        "average_price": _text(o.average_price), "order_type": o.order_type, "limit_price": _text(o.limit_price),
        "stop_price": _text(o.stop_price), "tif": o.tif, "perm_id": o.perm_id, "broker_order_id": o.broker_order_id,
        "session": o.session, "cancel_requested": o.cancel_requested, "revision": o.revision, "external": o.external,
        "epoch": o.epoch, "seq": o.seq, "correlation_id": o.correlation_id, "sent_at": iso(o.sent_at),
        "acknowledged_at": iso(o.acknowledged_at), "valid_until": iso(o.valid_until), "created_at": iso(o.created_at),
        "updated_at": iso(o.updated_at),
    }  # fmt: skip


def _execution(e: Execution) -> dict[str, Any]:
    return {
        "account": e.account, "root": e.root, "exec_id": e.exec_id, "revision": e.revision, "order_id": e.order_id,
        "con_id": e.con_id, "symbol": e.symbol, "side": e.side, "quantity": str(e.quantity), "price": str(e.price),
        "exchange": e.exchange, "perm_id": e.perm_id, "at": iso(e.at), "seq": e.seq, "commission": _text(e.commission),
        "commission_currency": e.commission_currency, "realized_pnl": _text(e.realized_pnl),
    }  # fmt: skip


def _position(p: Position) -> dict[str, Any]:
    return {
        "account": p.account, "con_id": p.con_id, "symbol": p.symbol, "quantity": str(p.quantity),
        "average_cost": str(p.average_cost),
    }  # fmt: skip


def _break(b: Break) -> dict[str, Any]:
    return {
        "id": b.id, "kind": b.kind, "symbol": b.symbol, "account": b.account, "order_id": b.order_id, "ours": b.ours,
        "broker": b.broker, "holds": b.holds, "opened_at": iso(b.opened_at), "resolved_at": iso(b.resolved_at),
        "resolution": b.resolution,
    }  # fmt: skip
