"""The table: what is done about each difference between the ledger and the broker. Pure.

Rows are looked up in order; the first that fits decides. `Repair` and `Adopt` where evidence decides, `Hold` where it does not
(a break with both sides' figures freezes the contract until an operator resolves it), `Ignore` where there is nothing to do.
What a row writes is in `reconcile.drafts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from engine.events import Draft
from engine.order import State
from reconcile import drafts as write
from reconcile.differences import (
    BreakOutlived,
    ChangedThere,
    ChangeLost,
    DeadTraded,
    ExecutionDiffers,
    ExecutionGone,
    FillsMissing,
    OrderDiffers,
    StrangerSeen,
    TwinSeen,
)
from reconcile.drafts import View
from reconcile.positions import PositionDiffers
from reconcile.snapshot import COMPLETED_ORDERS, ENDED, EXECUTIONS, LINK, OPEN_ORDERS, contradicts, looked_at


class Verdict(StrEnum):
    """What kind of answer a row gives."""

    REPAIR = "repair"  # the ledger learns what the broker shows of an order or execution that it knows
    ADOPT = "adopt"  # the ledger takes in what it did not have, or did not count on any more
    HOLD = "hold"  # evidence does not decide: a break, and the contract is frozen
    IGNORE = "ignore"  # nothing is written


class Acts(IntEnum):
    """How sure a row must be before it writes: most doubts answer themselves in the next collection."""

    NOW = 0
    SEEN_TWICE = 1  # when two collections in a row showed the difference, some time apart
    AT_LAST = 2  # when no collection is left to wait for (R24)


@dataclass(frozen=True, slots=True)
class Row:
    """One case: `name`, the kind of difference it is about, when it fits, the verdict, what it writes, and its sentence."""

    name: str
    of: type[Any]
    when: Callable[[Any, View], bool]
    verdict: Verdict
    acts: Acts
    write: Callable[[Any, View], list[Draft]]
    says: str


def _state(*states: State) -> Callable[[OrderDiffers, View], bool]:
    return lambda d, _: d.order.state in states and d.seen.present


def _absent(d: OrderDiffers, *states: State) -> bool:
    return d.order.state in states and not d.order.external and not d.seen.present


def _gone(d: OrderDiffers) -> bool:
    return d.order.state is State.WORKING and not d.seen.open and not d.seen.completed


def _ended(d: OrderDiffers) -> bool:
    """Completed orders show its end, and its executions did not fill it."""
    return d.seen.end is not None and not d.order.final and d.filled < d.order.quantity


def _ended_short(d: OrderDiffers, _: View) -> bool:
    end = d.seen.end
    return end is not None and _ended(d) and end.status in ENDED


def _inactive(d: OrderDiffers, _: View) -> bool:
    end = d.seen.end
    return end is not None and _ended(d) and end.status == "Inactive"


def _already_told(d: FillsMissing | TwinSeen, view: View) -> bool:
    """A break is open about it, or was resolved by an operator with these very figures."""
    kind, figure = ("twin", "perm_id") if isinstance(d, TwinSeen) else ("missing_executions", "filled")
    value = write.permids(d) if isinstance(d, TwinSeen) else str(d.broker)
    return any(
        b.kind == kind and b.order_id == d.order.id and (b.resolved_at is None or b.broker.get(figure) == value)
        for b in view.book.breaks.values()
    )


def _ours_to_cancel(d: TwinSeen, view: View) -> bool:
    """R26: our tag and our clientId on all that is live, and the one beside the first has an orderId of ours."""
    live = [fact for fact in d.seen.open if fact.perm_id in d.seen.live]
    extra = write.twin_to_cancel(d)
    return (
        view.may_cancel and bool(extra) and all(fact.client_id == view.me.client_id for fact in live)
        and all(fact.broker_order_id for fact in extra)
    )  # fmt: skip


def _told_gone(d: ExecutionGone, view: View) -> bool:
    known = d.known
    return any(
        b.kind == "bust" and (b.account, b.ours["exec_id"]) == (known.account, known.exec_id)
        for b in view.book.breaks.values()
    )


def _is_open(view: View, kind: str, order_id: str) -> bool:
    return any(b.kind == kind and b.order_id == order_id for b in view.book.open_breaks.values())


def _held(d: ExecutionDiffers, view: View) -> bool:
    return any(b.kind == "execution" and b.broker["exec_id"] == d.fact.exec_id for b in view.book.breaks.values())


TABLE: tuple[Row, ...] = (
    # ---- orders of the ledger
    Row(
        "queued", OrderDiffers, lambda d, _: _absent(d, State.QUEUED), Verdict.IGNORE, Acts.NOW, write.nothing,
        "An intent that was never licensed: the desk licenses and sends it when the gate opens, or it expires by its age.",
    ),
    Row(
        "sending_now", OrderDiffers, lambda d, v: _absent(d, State.SENDING) and not v.snapshot.judges(d.order),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "Licensed for the present session, or after the collection began: its absence says nothing (R3).",
    ),
    Row(
        "rejected_by_ib", OrderDiffers, lambda d, v: not d.order.external and not d.filled and _inactive(d, v),
        Verdict.REPAIR, Acts.NOW, write.rejected,
        "Completed orders show it as Inactive with nothing filled: the order is REJECTED.",
    ),
    Row(
        "cancelled_by_ib", OrderDiffers, lambda d, v: not d.order.external and _ended_short(d, v),
        Verdict.REPAIR, Acts.NOW, write.cancelled,
        "Completed orders show that it ended before it was filled: the order is CANCELLED, with the fills it had.",
    ),
    Row(
        "external_ended", OrderDiffers, lambda d, _: d.order.external and _ended(d), Verdict.REPAIR, Acts.NOW,
        write.external_over,
        "Somebody else's order is among the completed ones: its record ends, with how the broker says it ended.",
    ),
    Row(
        "in_doubt_surfaced", OrderDiffers, _state(State.IN_DOUBT), Verdict.ADOPT, Acts.NOW, write.working,
        "An order in doubt is at the broker after all: it is WORKING, and its break is resolved.",
    ),
    Row(
        "sending_present", OrderDiffers, _state(State.SENDING), Verdict.ADOPT, Acts.NOW, write.working,
        "Sent by a session that died before it was acknowledged, and the broker shows it: the order is WORKING.",
    ),
    Row(
        "queued_yet_present", OrderDiffers, _state(State.QUEUED), Verdict.ADOPT, Acts.NOW, write.working,
        "Never licensed here, yet at the broker: the database went back in time; the order is WORKING and is not sent (R18).",
    ),
    Row(
        "filled_yet_open_known", OrderDiffers,
        lambda d, v: d.order.state is State.FILLED and _is_open(v, "filled_yet_open", d.order.id),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "Filled here, open there, and its break is open already.",
    ),
    Row(
        "ended_just_now", OrderDiffers, lambda d, v: d.order.final and v.snapshot.moved_on(d.order),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "It ended while the snapshot was taken: the snapshot is older than the ledger.",
    ),
    Row(
        "filled_yet_open", OrderDiffers, lambda d, _: d.order.state is State.FILLED, Verdict.HOLD, Acts.AT_LAST,
        write.filled_yet_open,
        "Its executions fill it and the broker goes on to show it as open: a break asks, nothing is cancelled by guess.",
    ),
    Row(
        "reopened", OrderDiffers, lambda d, _: d.order.final, Verdict.ADOPT, Acts.SEEN_TWICE, write.reopened,
        "It has ended here and is live at the broker: late evidence reopens it (R1), and a break tells who was told otherwise.",
    ),
    Row(
        "perm_id_learned", OrderDiffers, lambda d, _: d.order.state is State.WORKING and bool(d.seen.open),
        Verdict.REPAIR, Acts.NOW, write.working,
        "A working order whose permId the ledger did not know yet, or whose twin outlived it: the permId is noted.",
    ),
    Row(
        "sending_absent", OrderDiffers, lambda d, v: _absent(d, State.SENDING) and v.proves_absence(d.order),
        Verdict.HOLD, Acts.SEEN_TWICE, write.in_doubt,
        "Licensed for a session that is dead, and a complete snapshot does not show it: IN_DOUBT, never sent again by itself (R1).",
    ),
    Row(
        "sending_unproven", OrderDiffers, lambda d, _: _absent(d, State.SENDING), Verdict.HOLD, Acts.AT_LAST, write.in_doubt,
        "The same, but no complete snapshot came in time, or the order is older than the gateway's day, or its contract's position "
        "differs: IN_DOUBT, and its break names what is missing (R23, R24).",
    ),
    Row(
        "external_gone", OrderDiffers,
        lambda d, v: d.order.external and _gone(d) and v.whole and v.snapshot.judges(d.order),
        Verdict.REPAIR, Acts.SEEN_TWICE, write.external_over,
        "Somebody else's order is neither open nor completed in a complete snapshot: its record ends, its end was not shown.",
    ),
    Row(
        "external_unproven", OrderDiffers,
        lambda d, v: d.order.external and _gone(d) and not v.snapshot.linked and v.snapshot.judges(d.order),
        Verdict.IGNORE, Acts.AT_LAST, write.nothing,
        "The same, while IB's own servers were not asked: no verdict, collect again (R6).",
    ),
    Row(
        "working_now", OrderDiffers, lambda d, v: _gone(d) and (d.order.external or not v.snapshot.judges(d.order)),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "The present session's order, or one that moved while the snapshot was taken: its absence says nothing (R3).",
    ),
    Row(
        "vanished_known", OrderDiffers,
        lambda d, v: _is_open(v, "vanished", d.order.id),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "Seen and then gone, and its break is open already.",
    ),
    Row(
        "vanished_answered", OrderDiffers,
        lambda d, v: _gone(d) and any(
            b.kind == "vanished" and b.order_id == d.order.id and looked_at(b, v.book) for b in v.book.breaks.values()
        ),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "Seen and then gone, an operator has looked since, and nothing was heard of it again.",
    ),
    Row(
        "vanished_unproven", OrderDiffers, lambda d, v: _gone(d) and not v.snapshot.came(
            OPEN_ORDERS, COMPLETED_ORDERS, EXECUTIONS, LINK
        ),
        Verdict.IGNORE, Acts.AT_LAST, write.nothing,
        "A working order is not shown by a snapshot that is missing a part: no verdict, collect again (G6).",
    ),
    Row(
        "vanished", OrderDiffers, lambda d, _: _gone(d), Verdict.HOLD, Acts.AT_LAST, write.vanished,
        "The broker had shown it, and now it is neither open nor completed: its state stays, a break asks (R25).",
    ),
    # ---- orders that the ledger has not
    Row(
        "restored", StrangerSeen, lambda d, _: d.own is not None, Verdict.ADOPT, Acts.NOW, write.recorded,
        "It carries our tag and the ledger has no row: the row is restored from the broker's evidence, its key is taken (R19).",
    ),
    Row(
        "external", StrangerSeen, lambda _d, _v: True, Verdict.ADOPT, Acts.NOW, write.recorded,
        "Placed by somebody else: recorded as external, never touched.",
    ),
    # ---- orders that a person changed at the broker
    Row(
        "changed_just_now", ChangedThere, lambda d, v: v.snapshot.moved_on(d.order), Verdict.IGNORE, Acts.NOW, write.nothing,
        "The ledger learned something of the order while the snapshot was taken: the figures are looked at again.",
    ),
    Row(
        "changed_there", ChangedThere, lambda _d, _v: True, Verdict.REPAIR, Acts.NOW, write.changed_there,
        "Changed in TWS: the broker's figures are the order's now, checked against the limits again, not reverted (R28).",
    ),
    Row(
        "change_lost", ChangeLost, lambda _d, _v: True, Verdict.REPAIR, Acts.SEEN_TWICE, write.change_lost,
        "A change was written on a session that is over and the order stands as it was: the change is over, never sent again (R7).",
    ),
    # ---- executions
    Row(
        "bust_known", ExecutionGone, _told_gone, Verdict.IGNORE, Acts.NOW, write.nothing,
        "An execution that the broker does not show any more, and whose break was opened already.",
    ),
    Row(
        "bust", ExecutionGone, lambda _d, _v: True, Verdict.HOLD, Acts.SEEN_TWICE, write.bust,
        "Booked here, and the broker shows older executions but not this one: a break, never a deletion (R25).",
    ),
    Row(
        "execution_contradicts_known", ExecutionDiffers, lambda d, v: contradicts(d.fact, d.known) and _held(d, v),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "A contradicting execution whose break was opened already.",
    ),
    Row(
        "execution_contradicts", ExecutionDiffers, lambda d, _: contradicts(d.fact, d.known), Verdict.HOLD, Acts.NOW,
        write.contradicting,
        "The same execution with another contract or side: not booked, a break shows both (R27).",
    ),
    Row(
        "execution_corrected", ExecutionDiffers, lambda d, _: d.known is not None, Verdict.REPAIR, Acts.NOW, write.booked,
        "A higher revision of a booked execution: it replaces the lower one (G5).",
    ),
    Row(
        "filled_while_away", ExecutionDiffers,
        lambda d, _: d.order is not None and not d.order.external and d.filled >= d.order.quantity,
        Verdict.REPAIR, Acts.NOW, write.booked,
        "Executions that complete an order of ours: they are booked, and by their sum the order is FILLED (R27).",
    ),
    Row(
        "partly_filled_while_away", ExecutionDiffers, lambda d, _: d.order is not None and not d.order.external,
        Verdict.REPAIR, Acts.NOW, write.booked,
        "An execution of an order of ours that does not complete it: it is booked.",
    ),
    Row(
        "execution_missing_here", ExecutionDiffers, lambda _d, _v: True, Verdict.REPAIR, Acts.NOW, write.booked,
        "An execution of an order that was just recorded, or of nobody's that we know: booked, because positions are their sum.",
    ),
    # ---- what an order traded, and how often it exists
    Row(
        "missing_executions_known", FillsMissing, _already_told, Verdict.IGNORE, Acts.NOW, write.nothing,
        "Missing executions whose break is open, or was resolved with these figures.",
    ),
    Row(
        "missing_executions", FillsMissing, lambda _, v: v.snapshot.came(EXECUTIONS), Verdict.HOLD, Acts.SEEN_TWICE,
        write.missing_executions,
        "The broker says that more was filled than all executions sum up to (they left its window): not invented, a break asks.",
    ),
    Row(
        "missing_executions_unproven", FillsMissing, lambda _d, _v: True, Verdict.HOLD, Acts.AT_LAST, write.missing_executions,
        "The same, while the list of executions did not come: a break, when no collection is left to wait for.",
    ),
    Row(
        "dead_traded_known", DeadTraded, lambda d, v: any(
            b.kind == "reopened" and b.order_id == d.order.id for b in v.book.breaks.values()
        ),
        Verdict.IGNORE, Acts.NOW, write.nothing,
        "An order that was called dead has traded, and its break was opened already.",
    ),
    Row(
        "dead_traded", DeadTraded, lambda _d, _v: True, Verdict.HOLD, Acts.NOW, write.dead_traded,
        "An operator called it dead and it traded: its executions are booked, and a break tells who was told otherwise (R1).",
    ),
    Row(
        "twin_known", TwinSeen, _already_told, Verdict.IGNORE, Acts.NOW, write.nothing,
        "A twin whose break is open, or was resolved with these permIds.",
    ),
    Row(
        "twin_cancelled", TwinSeen, _ours_to_cancel, Verdict.HOLD, Acts.NOW, write.twin_cancelled,
        "Two live permIds under one reference and our clientId: the younger one is cancelled, once, and a break tells (R26).",
    ),
    Row(
        "twin", TwinSeen, lambda _d, _v: True, Verdict.HOLD, Acts.NOW, write.twin,
        "Two permIds under one reference of ours: a break names both, nothing is cancelled by guess (R26).",
    ),
    # ---- positions
    Row(
        "position_agrees_again", PositionDiffers, lambda d, _: d.agrees, Verdict.REPAIR, Acts.NOW, write.agrees_again,
        "The figures of an open position break are equal again: the break is resolved.",
    ),
    Row(
        "position_known", PositionDiffers, lambda d, _: d.opened is not None, Verdict.IGNORE, Acts.NOW, write.nothing,
        "The position differs and its break is open already.",
    ),
    Row(
        "external_position", PositionDiffers, lambda _, v: v.never_traded, Verdict.ADOPT, Acts.SEEN_TWICE, write.external_position,
        "The broker held it before this ledger ever sent an order: a break that freezes nothing, counted beside ours from now on.",
    ),
    Row(
        "position_differs", PositionDiffers, lambda _, v: v.snapshot.came(EXECUTIONS), Verdict.HOLD, Acts.SEEN_TWICE,
        write.position_break,
        "The sum of all executions is not the broker's position: a break with both figures, the contract is frozen (G5).",
    ),
    Row(
        "position_unproven", PositionDiffers, lambda _d, _v: True, Verdict.HOLD, Acts.AT_LAST, write.position_break,
        "The same, while the list of executions did not come: a break, when no collection is left to wait for.",
    ),
    # ---- breaks
    Row(
        "break_answered", BreakOutlived, lambda _d, _v: True, Verdict.REPAIR, Acts.NOW, write.surfaced,
        "The evidence answers an open break (the doubtful order surfaced, the fills came): the break is resolved.",
    ),
)  # fmt: skip
