"""The judge: what must hold at every step, and what must be true at the end. It asks the services what happened, never a replica.

A violation is noted and ends the run; it is not raised where it is found, because code under test might catch it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine.broker import Outgoing
from engine.events import Kind
from engine.reference import Reference
from engine.store import Row
from ha.role import State as Role
from tests.simulation.gateway import BrokerOrder, Session
from tests.simulation.loop import Killed
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.replica import Process

PROOF_MAX_AGE = 1.0
OVERLAP = 1.0
LOOK_EVERY = 0.05
LISTS = frozenset({"open_orders", "completed_orders", "executions", "positions"})
LEAST_LISTS = LISTS - {"completed_orders"}
"""What opens a gate: completed orders need not be asked for where the other lists explain every order."""


@dataclass(frozen=True, slots=True)
class Licence:
    """The last licence of an order that was committed and not taken back."""

    epoch: int
    session: int
    broker_order_id: int


class Judge:
    """Hears of everything as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[str] = []
        self.notes: list[str] = []
        self.epoch = 0
        self.holders: dict[int, str] = {}  # epoch -> instance
        self.licences: dict[str, Licence] = {}
        self.accepted_at: dict[str, datetime] = {}
        self.cancels: dict[str, set[int]] = {}  # order -> sessions for which a cancel was licensed
        self.ledger_session: dict[int, int] = {}  # gateway's number of a session -> the ledger's
        self.agreed: dict[
            int, frozenset[str]
        ] = {}  # reconciled sessions, by the gateway's number -> symbols still in doubt
        self.epoch_of: dict[int, int] = {}  # gateway's number of a session -> its process's epoch at admission
        self.newest = 0  # the highest such epoch
        self.at_broker: dict[str, int] = {}  # order id -> how many broker orders it became
        self._overlap = 0.0
        self._saw_more: set[str] = set()  # instances that have read events which the database has lost since
        self._claimed_since: set[int] = set()  # epochs claimed since then

    def violated(self, guarantee: str, how: str) -> None:
        """Note it and end the run."""
        self.violations.append(f"{guarantee}: {how}")
        self._world.say("JUDGE", f"*** {guarantee}: {how}")
        self._world.loop.stop()

    # ---- the ledger

    def claimed(self, replica: str, epoch: int, instance: str) -> None:
        """A claim is committed."""
        if epoch <= self.epoch:
            self.violated("G1", f"{replica} claimed epoch {epoch} after epoch {self.epoch}")
        self.epoch = max(self.epoch, epoch)
        self.holders[epoch] = instance
        self._claimed_since.add(epoch)
        self._world.say("pg", f"{replica} claims epoch {epoch}")

    def went_back(self, events: int) -> None:
        """The database has only so many events left: whoever has read more must not lead on before everything was held (R18)."""
        processes = [replica.running for replica in self._world.replicas.values()]
        self._saw_more |= {p.node.me.instance for p in processes if p is not None and p.node.book.seq > events}
        self._claimed_since.clear()

    def committed(self, replica: str, epoch: int, what: str) -> None:
        """A write under `epoch` is committed."""
        if epoch != self.epoch:
            self.violated("G1", f"{replica} committed {what} under epoch {epoch}, the present one is {self.epoch}")

    def appended(self, replica: str, epoch: int, rows: list[Row]) -> None:
        """Events are committed."""
        for row in rows:
            oid, p, kind = row["order_id"], row["payload"], row["event_type"]
            self._world.say("pg", f"{replica} e{epoch} #{row['seq']} {kind} {oid or ''} {_brief(p)}")
            if kind == Kind.SESSION_OPENED:
                self._session_opened(replica, p["session"])
            if kind == Kind.BREAK_OPENED and p["kind"] == "everything":
                self._saw_more.clear()
            if kind == Kind.ORDER_ACCEPTED:
                self.accepted_at[oid] = _moment(row["timestamp"])
            if kind in (Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED) and p.get("session") is not None:
                self.licences[oid] = Licence(epoch, p["session"], p["broker_order_id"])
            elif kind in (Kind.CANCEL_REQUESTED, Kind.CANCEL_LICENSED):
                self.cancels.setdefault(oid, set()).add(p.get("session") or 0)
            elif kind in (Kind.ORDER_UNLICENSED, Kind.ORDER_IN_DOUBT, Kind.ORDER_EXPIRED):
                self.licences.pop(oid, None)
            if kind == Kind.ORDER_IN_DOUBT and "(complete snapshot)" in p["reason"]:
                self._absence(replica, oid)

    def _absence(self, replica: str, oid: str) -> None:
        """G6: no verdict of absence from lists that did not come."""
        process = self._world.replicas[replica].running
        session = process.broker.session if process is not None and process.broker is not None else None
        if session is None:
            return
        if session.unanswered:
            which = ", ".join(sorted(session.unanswered))
            self.violated("G6", f"{oid} is called absent, and the gateway did not answer for {which}")
        missing = LISTS - session.asked_whole
        since, accepted = session.executions_since, self.accepted_at.get(oid)
        if since is not None and accepted is not None and since <= accepted:
            missing -= {"executions"}  # nothing older is about this order
        if missing:
            which = ", ".join(sorted(missing))
            self.violated("G6", f"{oid} is called absent, and nobody asked the gateway for all {which}")

    def _session_opened(self, replica: str, number: int) -> None:
        process = self._world.replicas[replica].running
        session = process.broker.session if process is not None and process.broker is not None else None
        if session is not None:
            self.ledger_session[session.number] = number

    # ---- what a process writes to the gateway

    def writes(self, process: Process, session: Session | None, order: Outgoing) -> None:
        """R2: a licence for this session under this epoch is committed, and all that opens the gate holds."""
        reference = Reference.parse(order.reference)
        licence = self.licences.get(reference.id) if reference is not None else None
        if session is None or reference is None:
            return
        who = f"{process.owner.name} writes {order.reference}"
        if licence is None:
            self.violated("R2", f"{who}, and no licence is committed")
        elif self.holders.get(licence.epoch) != process.node.me.instance:
            self.violated("R2", f"{who} under a licence of epoch {licence.epoch}, which is another process's")
        elif licence.session != self.ledger_session.get(session.number):
            self.violated("R2", f"{who} under a licence for session {licence.session}, not for the present one")
        elif licence.broker_order_id != order.broker_order_id:
            self.violated("R4", f"{who} as {order.broker_order_id}, licensed as {licence.broker_order_id}")
        elif session.number not in self.agreed:
            self.violated("G2", f"{who} before its session was reconciled")
        elif order.symbol in self.agreed[session.number]:
            self.violated("G6", f"{who}, and a doubt about {order.symbol} is not decided")
        elif (age := self._world.loop.time() - process.proved_at) > PROOF_MAX_AGE + 0.01:
            self.violated("R12", f"{who} with an epoch that was not proven for {age:.2f} s")

    def writes_cancel(self, process: Process, session: Session | None, broker_order_id: int) -> None:
        """R7: a cancel for this session is committed."""
        if session is None:
            return
        number = self.ledger_session.get(session.number)
        for oid, sessions in self.cancels.items():
            licence = self.licences.get(oid)
            if number in sessions and (licence is None or licence.broker_order_id == broker_order_id):
                return
        self.violated(
            "R7", f"{process.owner.name} writes a cancel of {broker_order_id} that is not committed for its session"
        )

    def dials(self, process: Process) -> None:
        """R13: a commit under its epoch before each attempt to connect."""
        if process.proofs <= process.dialled_after:
            self.violated("R13", f"{process.owner.name} dials the gateway without a commit since it last did")
        process.dialled_after = process.proofs

    # ---- the gateway

    def admitted(self, session: Session) -> None:
        """A session is admitted."""
        process = self._world.replicas[session.replica].running
        epoch = process.node.permit.epoch if process is not None else None
        self.epoch_of[session.number] = epoch or 0
        self.newest = max(self.newest, epoch or 0)

    def read_order(self, session: Session, order: Outgoing) -> None:
        """The gateway reads the bytes of an order."""
        who = f"the gateway reads {order.reference} from session {session.number} of {session.replica}"
        if self.epoch_of.get(session.number, 0) < self.newest:
            self.violated("G2", f"{who}, and epoch {self.newest} was admitted already")
        if missing := LEAST_LISTS - session.asked:
            self.violated("G2", f"{who}, which never asked for {', '.join(sorted(missing))}")

    def not_a_modification(self, orders: Iterable[BrokerOrder], client_id: int, asked: Outgoing) -> None:
        """An order id of an open order would change that order."""
        for order in orders:
            if not order.done and (order.client_id, order.asked.broker_order_id) == (client_id, asked.broker_order_id):
                self.violated("R4", f"{asked.reference} has the order id of {order.asked.reference} and changes it")

    def taken(self, order: BrokerOrder) -> None:
        """G4: one client_order_id, at most one broker order, ever."""
        reference = Reference.parse(order.asked.reference)
        oid = reference.id if reference is not None else order.asked.reference
        self.at_broker[oid] = self.at_broker.get(oid, 0) + 1
        if self.at_broker[oid] > 1:
            self.violated("G4", f"{order.asked.reference} is at the broker {self.at_broker[oid]} times")

    # ---- the replicas

    def watch(self, process: Process) -> None:
        """A process was built: hear when it has reconciled, or but for some contracts."""
        reconciler = process.node.tender.reconciler
        reconcile = reconciler.reconcile

        def present() -> Session | None:
            return process.broker.session if process.broker is not None else None

        async def heard(*arguments: Any, early: Any = None, **options: Any) -> Any:
            socket = present()

            def agreed_but_for(contracts: Iterable[tuple[str, str]], *epochs: int) -> None:
                if socket is not None:
                    self.agreed[socket.number] = frozenset(symbol for _, symbol in contracts)
                early(contracts, *epochs)

            result = await reconcile(*arguments, early=None if early is None else agreed_but_for, **options)
            if result.gate_may_open and socket is not None and present() is socket:
                self.agreed[socket.number] = frozenset()
            return result

        reconciler.reconcile = heard  # type: ignore[method-assign]

    def look(self) -> None:
        """Every so often: who would answer 200 on `/leader`; and nobody met a defect."""
        processes = [replica.running for replica in self._world.replicas.values()]
        leaders = [process for process in processes if process is not None and process.leads()]
        self._overlap = self._overlap + LOOK_EVERY if len(leaders) > 1 else 0.0
        if self._overlap > OVERLAP + LOOK_EVERY:
            self.violated("R12", f"{len(leaders)} replicas answered 200 on /leader for more than {OVERLAP:g} s")
        for process in processes:
            if process is not None and process.state is not None:
                if (defect := process.node.failed()) is not None:
                    self.violated("defect", f"{process.owner.name}: {defect!r}")
                if process.state is Role.LEADING and any(
                    b.kind == "everything" for b in process.node.book.open_breaks.values()
                ):
                    self.violated(
                        "G9", f"{process.owner.name} leads, and no operator has looked at what holds everything"
                    )
                if self._leads_unheld(process):
                    self.violated(
                        "G9", f"{process.owner.name} leads, has read events that are lost, and nothing was held"
                    )
                if process.node.tail.digest_differs is not None:
                    self.violated("G8", f"{process.owner.name}: {process.node.tail.digest_differs}")
        for error in self._world.loop.errors:
            exception = error.get("exception")
            if isinstance(exception, Killed):
                continue
            text = "".join(traceback.format_exception(exception)) if exception is not None else ""
            self.violated(
                "defect", f"{error.get('message')} {error.get('future') or error.get('handle') or ''}\n{text}"
            )
        self._world.loop.errors.clear()
        if not self.violations:
            self._world.after(LOOK_EVERY, self.look)

    def _leads_unheld(self, process: Process) -> bool:
        leads = process.state is Role.LEADING and process.node.permit.epoch in self._claimed_since
        return leads and process.node.me.instance in self._saw_more

    def heard(self, who: str, message: str, exception: Any) -> None:
        """A process logged an error."""
        if "defect" in message or "cannot be folded" in message:
            text = "" if exception is None else "".join(traceback.format_exception(exception.value))
            self.violated("defect", f"{who}: {message}\n{text}")
        else:
            self.notes.append(f"{who}: {message}")


def _brief(p: dict[str, Any]) -> str:
    shown = ("session", "broker_order_id", "client_order_id", "reason", "exec_id", "kind", "status", "perm_id")
    return " ".join(f"{name}={p[name]}" for name in shown if p.get(name) is not None)


def _moment(at: datetime | str) -> datetime:
    return at if isinstance(at, datetime) else datetime.fromisoformat(at.replace("Z", "+00:00"))
