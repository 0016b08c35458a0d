"""Brackets: a parent and the orders that hang on it by `parent_client_order_id`, and what is done about a half-sent one. Pure.

IB keeps a child until its parent is filled, cancels the others when one child is filled, and cancels the children with their
parent. What it cannot know is that a member is missing: refused, never sent, or in doubt. TABLE says what is done then. Nothing is
sent again (R1), nobody's position is closed by itself; a cancel is asked for once for each session (R7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from engine.clock import from_ib_utc
from engine.order import Order, State
from engine.position import Break

PARENT, TOGETHER = "parent", "family"
"""Where an order's `extra` names its parent's id, and the family in which it was accepted: sent together or not at all."""

OPERATOR_DEAD = "operator_dead"
CLOSED, SURFACED = "closed by itself", "surfaced by itself"
"""How a break of a missing exit is resolved by nobody's word: it answers nothing that comes later."""
DOUBTS = ("missing_executions", "vanished", "position")
"""Kinds of breaks that put a parent's fills in doubt: about it, or about its contract's position."""
OUTLIVED_FOR = 2.0
"""Seconds that IB has to cancel the children of a parent that ended, then each is cancelled on its own; and for the execution
that ended an exit's sibling to come."""


class Act(StrEnum):
    """What a row of the table asks for."""

    END = "end"  # orders that were never sent end without a word to the broker
    CANCEL = "cancel"  # ask IB to cancel
    NAKED = "naked"  # open the break
    CLEAR = "clear"  # resolve the break
    WAIT = "wait"  # look again


@dataclass(frozen=True, slots=True)
class Family:
    """A parent, its children in order of acceptance, and what else is known of them.

    `naked`: the breaks of this kind about it, resolved ones too. `position`: of the contract, None where nobody knows it.
    `session`: the present one. `now`: by our clock. `stranded`: ids of members of which `stranded` is true.
    `doubts`: breaks, resolved ones too, that say that the parent's fills or the contract's position are not known.
    """

    parent: Order
    children: Sequence[Order]
    naked: Sequence[Break]
    position: Decimal | None
    session: int | None
    now: datetime
    stranded: frozenset[str] = frozenset()
    doubts: Sequence[Break] = ()

    @property
    def traded(self) -> bool:
        """Whether the parent has a fill."""
        return self.parent.filled > 0

    @property
    def over(self) -> bool:
        """Whether the parent has ended without a fill: nothing that hangs on it has a reason any more.

        Fills that the broker told of, and that an operator looked at without their being booked, are fills.
        """
        return self.parent.final and not self.traded and not any(
            b.kind == "missing_executions" and b.resolved_at is not None and Decimal(b.broker.get("filled") or 0) > 0
            for b in self.doubts
        )  # fmt: skip

    @property
    def doubtful(self) -> bool:
        """Whether nobody knows now what the parent filled."""
        return any(b.resolved_at is None for b in self.doubts)

    @property
    def missing(self) -> list[Order]:
        """Children that are not in IB's hands and that nobody asked to be gone."""
        return [
            c for c in self.children
            if c.state in (State.REJECTED, State.EXPIRED, State.IN_DOUBT) or c.id in self.stranded
            or (self.traded and _dropped(c) and self.ended_for(c) > OUTLIVED_FOR)
            or (c.state is State.CANCELLED and (c.reason == OPERATOR_DEAD or (self._short and not c.cancel_requested)))
        ]  # fmt: skip

    @property
    def _short(self) -> bool:
        """Whether the parent ended with a part of its fill."""
        return self.parent.final and self.parent.state is not State.FILLED and self.traded

    @property
    def holds(self) -> bool:
        """Whether what lacks an exit holds the contract: not where no more is missing than what may have ended with its day."""
        return self._short or not all(_dropped(c) and c.tif == "DAY" for c in self.unprotected)

    def ended_for(self, order: Order) -> float:
        """Seconds since the order ended."""
        return (self.now - order.updated_at).total_seconds()

    @property
    def exits(self) -> list[Order]:
        """Children on the other side than their parent: they close what it opens."""
        return [c for c in self.children if c.side != self.parent.side]

    @property
    def unprotected(self) -> list[Order]:
        """The missing exits."""
        return [c for c in self.missing if c.side != self.parent.side]

    @property
    def exposed(self) -> Decimal:
        """What the parent opened and no child has closed; 0 when the contract's position is flat."""
        if self.position == 0:
            return Decimal(0)
        return max(self.parent.filled - sum((c.filled for c in self.exits), Decimal(0)), Decimal(0))

    @property
    def is_naked(self) -> bool:
        """Whether its break is open."""
        return any(b.resolved_at is None for b in self.naked)

    def askable(self, order: Order) -> bool:
        """Whether a cancel of this order is still to be asked for on this session (R7)."""
        return not order.cancel_requested or order.cancel_session not in (None, self.session)

    def queued(self, *, children_only: bool = False) -> list[Order]:
        """The members that were never sent."""
        members = self.children if children_only else [self.parent, *self.children]
        return [o for o in members if o.state is State.QUEUED]


