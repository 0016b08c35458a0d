"""An operator's word on a break, and a reconciliation at an operator's wish.

Whatever ends an order in doubt is decided on a fresh snapshot, complete and taken while IB's own servers answered (R1, R6):
`dead` cancels it here, `adopt` makes one of the broker's orders it, `send_again` repeats it under its own order id where that
cannot make a second one. Everything is in the log with the operator's name and the request's correlation id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loguru import logger

from engine import again, views
from engine.auth import Access
from engine.clock import boottime, utcnow
from engine.commit import Committer, Outcome
from engine.desk_settings import Asker
from engine.errors import FieldError, Problem, invalid, unavailable, unknown_outcome
from engine.events import Draft, Kind, Payload
from engine.http import Request, Response, Server
from engine.order import OPERATOR_DEAD, Order, State
from engine.position import Break
from engine.store import StoreError
from ha.body import body_of, flag_of, reason_of
from ha.claim import speaks_of_new_gateway
from ha.commands import Commands
from ha.looks import Look, Looks
from ha.node import Node
from ha.phase import TermOver
from ha.preflight import Finding
from ha.role import HAS_EPOCH
from ha.second_try import Answer, database_now, send
from reconcile.adopt import Adoption, CannotAdopt
from reconcile.apply import barrier
from reconcile.snapshot import EXECUTIONS, POSITIONS, Snapshot

WORDS = ("dead", "adopt", "send_again")
"""What may be said of an order in doubt."""

TRIES = 3
"""So many looks of those that are shared may have become old before it was this word's turn."""

EXTERNAL_FLOW = "external_flow"
"""What may be said of a position that differs: somebody else traded, and the ledger takes the broker's figure (R28)."""


