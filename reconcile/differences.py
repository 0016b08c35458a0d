"""What may differ between the ledger and the broker: one type for each kind of difference, with both sides' evidence. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from engine.broker import ExecutionFact, OpenOrder
from engine.order import Order
from engine.position import Break, Execution
from engine.reference import Reference
from reconcile.positions import PositionDiffers

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that one snapshot shows of one order."""

    open: tuple[OpenOrder, ...] = ()
    completed: tuple[OpenOrder, ...] = ()
    executions: tuple[ExecutionFact, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the broker shows it at all."""
        return bool(self.open or self.completed or self.executions)

    @property
    def perm_ids(self) -> tuple[int, ...]:
        """The permIds under which it is shown, sorted."""
        shown = {fact.perm_id for fact in (*self.open, *self.completed)} | {fact.perm_id for fact in self.executions}
        return tuple(sorted(shown - {0}))

    @property
    def live(self) -> tuple[int, ...]:
        """The permIds that are open and not completed, sorted."""
        done = {fact.perm_id for fact in self.completed}
        return tuple(sorted({fact.perm_id for fact in self.open} - done - {0}))

    @property
    def end(self) -> OpenOrder | None:
        """The completed order that ended it, None while a permId of it is open (a twin's end is not the order's)."""
        done = {fact.perm_id for fact in self.completed}
        if not self.completed or any(fact.perm_id not in done for fact in self.open):
            return None
        return max(self.completed, key=lambda fact: (fact.status == "Filled", fact.filled or ZERO, fact.perm_id))

    @property
    def shown(self) -> OpenOrder | None:
        """The fullest picture of the order's fields, None when only executions tell of it."""
        return next(iter(self.open), None) or self.end or next(iter(self.completed), None)

    @property
    def traded(self) -> Decimal | None:
        """The filled quantity that completed orders report, None where none reports any."""
        done = {fact.perm_id: _amount(fact) for fact in self.completed}
        figures = [amount for amount in done.values() if amount is not None]
        return sum(figures, ZERO) if figures else None

    def figures(self) -> dict[str, str | None]:
        """The broker's side, for a person to read."""
        fact = self.shown
        return {
            "shown": ", ".join(self._parts()) or "nothing",
            "status": fact.status if fact is not None else None,
            "perm_id": ", ".join(map(str, self.perm_ids)) or None,
            "filled": None if self.traded is None else str(self.traded),
        }

    def _parts(self) -> Iterator[str]:
        for name, facts in (("open", self.open), ("completed", self.completed), ("executions", self.executions)):
            if facts:
                yield name


NOTHING = Evidence()


def _amount(fact: OpenOrder) -> Decimal | None:
    if fact.filled is not None:
        return fact.filled
    return fact.quantity if fact.status == "Filled" and fact.quantity else None


@dataclass(frozen=True, slots=True)
class OrderDiffers:
    """An order of the ledger whose state is not what the broker shows. `filled` is ours with the unbooked executions."""

    order: Order
    seen: Evidence
    filled: Decimal

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"order:{self.order.id}"

    def ours(self) -> dict[str, str | None]:
        """The ledger's side, for a person to read."""
        return _ours(self.order)


@dataclass(frozen=True, slots=True)
class DeadTraded:
    """An order that an operator called dead, and executions of it. `filled` is ours with the unbooked ones."""

    order: Order
    seen: Evidence
    filled: Decimal

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"dead:{self.order.id}"

    def ours(self) -> dict[str, str | None]:
        """The ledger's side, for a person to read."""
        return _ours(self.order) | {"reason": self.order.reason, "filled": str(self.filled)}


@dataclass(frozen=True, slots=True)
class StrangerSeen:
    """An order at the broker that the ledger has not. `own` is its reference when it carries our tag (R19)."""

    order_id: str
    own: Reference | None
    seen: Evidence

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"stranger:{self.order_id}"


@dataclass(frozen=True, slots=True)
class ExecutionDiffers:
    """An execution that the ledger has not, or has in a lower revision. `order_id` None: no order of the ledger's."""

    fact: ExecutionFact
    known: Execution | None
    order_id: str | None
    order: Order | None
    filled: Decimal  # the order's, with all its unbooked executions

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"execution:{self.fact.account}:{self.fact.exec_id}"


@dataclass(frozen=True, slots=True)
class FillsMissing:
    """The broker says that an order traded more than all known executions sum up to."""

    order: Order
    seen: Evidence
    ours: Decimal
    broker: Decimal

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"fills:{self.order.id}"


@dataclass(frozen=True, slots=True)
class TwinSeen:
    """Several permIds under one reference of ours."""

    order: Order
    seen: Evidence
    perm_ids: tuple[int, ...]

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"twin:{self.order.id}"


@dataclass(frozen=True, slots=True)
class ChangedThere:
    """An order of ours that the broker has with other figures: a person changed it there (R28)."""

    order: Order
    fact: OpenOrder
    figures: dict[str, str]

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"changed:{self.order.id}"


@dataclass(frozen=True, slots=True)
class ChangeLost:
    """A change that was asked for on a session that is over, and the broker shows the order as it was."""

    order: Order

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"asked:{self.order.id}"


@dataclass(frozen=True, slots=True)
class ExecutionGone:
    """An execution here that the broker does not show, although it shows older ones."""

    known: Execution

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"gone:{self.known.account}:{self.known.root}"


@dataclass(frozen=True, slots=True)
class BreakOutlived:
    """An open break whose question the evidence has answered. `order` None: it is about no order."""

    found: Break
    order: Order | None

    @property
    def key(self) -> str:
        """The same in each collection that shows this difference."""
        return f"break:{self.found.id}"


Difference = (
    OrderDiffers
    | DeadTraded
    | StrangerSeen
    | ExecutionDiffers
    | FillsMissing
    | TwinSeen
    | ChangedThere
    | ChangeLost
    | ExecutionGone
    | BreakOutlived
    | PositionDiffers
)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _ours(order: Order) -> dict[str, str | None]:
    return {
        "state": str(order.state), "quantity": str(order.quantity), "filled": str(order.filled),
        "session": _text(order.session), "broker_order_id": _text(order.broker_order_id),
        "perm_id": _text(order.perm_id),
    }  # fmt: skip