@dataclass(frozen=True, slots=True)
class Row:
    """One case: which orders it is about (none = it does not apply), what is done, and its sentence."""

    name: str
    about: Callable[[Family], list[Order]]
    act: Act
    says: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one row asks for now."""

    row: Row
    orders: tuple[Order, ...]


AT_IB = (State.SENDING, State.WORKING)
"""States of an order that is at the broker, as far as anybody knows."""


def _orphans(family: Family) -> list[Order]:
    return family.queued(children_only=True) if family.over and not family.doubtful else []


def _over_in_doubt(family: Family) -> list[Order]:
    waiting = (State.QUEUED, *AT_IB)
    return [c for c in family.children if c.state in waiting] if family.over and family.doubtful else []


def _outliving(family: Family) -> list[Order]:
    if not family.over or family.doubtful:
        return []
    return [c for c in family.children if c.state in AT_IB and not c.filled and family.askable(c)]


def _outlived(family: Family) -> bool:
    return family.ended_for(family.parent) > OUTLIVED_FOR


def _unsent(family: Family) -> list[Order]:
    return family.queued() if family.parent.state is State.QUEUED and family.missing else []


def _useless(family: Family) -> list[Order]:
    """Children that wait beside a missing one, while the parent is about to be cancelled."""
    return family.queued(children_only=True) if _incomplete(family) or _being_cancelled(family) else []


def _waits_unfilled(family: Family) -> bool:
    return (
        family.parent.state in AT_IB
        and not family.traded
        and (bool(family.missing) or family.parent.id in family.stranded)
    )


def _incomplete(family: Family) -> list[Order]:
    return [family.parent] if _waits_unfilled(family) and family.askable(family.parent) else []


def _being_cancelled(family: Family) -> bool:
    return _waits_unfilled(family) and family.parent.cancel_requested


def _naked(family: Family) -> list[Order]:
    missing = family.unprotected
    told = any(b.resolved_at is None and (b.holds or not family.holds) for b in family.naked)
    known = told or any(_answers(b, keys_of(missing), family.exposed) for b in family.naked)
    return [family.parent] if family.traded and missing and family.exposed > 0 and not known else []


def _answers(resolved: Break, names: str, exposed: Decimal) -> bool:
    """Whether an operator said of these missing exits, and of no less than is open now, that it has been seen."""
    told = resolved.ours
    by_itself = resolved.resolution in (CLOSED, SURFACED)
    return not by_itself and told.get("missing") == names and Decimal(told.get("without_exit") or 0) >= exposed


def _dropped(order: Order) -> bool:
    """Whether IB ended an order whose client had not given it that time to end, and nobody here asked for it.

    A day's end is nowhere in the ledger, and what ended with it is missing all the same where its parent's position is open.
    """
    at_once = order.tif in ("IOC", "FOK")
    until = order.valid_until or from_ib_utc(order.extra.get("good_till"))
    own_time = at_once or (until is not None and until <= order.updated_at)
    by_ib = order.state is State.CANCELLED and order.reason != OPERATOR_DEAD
    return by_ib and not order.cancel_requested and not own_time


def _ended_just_now(family: Family) -> list[Order]:
    if not family.traded or family.exposed <= 0:
        return []
    return [c for c in family.exits if _dropped(c) and c not in family.missing]


def _covered(family: Family) -> list[Order]:
    return [family.parent] if family.is_naked and (not family.unprotected or family.exposed <= 0) else []


TABLE: tuple[Row, ...] = (
    Row(
        "parent_over", _orphans, Act.END,
        "The parent ended without a fill: children that were never sent end with it.",
    ),
    Row(
        "child_outlives", lambda f: _outliving(f) if _outlived(f) else [], Act.CANCEL,
        "The parent ended without a fill and IB has not cancelled this child with it for 2 s: it is cancelled on its own.",
    ),
    Row(
        "child_may_outlive", lambda f: [] if _outlived(f) else _outliving(f), Act.WAIT,
        "The parent ended without a fill a moment ago: IB cancels its children.",
    ),
    Row(
        "over_in_doubt", _over_in_doubt, Act.WAIT,
        "The parent ended without a fill in the ledger, and an open break says that its fills or the position are not known: its "
        "children stay.",
    ),
    Row(
        "never_whole", _unsent, Act.END,
        "A member expired or was refused before the parent was sent: what was never sent of the family ends.",
    ),
    Row(
        "half_sent", _incomplete, Act.CANCEL,
        "The parent is at the broker without a fill and a child is missing (refused, expired, in doubt, kept by the gateway "
        "for ever because the last member ended unsent): the parent is cancelled, and IB cancels its children with it.",
    ),
    Row(
        "half_sent_rest", _useless, Act.END,
        "The same: children that were never sent end.",
    ),
    Row(
        "naked", _naked, Act.NAKED,
        "The parent has traded and a child on the other side is missing: a break names the position without that exit, and holds "
        "the contract unless all that is missing are DAY orders that IB ended, perhaps with their day. Children that are there go "
        "on, nothing is sent again and nothing is closed.",
    ),
    Row(
        "exit_may_close", _ended_just_now, Act.WAIT,
        "IB ended an exit that nobody here cancelled, less than 2 s ago: its sibling's execution may be on its way. After that "
        "it is missing while anything is open.",
    ),
    Row(
        "covered", _covered, Act.CLEAR,
        "The missing child surfaced, or what the parent opened is closed: the break is resolved.",
    ),
)  # fmt: skip
"""Every row that applies is carried out. A QUEUED child of a parent that has traded needs none: the queue sends it."""


def rule(family: Family) -> list[Ruling]:
    """What is to be done about the family now."""
    return [Ruling(row, tuple(orders)) for row in TABLE if (orders := row.about(family))]


def keys_of(orders: Iterable[Order]) -> str:
    """Orders by the names that their clients gave them."""
    return ", ".join(o.client_order_id or o.id for o in orders)


def names_of(orders: Iterable[Order]) -> str:
    """Orders as a person is told of them."""
    return ", ".join(f"{o.client_order_id or o.id} {o.state}" for o in orders)


def parent_of(order: Order, orders: Mapping[str, Order]) -> Order | None:
    """The order's parent, None without one."""
    return orders.get(order.extra.get(PARENT, ""))