class Resolve:
    """The handlers; `register` hangs them on a server."""

    def __init__(
        self, node: Node, access: Access, commands: Commands, gateway: Callable[[], Awaitable[list[Finding]]]
    ) -> None:
        """`gateway` looks at the gateway behind this replica's address, with a spare clientId."""
        self._node, self._access, self._commands, self._gateway = node, access, commands, gateway
        self._looks = Looks(self._look)
        self._one_at_a_time = asyncio.Lock()  # what one operator decides on, another one's decision must not change

    def register(self, server: Server) -> None:
        """All paths of this room."""
        server.route("POST", "/api/v1/breaks/{id}", self.resolve)
        server.route("POST", "/api/v1/cluster/reconcile", self.reconcile)

    # ---- a reconciliation

    async def reconcile(self, request: Request) -> Response:
        """`POST /cluster/reconcile`: with `dry_run` what the table says of one snapshot, else what was done about it."""
        asker = self._access.asker(request, "operator")
        body = body_of(request, {"dry_run", "reason"})
        dry, reason = flag_of(body, "dry_run"), reason_of(body)
        self._committer()
        tender = self._node.tender
        try:
            if dry:
                plan = await tender.plan_now()
                found = {"verdict": "would write" if plan.drafts else "agrees", "missing": list(plan.missing)}
                return Response(200, {"dry_run": True, **found, "plan": [ruling.told() for ruling in plan.rulings]})
            await self._commands.give("reconcile", asker, reason)
            result = await tender.reconcile_now()
        except TermOver as over:
            raise unavailable("no-snapshot", f"There is no broker session to look through: {over}.") from over
        return Response(200, {
            "dry_run": False, "verdict": result.verdict, "why": result.why, "missing": list(result.missing),
            "rounds": result.rounds, "repaired": result.repaired, "held": result.held,
            "elapsed_ms": round(result.elapsed_ms, 3), "plan": list(result.told),
        })  # fmt: skip

    # ---- breaks

    async def resolve(self, request: Request) -> Response:
        """`POST /breaks/{id}`: 200 with the break as it stands afterwards."""
        asker = self._access.asker(request, "operator")
        body = body_of(request, {"resolution", "reason", "perm_id", "force"})
        word, force = _word(body, asker.subject), flag_of(body, "force")
        for _ in range(TRIES):
            look = await self._looks.fresh() if self._shares(self._break(request), word) else None
            async with self._one_at_a_time:
                found = self._break(request)
                if look is not None and not look.holds(self._node.permit.session, boottime()):
                    continue  # other decisions came first
                word |= await self._looked_at(found, force=force)
                outcome, why = await self._answered(found, word, body.get("perm_id"), asker, look)
                break
        else:
            raise unavailable("no-snapshot", "There is no fresh snapshot to decide on: too much was decided meanwhile.")
        if outcome is Outcome.UNKNOWN:
            raise unknown_outcome(f"{why}; look at the break again.")
        if outcome is Outcome.REFUSED:
            raise Problem(409, "changed-meanwhile", "It has changed", f"{why}; look at the break again.")
        logger.warning("break {} ({}) resolved by {}: {}", found.id, found.kind, asker.subject, word)
        return Response(200, views.found_break(found))

    def _break(self, request: Request) -> Break:
        """The break that is meant. Raises Problem."""
        self._committer()
        found = self._node.book.open_breaks.get(request.params["id"])
        if found is None:
            gone = f"There is no open break {request.params['id']}."
            raise Problem(404, "no-such-break", "No such open break", gone)
        return found

    @staticmethod
    def _shares(found: Break, word: Payload) -> bool:
        """Whether the word is about one order's absence and nothing else: one snapshot shows the absence of many (R1)."""
        return found.order_id is not None and found.kind in ("in_doubt", "vanished") and word["resolution"] == "dead"

    async def _looked_at(self, found: Break, *, force: bool) -> Payload:
        """R14: a new gateway is accepted once it has shown that it is ours; what to note when `force` says so instead.

        Raises Problem 412 with what it has not shown.
        """
        if not speaks_of_new_gateway(found.broker.get("why")):
            return {}
        wrong = [finding.says for finding in await self._gateway() if not finding.fine]
        if wrong and not force:
            more = "Correct it, or repeat with `force` (`--force`) if you know better."
            raise Problem(412, "gateway-not-proven", "The new gateway is not accepted", " ".join([*wrong, more]))
        return {"forced_over": " ".join(wrong)[:500]} if wrong else {}

    async def _answered(self, found: Break, word: Payload, perm_id: Any, asker: Asker, look: Look | None) -> Answer:
        """What became of this word on this break. Raises Problem."""
        if found.order_id is not None and found.kind == "in_doubt":
            if word["resolution"] not in WORDS:
                raise invalid(FieldError("resolution", f"for an order in doubt one of {', '.join(WORDS)}"))
            return await self._decide(found, found.order_id, word, perm_id, asker, look)
        if found.order_id is not None and (found.kind, word["resolution"]) == ("vanished", "dead"):
            return await self._decide(found, found.order_id, word, None, asker, look)
        if (found.kind, word["resolution"]) == ("position", EXTERNAL_FLOW):
            return await self._external_flow(found, word, asker)
        return await self._commit([self._resolved(found, word, asker)])

    async def _decide(
        self, found: Break, oid: str, word: Payload, perm_id: Any, who: Asker, look: Look | None
    ) -> Answer:
        """R1, R25: on a fresh snapshot, `look` if there is one. From the barrier behind it to the log nothing is awaited."""
        if word["resolution"] == "adopt" and (not isinstance(perm_id, int) or isinstance(perm_id, bool) or perm_id < 1):
            raise invalid(FieldError("perm_id", "the permId of the broker's order that it is, a whole number"))
        if word["resolution"] != "adopt" and perm_id is not None:
            raise invalid(FieldError("perm_id", "only with the resolution adopt"))
        if perm_id is not None:
            await self._recall(perm_id)
        snapshot = look.snapshot if look is not None else await self._look()
        await barrier(self._committer())
        order = self._node.book.orders[oid]
        if order.final or found.id not in self._node.book.open_breaks:
            raise Problem(409, "changed-meanwhile", "It is no longer in doubt", f"Order {oid} is {order.state}.")
        if found.kind == "in_doubt" and order.state is not State.IN_DOUBT:
            raise Problem(409, "changed-meanwhile", "It is no longer in doubt", f"Order {oid} is {order.state}.")
        if self._node.tender.reconciler.shows(snapshot, oid):
            raise Problem(409, "changed-meanwhile", "It has surfaced", f"The broker shows order {oid} after all.")
        if word["resolution"] == "adopt":
            return await self._adopt(found, order, word, perm_id, snapshot, who)
        if not snapshot.complete:
            raise unavailable("no-snapshot", f"The snapshot is not complete: {', '.join(snapshot.missing)}.")
        if word["resolution"] == "send_again":
            return await self._send_again(found, order, word, who)
        dead = Draft(Kind.ORDER_CANCELLED, {"reason": OPERATOR_DEAD}, utcnow(), oid, who.subject, who.correlation_id)
        return await self._commit([dead, self._resolved(found, word, who)])

    async def _external_flow(self, found: Break, word: Payload, who: Asker) -> Answer:
        """R28: the difference is somebody else's trading: an adjustment of the present figures, in the operator's name."""
        _check_level(self._committer(), Kind.POSITION_ADJUSTED)
        snapshot = await self._look()
        await barrier(self._committer())
        doubtful = [o.id for o in self._node.book.open_orders()
                    if o.contract_key == (found.account, found.symbol) and o.state is State.IN_DOUBT]  # fmt: skip
        if doubtful:
            raise Problem(
                409, "order-in-doubt", "It may be ours", f"Order {doubtful[0]} is in doubt; resolve that first."
            )
        if not snapshot.came(POSITIONS, EXECUTIONS):
            raise unavailable("no-snapshot", f"The snapshot is not complete: {', '.join(snapshot.missing)}.")
        difference = self._node.tender.reconciler.position(snapshot, found)
        if difference is None or found.id not in self._node.book.open_breaks:
            raise Problem(409, "changed-meanwhile", "It has changed", "The figures agree again; look at the break.")
        payload = {
            "account": found.account, "con_id": difference.con_id, "symbol": found.symbol, "break_id": found.id,
            "quantity": str(difference.broker - difference.ours), "by": who.subject, "reason": word["reason"],
            "from": who.remote,
        }  # fmt: skip
        adjusted = Draft(Kind.POSITION_ADJUSTED, payload, utcnow(), None, who.subject, who.correlation_id)
        return await self._commit([adjusted, self._resolved(found, word, who)])

    async def _recall(self, perm_id: int) -> None:
        """What has left memory of the order to be adopted comes back first: all its executions count, and none twice (G5)."""
        try:
            await self._node.tender.reconciler.recall(self._committer(), perm_id)
        except StoreError as error:
            raise unavailable(
                "database-away", f"Older orders cannot be read from the database now: {error}."
            ) from error

    async def _look(self) -> Snapshot:
        """A fresh snapshot, after a reconciliation has taken up what evidence decides."""
        tender = self._node.tender
        try:
            result = await tender.reconcile_now()
            if not result.gate_may_open:
                raise unavailable("no-snapshot", f"There is no fresh snapshot to decide on: {result.why}.")
            return await tender.look_now()
        except TermOver as over:
            raise unavailable("no-snapshot", f"There is no fresh snapshot to decide on: {over}.") from over

    async def _adopt(
        self, found: Break, order: Order, word: Payload, perm_id: int, snapshot: Snapshot, who: Asker
    ) -> Answer:
        _check_level(self._committer(), Kind.ORDER_ADOPTED, Kind.ORDER_MERGED)
        asked = Adoption(order, perm_id, who.subject, who.correlation_id, utcnow())
        try:
            drafts = self._node.tender.reconciler.adoption(snapshot, asked)
        except CannotAdopt as cannot:
            raise Problem(409, "cannot-adopt", "It is not that order", str(cannot)) from cannot
        return await self._commit([*drafts, self._resolved(found, word | {"perm_id": perm_id}, who)])

    async def _send_again(self, found: Break, order: Order, word: Payload, who: Asker) -> Answer:
        """Under its own order id, or not at all."""
        node, committer, now = self._node, self._committer(), boottime()
        _check_level(committer, Kind.ORDER_REPEATED)
        if (why := again.why_not(node.book, order, database_now(committer))) is not None:
            raise Problem(409, "not-again", "Not sent again", f"{why} Place it under a new client_order_id.")
        if refused := node.permit.refuses_intent(now):
            raise unavailable(*refused)
        if (shut := node.desk.why_not_now(order)) is not None:  # the one repetition is spent by its commit
            raise unavailable("gate-shut", shut)
        drafts = again.repeated(node.book, order, found, word, (who.subject, who.correlation_id), utcnow())
        return await send(committer, node.desk, drafts)

    def _committer(self) -> Committer:
        committer = self._node.takeover.committer
        if self._node.state not in HAS_EPOCH or committer is None:
            raise unavailable("not-leader", "This replica does not lead; ask the leader.")
        return committer

    async def _commit(self, drafts: Sequence[Draft]) -> Answer:
        outcome, _, why = await self._committer().commit(drafts)
        return outcome, why

    @staticmethod
    def _resolved(found: Break, word: Payload, who: Asker) -> Draft:
        payload = {"id": found.id, **word, **who.origin}
        return Draft(Kind.BREAK_RESOLVED, payload, utcnow(), found.order_id, who.subject, who.correlation_id)


def _check_level(committer: Committer, *kinds: Kind) -> None:
    """R22: raises Problem 409 while the other replica may not be able to read these kinds of events."""
    if (why := committer.may_write(*kinds)) is not None:
        raise Problem(409, "ledger-level", "Not before the rollout's last step", f"{why[:1].upper()}{why[1:]}.")


def _word(body: dict[str, Any], subject: str) -> Payload:
    resolution = body.get("resolution")
    if not isinstance(resolution, str) or not 1 <= len(resolution) <= 64:
        raise invalid(
            FieldError("resolution", f"what was found, 1 to 64 characters; for an order in doubt: {', '.join(WORDS)}")
        )
    return {"resolution": resolution, "reason": reason_of(body, required=True), "by": subject}
