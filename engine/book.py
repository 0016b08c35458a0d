"""The book: the event log folded into orders, executions, positions and breaks. Pure.

One function, `Book.apply`, is used by the leader, the standby, a rebuild and the tests; what each kind of event does stands in
`engine.fold`. Equal logs give equal books, and `digest` says so in one number (G8): the sum modulo 2^64 of each entity's
fingerprint, kept in O(1) per event, so that the order of unrelated events does not matter. Orders that ended long ago leave memory
(`engine.evict`); the digest goes on to count them.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import takewhile

from engine.digest import Entity, fingerprint
from engine.events import Event
from engine.evict import UNBOUNDED, evict, is_held, relatives
from engine.evicted import Evicted
from engine.family import PARENT
from engine.fold import FOLDS, filled_by
from engine.order import MOVES, Order, State, next_state
from engine.position import Break, Execution, Position

_MASK = (1 << 64) - 1
_REMEMBERED_DIGESTS = 4096


class UnknownKind(Exception):
    """The log holds a kind of event that this version cannot read (R22): do not campaign, upgrade first."""


class Hole(Exception):
    """The next event is not the next number: stop, and read again (R21)."""


class Book:
    """The folded state at `seq`. Reads are plain attributes; only `apply` writes."""

    def __init__(self, keep_ended: int = UNBOUNDED) -> None:
        """`keep_ended`: orders that have ended and stay in memory until the log says how many; a replica's book is UNBOUNDED."""
        self.keep_ended = keep_ended
        self.seq = 0
        self.digest = 0
        self.orders: dict[str, Order] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.open_ids: dict[str, None] = {}  # ids of orders that have not ended, in order of acceptance
        self.queued: dict[str, None] = {}  # ids of QUEUED orders, in order of acceptance (R9)
        self.open_externals: dict[str, None] = {}  # those of open_ids that are somebody else's
        self.children: dict[str, list[str]] = {}  # ids of the orders that hang on this one, in order of acceptance
        self.cancels_wanted: dict[str, None] = {}  # open orders with a cancel that was never licensed
        self.by_broker_id: dict[int, str] = {}
        self.by_perm_id: dict[int, str] = {}
        self.executions: dict[tuple[str, str], Execution] = {}
        self.exec_by_id: dict[str, tuple[str, str]] = {}
        self.positions: dict[tuple[str, int], Position] = {}
        self.breaks: dict[str, Break] = {}
        self.open_breaks: dict[str, Break] = {}
        self.session = 0  # number of the last broker session that was opened
        self.session_open = False
        self.unbroken_since = 0  # the first of the latest sessions between which the gateway was never seen to restart
        self.gateway_used = 0  # the highest order id that the gateway is known to have used
        self.accounts: tuple[
            str, ...
        ] = ()  # as the gateway named them, the default one first; the standby knows them too
        self.commands = 0  # the last command of an operator that is noted in the log
        self.order_id_floor = 1  # the next broker order id is at least this; never lowered
        self.ended: OrderedDict[str, None] = OrderedDict()  # orders that have ended, in the order in which they did
        self.detained: dict[str, None] = {}  # those whose turn to leave came while an open break named them
        self.loose: OrderedDict[tuple[str, str], None] = OrderedDict()  # executions of no order, as they were booked
        self.executions_of: dict[str, list[tuple[str, str]]] = {}  # order id -> its executions, as they were booked
        self.earlier_exec_ids: dict[tuple[str, str], list[str]] = {}  # of executions that were corrected
        self.numbers: dict[str, list[tuple[str, int]]] = {}  # order id -> where the two indexes by number name it
        self.evicted = Evicted()
        self.left: tuple[str, ...] = ()  # orders that left memory with the last event
        self.dirty: dict[
            tuple[str, object], int
        ] = {}  # entities that the tables may lack: the event of their last change
        self.leaving: dict[tuple[str, object], Entity] = {}  # those of them that left memory
        self.projected = 0  # the event up to which the tables that people query are known to stand
        self.observers: list[Callable[[Event], None]] = []  # told after each event, in order
        self._digests: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_DIGESTS)

    def reset(self) -> None:
        """Forget everything and stand before the first event; observers stay."""
        observers = self.observers
        self.__init__()  # type: ignore[misc]
        self.observers = observers

    # ---- reading

    def open_orders(self) -> Iterator[Order]:
        """Orders that have not ended, in order of acceptance."""
        return (self.orders[i] for i in self.open_ids)

    def digest_at(self, seq: int) -> int | None:
        """The digest when the book stood at `seq`, None when that is too long ago or not reached."""
        if seq == self.seq:
            return self.digest
        return next((digest for at, digest in reversed(self._digests) if at == seq), None)

    def holding(self, account: str, symbol: str) -> Break | None:
        """The open break that freezes this contract, if any."""
        return next(
            (b for b in self.open_breaks.values() if b.holds and b.symbol == symbol and b.account in ("", account)),
            None,
        )

    @property
    def holds_everything(self) -> Break | None:
        """The open break that holds everything until an operator looks (R14, R16, R18), if any."""
        return next((b for b in self.open_breaks.values() if b.kind == "everything"), None)

    # ---- the fold

    def apply(self, event: Event) -> None:
        """Fold one event. Raises Hole, UnknownKind, or what the fold refuses it with; the book is then unchanged."""
        if event.seq != self.seq + 1:
            raise Hole(f"after event {self.seq} comes {self.seq + 1}, not {event.seq}")
        fold = FOLDS.get(event.kind)
        if fold is None:
            raise UnknownKind(f"event {event.seq} is of kind {event.kind!r}, which this version does not know")
        if event.at.tzinfo is not UTC:  # a zone is how a time is written, no part of the state
            event = dataclasses.replace(event, at=event.at.astimezone(UTC))
        fold(self, event, event.payload)
        self.seq = event.seq
        self.left = self.evict()
        self._digests.append((self.seq, self.digest))
        for observer in self.observers:
            observer(event)

    def projected_to(self, seq: int) -> None:
        """The tables that people query stand at `seq`: what changed up to there need not be written, nor kept for it."""
        self.projected = max(self.projected, seq)
        done = list(takewhile(lambda name: self.dirty[name] <= seq, self.dirty))
        for name in done:
            del self.dirty[name]
            self.leaving.pop(name, None)

    # ---- for the fold's functions only

    def evict(self) -> tuple[str, ...]:
        """Let go of what is too much; ids of the orders that left."""
        return evict(self) if len(self.ended) > self.keep_ended or len(self.loose) > self.keep_ended else ()

    def touch(self, kind: str, key: object) -> None:
        """The event that is being folded changed this entity."""
        self.dirty.pop((kind, key), None)
        if self.seq >= self.projected:
            self.dirty[kind, key] = self.seq + 1

    def count(self, entity: Entity) -> None:
        """Count `entity` as it is now, instead of as it was counted before."""
        before, entity.fingerprint = entity.fingerprint, fingerprint(entity)
        self.digest = (self.digest - before + entity.fingerprint) & _MASK

    def raise_floor(self, used: int | None) -> None:
        """`used` is taken: the next broker order id is above it."""
        if used is not None:
            self.order_id_floor = max(self.order_id_floor, used + 1)

    def add_order(self, order: Order) -> None:
        """A new order. Raises ValueError when its id or its key is taken."""
        if order.id in self.orders:
            raise ValueError(f"order {order.id} is in the ledger already")
        key = order.key
        if key is not None and key in self.keys:
            raise ValueError(f"the key {key[1]!r} of {key[0]} belongs to order {self.keys[key]}")
        self.orders[order.id] = order
        if key is not None:
            self.keys[key] = order.id
        if not order.external:
            self.raise_floor(order.broker_order_id)
        if (parent := order.extra.get(PARENT)) is not None:
            self.children.setdefault(parent, []).append(order.id)
        self._index(order)
        self.count(order)

    def restore(self, order: Order) -> None:
        """An order that had left memory; the digest counts it already."""
        self.orders[order.id] = order
        if order.key is not None:
            self.keys[order.key] = order.id
        if (parent := order.extra.get("parent")) is not None:
            family = [*self.children.get(parent, ()), order.id]
            self.children[parent] = sorted(family, key=lambda oid: self.orders[oid].accepted_seq)
        self._index(order)

    def freed(self, oid: str) -> None:
        """A break about this order was resolved, or it ended: what was held for its sake alone may leave as if it had ended now."""
        if not self.detained or oid not in self.orders:
            return
        for held in (oid, *relatives(self, self.orders[oid])):
            if held in self.detained and not is_held(self, held):
                del self.detained[held]
                self.ended[held] = None

    def change(self, event: Event, write: Callable[[Order], None]) -> Order:
        """Move an order along its table, then let `write` note the details. Raises IllegalTransition, ValueError."""
        order = self.orders.get(event.order_id or "")
        if order is None:
            raise ValueError(f"there is no order {event.order_id}")
        if event.kind in MOVES:
            order.state = next_state(order.state, event.kind)
        write(order)
        self._touched(order, event.seq, event.at)
        return order

    def fill(
        self, event: Event, order_id: str, old: Execution | None, new: Execution, sent_at: datetime | None
    ) -> None:
        """Book an execution on its order."""
        order = self.orders[order_id]
        filled_by(order, old, new)
        order.sent_at = sent_at or order.sent_at
        order.acknowledged_at = order.acknowledged_at or event.at
        self._touched(order, event.seq, event.at)

    def give_execution(self, event: Event, key: tuple[str, str], order_id: str) -> None:
        """A booked execution becomes this order's; the position stays what it is."""
        execution = self.executions[key]
        if key in (before := self.executions_of.get(execution.order_id or "", [])):
            before.remove(key)
        self.loose.pop(key, None)
        self.executions_of.setdefault(order_id, []).append(key)
        execution.order_id = order_id
        self.count(execution)
        self.touch("execution", key)
        order = self.orders[order_id]
        filled_by(order, None, execution)
        self._touched(order, event.seq, event.at)

    def put_execution(self, new: Execution, old: Execution | None) -> None:
        """Book an execution on its contract's position; a correction as if it had been booked like this from the start."""
        key, contract = (new.account, new.root), (new.account, new.con_id)
        if old is not None:
            new.fingerprint = old.fingerprint  # takes the old one's place in the digest
            self.earlier_exec_ids.setdefault(key, []).append(old.exec_id)
        self.executions[key] = new
        self._sort_execution(key, new, old)
        self.exec_by_id[new.exec_id] = key
        self.count(new)
        position = self.positions.get(contract)
        if position is None:
            position = self.positions[contract] = Position(new.account, new.con_id, new.symbol)
        if old is None:
            position.add(new.signed, new.price)
        else:
            position.rebuild(e for e in self.executions.values() if (e.account, e.con_id) == contract)
        self.count(position)
        self.touch("execution", key)
        self.touch("position", contract)

    # ---- inside

    def _sort_execution(self, key: tuple[str, str], new: Execution, old: Execution | None) -> None:
        """With its order, or among those of none: it leaves memory with the one, or by its age."""
        if new.order_id is None or new.order_id not in self.orders:
            self.loose.setdefault(key)
        elif old is None or old.order_id != new.order_id:
            self.loose.pop(key, None)
            self.executions_of.setdefault(new.order_id, []).append(key)

    def _touched(self, order: Order, seq: int, at: datetime) -> None:
        order.seq, order.updated_at = seq, at
        if order.final:
            order.asked, order.asked_session = {}, None  # a change of an order that has ended is over too
        self.count(order)
        self._index(order)

    def _index(self, order: Order) -> None:
        oid, final = order.id, order.final
        if order.broker_order_id is not None and not order.external:
            self._number("broker", self.by_broker_id, order.broker_order_id, oid)
        if order.perm_id:
            self._number("perm", self.by_perm_id, order.perm_id, oid)
        if not final:
            self.ended.pop(oid, None)
            self.detained.pop(oid, None)
        elif oid not in self.detained:
            self.ended.setdefault(oid)
        if final:
            self.open_ids.pop(oid, None)
            self.freed(oid)
        elif oid not in self.open_ids:
            self.open_ids[oid] = None
            self.open_ids = self._in_accept_order(self.open_ids)
        if order.state is not State.QUEUED:
            self.queued.pop(oid, None)
        elif oid not in self.queued:
            self.queued[oid] = None
            self.queued = self._in_accept_order(self.queued)
        _keep(self.open_externals, oid, order.external and not final)
        _keep(self.cancels_wanted, oid, order.cancel_requested and order.cancel_session is None and not final)
        self.touch("order", oid)

    def _number(self, name: str, index: dict[int, str], number: int, oid: str) -> None:
        if index.get(number) != oid:
            index[number] = oid
            self.numbers.setdefault(oid, []).append((name, number))

    def _in_accept_order(self, ids: dict[str, None]) -> dict[str, None]:
        """`ids` with its last one put where it belongs: at the end, unless it came back (a licence taken back, a reopened end)."""
        last = [oid for oid, _ in zip(reversed(ids), range(2), strict=False)]
        if len(last) < 2 or self.orders[last[0]].accepted_seq > self.orders[last[1]].accepted_seq:
            return ids
        return dict.fromkeys(sorted(ids, key=lambda oid: self.orders[oid].accepted_seq))


def _keep(ids: dict[str, None], oid: str, wanted: bool) -> None:
    if wanted:
        ids[oid] = None
    else:
        ids.pop(oid, None)