def waits(order: Order, orders: Mapping[str, Order]) -> bool:
    """Whether a QUEUED order must wait for what becomes of its parent: in doubt, lost, ended, or about to be cancelled."""
    if PARENT not in order.extra:
        return False
    parent = parent_of(order, orders)
    if parent is None:
        return True
    return not parent.filled and (parent.state not in (State.QUEUED, *AT_IB) or parent.cancel_requested)


def is_exit(order: Order, orders: Mapping[str, Order]) -> bool:
    """Whether the order closes what its parent opens, or has opened: R6 judges the parent's age and never its own."""
    parent = parent_of(order, orders)
    return parent is not None and order.side != parent.side and (parent.filled > 0 or not parent.final)


def is_needed_exit(
    order: Order, orders: Mapping[str, Order], children: Mapping[str, Sequence[str]], holds: Iterable[Break]
) -> bool:
    """Whether the order closes no more than what its parent has opened and its siblings have not closed, and none of the holds
    is about anything but its family (R29)."""
    parent = parent_of(order, orders)
    if parent is None or not parent.filled or order.side == parent.side:
        return False
    members = {parent.id, *children.get(parent.id, ())}
    closed = sum((orders[oid].filled for oid in members if orders[oid].side == order.side), Decimal(0))
    return order.quantity <= parent.filled - closed and all(b.order_id in members for b in holds)


def unsendable(order: Order, orders: Mapping[str, Order]) -> str | None:
    """Why the bytes of an order must not be written, for its parent's sake; None when they may."""
    parent = parent_of(order, orders)
    if PARENT not in order.extra or (parent is not None and (parent.filled or parent.state in AT_IB)):
        return None
    if parent is None:
        return "its parent is not in the ledger"
    return f"its parent, order {parent.client_order_id or parent.id}, is {parent.state}"


def parent_id(order: Order, orders: Mapping[str, Order]) -> int:
    """The order id that IB knows the parent by, 0 where there is none any more: a filled parent's children stand alone."""
    parent = parent_of(order, orders)
    return 0 if parent is None or parent.final else parent.broker_order_id or 0


def why_alone(order: Order, orders: Mapping[str, Order], children: Mapping[str, Sequence[str]]) -> str | None:
    """Why the order must not be sent again by itself, a sentence: it would put half a family into the market (R1)."""
    parent = parent_of(order, orders)
    if order.id in children:
        return (
            f"Others hang on order {order.id}: a bracket that was cut off is not completed by repeating a part of it."
        )
    if PARENT in order.extra and (parent is None or not parent.filled):
        return f"Order {order.id} hangs on one that has not traded: a bracket that was cut off is cancelled, not completed."
    return None


def units(queued: Iterable[Order]) -> list[list[Order]]:
    """QUEUED orders as they are licensed: families that were accepted together, and single orders, in order of acceptance."""
    made: dict[str, list[Order]] = {}
    for order in queued:
        made.setdefault(order.extra.get(TOGETHER, order.id), []).append(order)
    return list(made.values())


def together(new: Iterable[str], parents: Mapping[str, str]) -> list[list[str]]:
    """Ids of new orders in families, by `parents` (child's id -> parent's): each family behind its first member, in one piece."""
    made: dict[str, list[str]] = {}
    for oid in new:
        made.setdefault(root_of(oid, parents), []).append(oid)
    return list(made.values())


def root_of(oid: str, parents: Mapping[str, str]) -> str:
    """The topmost ancestor."""
    seen = {oid}
    while (parent := parents.get(oid)) is not None and parent not in seen:
        oid = parent
        seen.add(oid)
    return oid
