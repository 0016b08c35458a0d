"""What must be true once everything is whole again: a leader, and two ledgers that agree, or differ only where a break says so."""

from __future__ import annotations

from collections.abc import Iterator

from engine.book import Book
from engine.events import event_of
from engine.order import State
from engine.reference import Reference
from ha.role import State as Role
from tests.simulation.clients import Clients, Wish
from tests.simulation.database import Whole
from tests.simulation.gateway import BrokerOrder
from tests.simulation.replica import Process
from tests.simulation.world import World

_AT_BROKER = {"Filled": State.FILLED, "Cancelled": State.CANCELLED, "Inactive": State.REJECTED}


def leader_of(world: World) -> Process | None:
    """The replica that leads with an open gate, if there is one."""
    for replica in world.replicas.values():
        process = replica.running
        if process is not None and process.state is Role.LEADING and process.leads():
            return process
    return None


def unsettled(world: World, clients: Clients) -> list[str]:
    """Everything that is not as it must be at the end; empty when the run may end."""
    leader = leader_of(world)
    if leader is None:
        return ["nobody leads"]
    book = leader.node.book
    return list(_differences(world, clients, book)) or list(_copies(world, book))


def _differences(world: World, clients: Clients, book: Book) -> Iterator[str]:
    if world.gateway.inside:
        yield f"{len(world.gateway.inside)} orders are still inside the gateway"
    if clients.busy:
        yield "strategies still wait for answers"
    if book.seq != len(world.database.log):
        yield f"the leader's book stands at {book.seq}, the log at {len(world.database.log)}"
        return
    by_ref, kept = _by_order(world), book
    book = _whole(world)  # also what has left the leader's memory
    yield from _kept(kept, book)
    for wish in clients.wishes:
        yield from _promise(wish, book, lost=wish.id in world.database.lost and wish.id not in by_ref)
    for order in book.orders.values():
        yield from _order(book, order.id, by_ref.get(order.id, []))
    for oid in by_ref:
        if oid not in book.orders:
            yield f"G3: order {oid} is at the broker and the ledger does not know it"
    for oid in book.cancels_wanted:
        if book.orders[oid].state is State.WORKING:
            yield f"R29: the cancel of order {oid} waits, and the order is live"
    yield from _trades(world, book)


def _whole(world: World) -> Book:
    """A book from the log that lets nothing go."""
    book = Whole()
    for row in world.database.log:
        book.apply(event_of(row))
    return book


def _kept(kept: Book, whole: Book) -> Iterator[str]:
    """What is in memory is what the log says, whether it left memory meanwhile or not; and all that goes on is there."""
    for oid, order in kept.orders.items():
        if oid not in whole.orders or order != whole.orders[oid]:
            yield f"G8: order {oid} in memory is {order}, the log says {whole.orders.get(oid)}"
    for key, execution in kept.executions.items():
        if execution != whole.executions.get(key):
            yield f"G8: execution {key} in memory is {execution}, the log says {whole.executions.get(key)}"
    if kept.open_ids != whole.open_ids or kept.keys.items() - whole.keys.items():
        yield "G8: memory has other open orders or keys than the log"
    for key, position in whole.positions.items():
        if kept.positions[key].quantity != position.quantity:
            yield f"G5: position {key} in memory is {kept.positions[key]}, the log says {position}"


def _by_order(world: World) -> dict[str, list[BrokerOrder]]:
    found: dict[str, list[BrokerOrder]] = {}
    for order in world.gateway.orders.values():
        reference = Reference.parse(order.asked.reference)
        if reference is not None:
            found.setdefault(reference.id, []).append(order)
    return found


def _promise(wish: Wish, book: Book, *, lost: bool) -> Iterator[str]:
    """An answer 2xx promised that the order is there; 503 and nothing else promised that it is not.

    `lost`: the database went back behind it and IB does not show it. That is the limit of G9, and why an operator has to look.
    """
    if wish.acknowledged and wish.id not in book.orders and not lost:
        yield f"G3: {wish.key} was acknowledged and is not in the ledger"
    if not wish.acknowledged and not wish.ambiguous and wish.given_up is not None and wish.id in book.orders:
        yield f"API: {wish.key} was refused each time, and is in the ledger: {', '.join(wish.answers)}"


def _order(book: Book, oid: str, there: list[BrokerOrder]) -> Iterator[str]:
    order = book.orders[oid]
    held = book.holding(*order.contract_key) is not None
    name = f"order {oid} ({order.client_order_id}) is {order.state}"
    if order.state is State.SENDING or (order.state is State.QUEUED and not held):
        yield f"G3: {name}"
    elif order.state is State.QUEUED and there:
        yield f"G3: {name} and at the broker"
    elif order.state is State.EXPIRED and there:
        yield f"R8: {name} and at the broker"
    elif order.state is State.IN_DOUBT:
        if not any(b.order_id == oid and b.kind == "in_doubt" for b in book.open_breaks.values()):
            yield f"G3: {name} and no break is open"
        if there:
            yield f"R1: {name} and the broker shows it"
    elif order.state in (State.WORKING, State.FILLED) and len(there) != 1:
        yield f"G3: {name} and {len(there)} times at the broker"
    elif there:
        expected = _AT_BROKER.get(there[0].status, State.WORKING)
        if expected is not order.state:
            yield f"G3: {name} and {there[0].status} at the broker"
        if order.filled != there[0].filled:
            yield f"G5: {name}, filled {order.filled} here and {there[0].filled} at the broker"


def _trades(world: World, book: Book) -> Iterator[str]:
    """G5: each execution once, and positions that are their sum here and there."""
    here = {execution.exec_id for execution in book.executions.values()}
    there = {fact.exec_id for fact in world.gateway.executions}
    if here != there:
        yield f"G5: executions only here {sorted(here - there)}, only at the broker {sorted(there - here)}"
    ours = {position.symbol: position.quantity for position in book.positions.values() if position.quantity}
    theirs = {fact.symbol: fact.quantity for fact in world.gateway.positions() if fact.quantity}
    if ours != theirs:
        yield f"G5: positions {ours} here, {theirs} at the broker"
    for found in book.open_breaks.values():
        if found.kind == "position":
            yield f"G5: the break {found.id} of {found.symbol} is open and the positions agree"


def _copies(world: World, book: Book) -> Iterator[str]:
    """G8: a book folded from the log, and the standby's, are the leader's to the last digit."""
    fresh = Book()
    for row in world.database.log:
        fresh.apply(event_of(row))
    if fresh.digest != book.digest:
        yield f"G8: the log folds to {fresh.digest:016x}, the leader's book has {book.digest:016x}"
    for replica in world.replicas.values():
        process = replica.running
        if process is None or process.state is None:
            yield f"{replica.name} does not run"
        elif process.node.book.seq == book.seq and process.node.book.digest != book.digest:
            yield f"G8: at event {book.seq} the digest of {process.owner.name} differs"
        elif process.node.book.seq != book.seq:
            yield f"{replica.name} is at event {process.node.book.seq}, the leader at {book.seq}"
