"""The way out: an order from a validated request to the bytes on the broker session. Read this, then `inbound.py`.

    place -> one commit (intent, and with the gate open its licence) -> permit check and write, adjacent -> answer
    gate shut -> QUEUED -> `queue.py`

A licence names epoch, session and broker order id, and dies with its session (R2). What was licensed once is never sent again by
itself (R1): only this process, and only while it knows that it wrote nothing, takes a licence back (R4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from loguru import logger

from engine import accept, again, failpoint, intent
from engine.answers import Waiting, answer_of, proves, result_of
from engine.book import Book
from engine.broker import Broker, Paced
from engine.cancel import Cancels
from engine.clock import Clock, boottime, utcnow
from engine.commit import PREPARED, Committer, Outcome
from engine.contracts import Contracts, Meant
from engine.desk_settings import Asker, DeskSettings
from engine.errors import Problem, unavailable, unknown_outcome
from engine.events import Draft, Event, Kind
from engine.family import TOGETHER, parent_id, parent_of, root_of, together, unsendable
from engine.family_keeper import FamilyKeeper
from engine.licences import Licences, never_written
from engine.modify import Changes, revision_mismatch
from engine.order import Order, State
from engine.permit import Licence, Permit
from engine.queue import UNSENT, Queue, database_now
from engine.reference import Reference, cluster_tag, order_id
from engine.request import ChangeRequest, OrderRequest

_LICENCES = frozenset({Kind.ORDER_ACCEPTED, Kind.ORDER_LICENSED, Kind.ORDER_REPEATED})
_CANCELS = frozenset({Kind.CANCEL_REQUESTED, Kind.CANCEL_LICENSED})


class Desk:
    """Orders, cancels, and the queue behind the gate. One per process; a term gives it a committer and takes it away."""

    def __init__(
        self, book: Book, permit: Permit, broker: Broker, settings: DeskSettings, clock: Clock = boottime
    ) -> None:
        self.book, self.permit, self.settings = book, permit, settings
        self._broker, self._clock = broker, clock
        self.tag = cluster_tag(settings.cluster)
        self._licences = Licences(book, permit, broker, settings)
        self._queue = Queue(book, permit, settings, self._licences, self.carry_out)
        self._committer: Committer | None = None
        self._in_flight: dict[str, Waiting] = {}  # by order id: accepted, not yet answered
        self._sent_at: dict[str, datetime] = {}  # orders written by this process, until the ledger knows when
        self.contracts = Contracts(broker, book)
        self.cancels = Cancels(book, permit, broker, clock)
        self.changes = Changes(book, permit, broker, self.cancels, self._licences, settings.limits, clock)
        self._families = FamilyKeeper(book, permit, self._licences, self.cancels, self.carry_out, clock)
        self.first_write_at: float | None = None
        book.observers.append(self._applied)

    # ---- a term

    def begin(self, committer: Committer) -> None:
        """A term begins: intents have a log to go to."""
        self._committer = committer
        self.first_write_at = None
        for waiting in [answer for answer in self._in_flight.values() if not answer.done()]:
            waiting.set_result(unknown_outcome("The term ended; retry with the same key, it is safe."))
        self._in_flight.clear()
        self._licences.begin()
        self._families.begin()
        self._sent_at.clear()
        self.cancels.begin()

    def end(self) -> None:
        """The term is over; what waits for an answer is told by the committer."""
        self._committer = None
        self.session_lost()

    def session_opened(self, floor: int) -> None:
        """A session is up; ids on its wire start at `floor` and only rise (R4)."""
        self._licences.session_opened(floor)
        self._families.session_opened()
        self.cancels.session_lost()

    def session_lost(self) -> None:
        """What was written and not acknowledged is a dead session's business now: reconciliation judges it (R1)."""
        self.unacknowledged.clear()
        self.cancels.session_lost()

    async def proves_now(self) -> bool:
        """Whether a fenced commit that begins now succeeds: then no younger epoch existed when it began."""
        return self._committer is not None and await proves(self._committer)

    # ---- intents

    async def place(self, request: OrderRequest, asker: Asker) -> tuple[int, Order]:
        """Accept an order: (201, order) when it became durable now, (200, order) when the same key was accepted before.

        Raises Problem: 409 for another body under the key, 422 by a limit or by IB's word on the contract, 503 when nothing was
        written, 504 when unknown.
        """
        [answer] = await self.place_all([request], asker)
        return answer

    async def place_all(self, requests: Sequence[OrderRequest], asker: Asker) -> list[tuple[int, Order]]:
        """Accept orders in one commit, all or none; each is answered as by `place`. Raises Problem as `place` does."""
        wanted = {order_id(self.settings.cluster, asker.subject, r.client_order_id): r for r in requests}
        parents = {
            oid: order_id(self.settings.cluster, asker.subject, r.parent_client_order_id)
            for oid, r in wanted.items() if r.parent_client_order_id is not None
        }  # fmt: skip
        for oid, request in wanted.items():
            if (known := self.book.orders.get(oid)) is not None:
                accept.same(known, request)
        # no verdict of a gateway without its link, and no request in the way of a reconciliation
        up = self.permit.session is not None and not self.permit.shut
        meant: dict[str, Meant] = {}
        for place, (oid, request) in enumerate(wanted.items()):
            if oid not in self.book.orders and oid not in self._in_flight:
                with accept.naming(place, of=len(wanted)):
                    meant[oid] = await self.contracts.meant(request, session=up)
        named = (*wanted, *parents.values())
        while waiting := next((self._in_flight[oid] for oid in named if oid in self._in_flight), None):
            await answer_of(waiting)
        new = [oid for oid in wanted if oid not in self.book.orders]  # and from here to the log nothing is awaited
        if not meant.keys() >= set(new):  # the book was dropped meanwhile, with what it knew a moment ago (R18)
            raise unavailable("ledger-reread", "The ledger is being read anew; try again.")
        coming = self._submit_new(wanted, {oid: meant[oid] for oid in new}, parents, asker) if new else {}
        answers = []
        for oid, request in wanted.items():
            if oid in coming:
                answers.append((201, await answer_of(coming[oid])))
            else:
                answers.append((200, accept.same(self.book.orders[oid], request)))
        return answers

    def _submit_new(
        self, wanted: dict[str, OrderRequest], new: dict[str, Meant], parents: dict[str, str], asker: Asker
    ) -> dict[str, Waiting]:
        if (why := self.permit.refuses_intent(self._clock())) is not None or self._committer is None:
            raise unavailable(*(why or ("not-leader", "This replica holds no epoch.")))
        if parents.keys() & new.keys():
            accept.check_level(self._committer.level)
        accounts = accept.check_all(
            wanted, new, parents, self.book, self.settings.limits, database_now(self._committer),
            coming=len(self._in_flight),
        )  # fmt: skip
        failpoint.hit("submit.before_commit")
        drafts, licensed = [], True
        for members in together(new, parents):  # R9: in their order, but what belongs together in one piece
            account, symbol, count = accounts[members[0]], new[members[0]].symbol, len(members)
            licensed = licensed and self._licences.may(account, symbol, self._clock(), count)
            licences = self._licences.issue(members) if licensed else {}
            self._licences.coming |= {} if licensed else dict.fromkeys(members, (account, symbol))
            family = root_of(members[0], parents) if count > 1 else None
            for oid in members:
                payload = intent.accepted(wanted[oid], accounts[oid], new[oid], parents.get(oid), family)
                payload |= licences.get(oid, {}) | asker.origin
                drafts.append(Draft(Kind.ORDER_ACCEPTED, payload, utcnow(), oid, asker.subject, asker.correlation_id))
        loop = asyncio.get_running_loop()
        answers: dict[str, Waiting] = {oid: loop.create_future() for oid in new}
        self._in_flight |= answers
        self._submit(self._committer, drafts, answers, lambda: self._prepare(drafts))
        return answers

    def _prepare(self, drafts: Sequence[Draft]) -> None:
        """While these are being committed: what a leader still has to do behind the commit is time to die in, in doubt (R1)."""
        for draft in drafts[:PREPARED]:
            if (order := intent.foreseen(draft, self.permit.epoch, self.tag)) is not None:
                self._broker.prepare(order)

    def _submit(
        self,
        committer: Committer,
        drafts: Sequence[Draft],
        answers: dict[str, Waiting],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        def done(outcome: Outcome, events: Sequence[Event], why: str) -> None:
            for oid, answer in answers.items():
                if self._in_flight.get(oid) is answer:
                    del self._in_flight[oid]
            if outcome is Outcome.COMMITTED:
                self.carry_out(events)
            for oid, answer in answers.items():
                self._licences.unwritten.discard(oid)
                self._licences.coming.pop(oid, None)
                self.cancels.decided(oid)
                if not answer.done():
                    answer.set_result(result_of(self.book.orders.get(oid), outcome, why))

        committer.submit(drafts, done, meanwhile)

    # ---- licences and writes

    @property
    def unacknowledged(self) -> dict[str, float]:
        """Order id -> CLOCK_BOOTTIME of its write, for what the present session was sent and has not answered."""
        return self._licences.unacknowledged

    @property
    def second_look(self) -> frozenset[tuple[str, str]]:
        """(account, symbol) about which a doubt is being decided: nothing is sent there."""
        return self._licences.second_look

    @second_look.setter
    def second_look(self, contracts: frozenset[tuple[str, str]]) -> None:
        self._licences.second_look = contracts

    def why_not_now(self, order: Order) -> str | None:
        """Why the order could not be written at once if it were licensed now, a sentence; None when it could."""
        return self._licences.why_not_now(order, self._clock())

    def carry_out(self, events: Sequence[Event]) -> None:
        """Write what these committed events license, in their order (R9). Synchronous from the commit's answer to the bytes.

        When a member of a family cannot be written, those behind it are not either: the gateway keeps what came before them. A
        family of which one grew too old while this was committed is not begun (R8).
        """
        events = [event for event in events if event.order_id is not None and event.payload.get("session") is not None]
        now, ages = database_now(self._committer), self.settings.max_intent_age
        cut = intent.outlived(events, self.book.orders, now, utcnow(), ages)
        for event in events:
            assert event.order_id is not None
            with logger.contextualize(correlation_id=event.correlation_id, order_id=event.order_id):
                self._carry_out(event, self.book.orders[event.order_id], cut)

    def _carry_out(self, event: Event, order: Order, cut: dict[str, str]) -> None:
        """`cut`: families of which nothing is written any more, and why; it is added to."""
        if event.kind in _LICENCES and order.state is State.SENDING:
            family = order.extra.get(TOGETHER, order.id)
            if not self._write(order, event.payload.get("transmit", True), cut.get(family)):
                cut.setdefault(family, "an order of its family before it was not written")
        elif event.kind == Kind.MODIFY_LICENSED:
            self.changes.write(event, self._reference(order), self._tell)
        elif event.kind == Kind.TWIN_CANCEL_LICENSED or (event.kind in _CANCELS and not order.final):
            self.cancels.write(event)

    def _write(self, order: Order, transmit: bool, cut: str | None) -> bool:
        """Write a licensed order, or take its licence back; whether it was written. `cut`: why nothing of its family is."""
        assert order.licence_epoch is not None
        assert order.session is not None
        assert order.broker_order_id is not None
        licence = Licence(order.licence_epoch, order.session, order.broker_order_id)
        parent = parent_id(order, self.book.orders)
        outgoing = intent.outgoing(order, self._reference(order), parent, transmit=transmit)
        failpoint.hit("submit.before_write")
        try:
            why = cut or self._kept_back(order) or self.permit.refuses_write(licence, self._clock())
            if why is None:  # R2: the check and the write,
                self._broker.place(outgoing)  # with no await between them
        except (ConnectionError, Paced) as error:
            why = str(error) or "there is no broker session"
        self._licences.unwritten.discard(order.id)
        if why is not None:
            self._take_back(order, why)
            return False
        now = self._clock()
        self.first_write_at = self.first_write_at or now
        self.unacknowledged[order.id] = now
        self._sent_at[order.id] = utcnow()
        failpoint.hit("submit.after_write")
        return True

    def _kept_back(self, order: Order) -> str | None:
        """Why the order must not be written for its family's sake, or None."""
        parent = parent_of(order, self.book.orders)
        if parent is not None and parent.state is State.SENDING and parent.id in self._licences.deciding:
            return "an order of its family before it was not written"
        return unsendable(order, self.book.orders)

    def _reference(self, order: Order) -> str:
        return str(Reference(self.tag, order.epoch, order.id))

    def _tell(self, *drafts: Draft) -> None:
        """Write down what this process knows; nobody waits for it."""
        if self._committer is not None:
            self._committer.submit(drafts, lambda _outcome, _events, _why: None)

    def _take_back(self, order: Order, why: str) -> None:
        """R4: this process knows that it wrote nothing under the licence, so the order may have a new one; nothing overtakes it."""
        logger.warning("order {} was not written: {}; its licence is taken back", order.id, why)
        if order.repeats:
            self.still_in_doubt(order, f"not written: {why}")
        elif self._committer is not None:
            self._queue.follow_up(self._committer, Kind.ORDER_UNLICENSED, {"reason": why}, order)

    def never_written(self, epoch: int) -> list[Draft]:
        """R4, when the term is over: what takes back each licence of `epoch` under which this process never wrote."""
        return never_written(self.book, epoch, self._sent_at)

    def still_in_doubt(self, order: Order, why: str) -> None:
        """R1: a repeated licence came to nothing, and the first one may be at the broker all the same."""
        self._tell(*again.in_doubt_still(self.book, order, why, utcnow()))

    def sent_at(self, oid: str) -> datetime | None:
        """When this process wrote the order, None when it did not or the ledger knows it already."""
        return self._sent_at.get(oid)

    def acknowledged(self, oid: str) -> None:
        """The broker answered: it showed the order, or refused it."""
        self.unacknowledged.pop(oid, None)

    def shown(self, oid: str, broker_order_id: int, perm_id: int) -> None:
        """The present session showed the order live under this pair of ids of ours: it may be cancelled by it (R7)."""
        self.acknowledged(oid)
        if broker_order_id and perm_id:
            self.cancels.shown(oid, broker_order_id, perm_id)

    def _applied(self, event: Event) -> None:
        """Forget what the ledger knows by now."""
        order = self.book.orders.get(event.order_id or "")
        if order is None:
            return
        if order.state is not State.SENDING:
            self.unacknowledged.pop(order.id, None)
        if order.final:
            self.cancels.ended(order.id)
        if order.final or order.sent_at is not None:
            self._sent_at.pop(order.id, None)

    # ---- cancels

    async def cancel(self, oid: str, asker: Asker) -> Order:
        """Ask for a cancel; durable when this returns. Raises Problem 404, 409 (final, or not ours), 503, 504.

        An order that this session has not shown live yet is cancelled as soon as it does.
        """
        order = accept.open_one(oid, self.book)
        if self._committer is None or self.permit.epoch is None or not self.permit.proven(self._clock()):
            raise unavailable("not-leader", "This replica cannot write now.")
        if order.state is State.QUEUED and oid not in self._licences.deciding and not self._queue.held:
            kind, payload = Kind.ORDER_CANCELLED, {"reason": UNSENT}
        elif (payload := self.cancels.licence(order)) or self.cancels.must_be_asked(order):
            kind = Kind.CANCEL_REQUESTED
        else:
            return order  # asked for already, and licensed as soon as it can be
        if payload.get("session") is not None:
            self.cancels.coming(oid)
        answer: Waiting = asyncio.get_running_loop().create_future()
        draft = Draft(kind, payload | asker.origin, utcnow(), oid, asker.subject, asker.correlation_id)
        self._submit(self._committer, [draft], {oid: answer})
        return await answer_of(answer)

    async def modify(self, oid: str, request: ChangeRequest, asker: Asker) -> Order:
        """Ask for a change of a live order; its licence is durable when this returns, and its bytes are written.

        Raises Problem 404, 409, 412 (another revision), 422, 503 (nothing was written), 504. Hold and halt stop it (R29).
        """
        order = accept.open_one(oid, self.book)
        up = self.permit.session is not None and not self.permit.shut
        meant = await self.contracts.of_order(order, session=up)
        order = accept.open_one(oid, self.book)  # as it is now; and from here to the log nothing is awaited
        if (why := self.permit.refuses_intent(self._clock())) is not None or self._committer is None:
            raise unavailable(*(why or ("not-leader", "This replica holds no epoch.")))
        if (hold := self.book.holding(*order.contract_key)) is not None:
            raise unavailable("held", f"{order.symbol} is held by break {hold.id} ({hold.kind}) until it is resolved.")
        if order.contract_key in self.second_look:
            raise unavailable("held", f"What became of an order in {order.symbol} is being looked at; try again.")
        payload = self.changes.licence(order, request, meant)
        answer: asyncio.Future[Order | Problem] = asyncio.get_running_loop().create_future()
        draft = Draft(Kind.MODIFY_LICENSED, payload | asker.origin, utcnow(), oid, asker.subject, asker.correlation_id)
        self._submit(self._committer, [draft], {oid: answer})
        try:
            return await answer_of(answer)
        except Problem as problem:
            if problem.kind == "not-written" and order.revision != request.revision:  # another one came first
                raise revision_mismatch(order, request) from problem
            raise

    def cancels_to_write(self) -> None:
        """License the cancels that were asked for before they could be written. Call it often."""
        self.cancels.tick(self._committer)

    # ---- the queue behind the gate

    def work_queue(self) -> None:
        """Settle half-sent families, then license what waits for the gate, as far as gate and pace allow. Call it often."""
        if self._committer is not None:
            self._families.tick(self._committer)
            self._queue.work(self._committer, self._clock())

    def end_queue(self, reason: str) -> None:
        """End every order that waits, by rule: none of them is sent any more."""
        if self._committer is not None:
            self._queue.end(self._committer, reason)
