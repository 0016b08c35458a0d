"""From a free leader key to an open gate, one function per phase. Each returns the event for the role machine.

campaign  the lease is won                         (liveness)
claim     a higher epoch, the log read to its head  (fence 2; orders are accepted from here on)
connect   the gateway admits us                     (fence 3; every earlier session is dead)
reconcile ledger and broker agree, or doubt is parked
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from loguru import logger

from engine import failpoint
from engine.book import Book
from engine.breaks import WENT_BACK, hold_everything
from engine.broker import Admitted, Broker, InUse, RequestFailed
from engine.clock import Clock, boottime, utcnow
from engine.commit import Committer, Outcome
from engine.events import Draft, Kind
from engine.inbound import Inbound
from engine.permit import Permit
from engine.schema import NEW_GATEWAY
from engine.store import StoreError
from engine.submit import Desk
from ha.claim import (
    claim_epoch,
    foretold,
    is_where_the_last_term_was,
    new_gateway_sentence,
    other_etcd_sentence,
    prove,
    term_row,
)
from ha.fence import FenceAgent, FenceRule
from ha.lease import Grant, Held, LeaderRecord, LeaderSeen, LeasePort
from ha.outage import note_away
from ha.phase import TermOver
from ha.role import On
from ha.shared_state import Memory, Spending, remember, spend_suspicion
from ha.startup import account_sentence
from ha.tail import Tail
from ha.term import Phases, Term

LAST_WORD = 0.3
"""Seconds that etcd gets to take the end of the log from a leader that goes."""

TAKEN_BACK_WITHIN = 1.0
"""Seconds that PostgreSQL gets to take what was never written: each order that is missing there is a person's to decide about."""

BUDGET_ASKED_AGAIN = 5.0
"""Seconds after which a standby that found no suspicion left asks again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of a takeover, in seconds, and the kind of account that it is for."""

    claim_deadline: float = 5.0
    proof_every: float = 0.25
    request_timeout: float = 4.0
    lag_limit: float = 1.0
    fence_deadline: float = 30.0
    trading_mode: str = "paper"
    keep_ended: int | None = None  # orders that have ended and stay in memory


class Takeover:
    """The phases. Holds what a term consists of while there is one: `term` and `committer`."""

    def __init__(
        self,
        book: Book,
        permit: Permit,
        desk: Desk,
        inbound: Inbound,
        broker: Broker,
        lease: LeasePort,
        tail: Tail,
        agent: FenceAgent,
        me: LeaderRecord,
        client_id: int,
        rules: Rules,
        *,
        on_fenced: Callable[[str], None],
        clock: Clock = boottime,
    ) -> None:
        self._book, self._permit, self._desk, self._inbound = book, permit, desk, inbound
        self._broker, self._lease, self._tail, self._agent = broker, lease, tail, agent
        self._me, self._client_id, self._rules = me, client_id, rules
        self._on_fenced, self._clock = on_fenced, clock
        self.term: Term | None = None
        self.committer: Committer | None = None
        self.phases = Phases()
        self._budget_spent_at = float("-inf")
        self._epoch_before = 0
        self._grant: Grant | None = None
        self._remembered = Memory()
        # since when this replica's dials find no gateway (CLOCK_BOOTTIME seconds)
        self.gateway_away: float | None = None
        self._fence = FenceRule(rules.fence_deadline)
        self._dialed: deque[str] = deque(maxlen=64)  # our own ends of the latest connections to the gateway
        self.must_hold: str | None = None  # why everything must be held once the broker was looked at (R18)
        self._hold: str | None = None  # the break that holds everything in this term
        self.place_known = False  # whether the ledger was seen to end where somebody remembers that it ended (R18)

    # ---- campaign

    def may_suspect(self) -> bool:
        """Whether a suspicion is worth a try. One without a budget would take this replica out of STANDBY 20 times a second,
        and late to see that the lease has ended (R30)."""
        return self._clock() - self._budget_spent_at >= BUDGET_ASKED_AGAIN

    async def campaign(self, phases: Phases) -> On:
        """Win the lease, having read the epoch first (R31)."""
        self.phases = phases
        try:
            pulse = await self._tail.catch_up()
        except StoreError as error:
            logger.warning("not campaigning: {}", error)
            return On.LOST
        if self._tail.unfit is not None:
            logger.error("not campaigning: {}", self._tail.unfit)
            return On.LOST
        self._epoch_before = pulse["epoch"]
        answer = await self._lease.campaign(self._me)
        if not isinstance(answer, Grant):
            return On.LOST
        self._grant = answer
        phases.won = self._clock()
        failpoint.hit("takeover.won")
        return On.WON

    async def take_over(self, phases: Phases, silent: LeaderSeen) -> On:
        """R30: replace a silent leader's key in one transaction, within the budget that the pair shares in etcd."""
        self.phases = phases
        try:
            pulse = await self._tail.catch_up()
        except StoreError as error:
            logger.warning("suspecting, but not acting: {}", error)
            return On.LOST
        seen = await self._lease.read()  # in touch with etcd, and it is still that leader under that lease
        if not isinstance(seen, LeaderSeen) or not seen.same_key(silent) or seen.record is None:
            return On.LOST
        spending = await spend_suspicion(self._lease, seen.record, self._me.name)
        if spending is Spending.NOTHING_LEFT:
            self._budget_spent_at = self._clock()
        if spending is not Spending.TAKEN:
            return On.LOST
        self._epoch_before = pulse["epoch"]
        answer = await self._lease.take_over(seen, self._me)
        if not isinstance(answer, Grant):
            return On.LOST
        self._grant = answer
        phases.won = self._clock()
        failpoint.hit("takeover.won")
        return On.WON

    # ---- claim

    async def claim(self) -> On:
        """Claim the next epoch on the tailing connection, read to the head there, prove the fence. Raises TermOver."""
        await self._tail.stop()
        fresh = self._clock() - self._tail.beat_seen_at < self._rules.lag_limit
        mine = self._grant.cluster_id if self._grant else None
        if (why := other_etcd_sentence(self._tail.etcd_cluster_id, mine, proven_lately=fresh)) is not None:
            raise TermOver(why)
        deadline = self._clock() + self._rules.claim_deadline
        check = partial(self._check_lease, "while etcd was told of the epoch")
        self._remembered = await foretold(self._lease, max(self._epoch_before, self._tail.epoch), check)
        self._check_lease("before the claim")
        known = not self._tail.changed and await is_where_the_last_term_was(self._tail.connection, self._tail.place)
        started = self._clock()
        epoch = await claim_epoch(
            self._tail.connection, expected=self._epoch_before, at_least=self._remembered.epoch,
            term=term_row(self.phases, self._me, self._grant), deadline=deadline, clock=self._clock,
        )  # fmt: skip
        self._check_lease("after the claim")
        failpoint.hit("takeover.claimed")
        try:
            await self._tail.catch_up()  # R21: to the head, on the claiming connection
            [fence] = await self._tail.connection.run("fence_holds", {"other": self._epoch_before})
        except StoreError as error:
            raise TermOver(f"the database went away while claiming: {error}") from error
        if self._tail.problem is not None or self._tail.digest_differs is not None:
            raise TermOver(self._tail.problem or self._tail.digest_differs or "")
        if not fence["holds"]:
            raise TermOver("a write under another epoch was not refused: the database's fence is gone (R10)")
        seen = max(self._tail.seen_seq, self._remembered.seq)
        self.must_hold = None if seen <= self._book.seq else (
            f"the database ends at event {self._book.seq}, but event {seen} was seen: {WENT_BACK}"
        )  # fmt: skip
        self.must_hold, self._hold = self.must_hold or self._still_held(), None
        self.place_known = known and self._remembered.seq > 0 and self.must_hold is None
        self._tail.changed = False  # the first look of this term is a whole one
        await self._begin(epoch, started)
        if self.must_hold is not None:
            await self.hold(self.must_hold)
        return On.CLAIMED

    def _still_held(self) -> str | None:
        """Why an earlier term holds everything, None when none does: a hold ends by an operator, not by its leader's death."""
        found = self._book.holds_everything
        return None if found is None else str(found.broker.get("why"))

    async def hold(self, why: str) -> str:
        """Accept nothing, and have a break that holds everything in the log, this term's or an earlier one's; its id.

        Raises TermOver.
        """
        self._permit.shut["holding"] = f"Everything is held until an operator looks: {why}."
        committer = self._present()
        found = self._book.holds_everything
        told = (found.broker.get("why") or "") if found is not None else ""
        if self._hold is None and found is not None and (told == why or (WENT_BACK in told and WENT_BACK in why)):
            self._hold = found.id
        if self._hold is None:
            draft = hold_everything(committer.epoch, self._book.seq, why, utcnow())
            outcome, _, text = await committer.commit([draft])
            if outcome is not Outcome.COMMITTED:
                raise TermOver(f"the hold could not be written down: {text}")
            self._hold = str(draft.payload["id"])
        return self._hold

    async def remember(self) -> None:
        """Keep the epoch and the head of the log in etcd, under the leader key. Not while what is there may be missing here."""
        if self.term is not None and self.must_hold is None:
            await remember(self._lease, Memory(self.term.epoch, self._book.seq, f"{self._book.digest:016x}"))

    def claim_above(self, shown: int) -> None:
        """R18: the broker shows a reference of a higher epoch than ours, so the database had one too. Raises TermOver."""
        if self.term is not None and shown > self.term.epoch:
            self._tail.epoch = max(self._tail.epoch, shown)
            raise TermOver(
                f"the broker shows epoch {shown} in a reference, this term's is {self.term.epoch}: claiming above it"
            )

    async def forget_hold(self) -> None:
        """An operator has looked: the log goes on from where the database stands. Raises TermOver."""
        committer = self._present()
        moved = committer.control.get(NEW_GATEWAY)
        if moved is not None and self.must_hold == new_gateway_sentence(moved):
            try:
                await self._tail.connection.run("wish_no_more", {"key": NEW_GATEWAY}, deadline=2.0)
            except StoreError as error:
                raise TermOver(f"what the operator confirmed could not be written down: {error}") from error
        # an order that waits here may have been sent before the database went back, and still be inside the gateway (R18)
        self._desk.end_queue(
            "everything was held while it waited; look at the broker, and place it anew if it is still wanted"
        )
        self.must_hold, self._tail.seen_seq, self.place_known, self._hold = None, self._book.seq, False, None

    def _check_lease(self, when: str) -> None:
        if self._lease.trust_left(self._clock()) <= 0:
            raise TermOver(f"the lease could not be trusted {when} (R31)")

    async def _begin(self, epoch: int, proven_at: float) -> None:
        """The term begins: a committer on the claiming connection, and orders are accepted."""
        self.committer = Committer(
            self._tail.connection, self._me.name, self._me.instance, epoch, self._book,
            on_fenced=self._on_fenced, on_proof=lambda started: self._permit.prove(epoch, started),
            proof_every=self._rules.proof_every, place=self._tail.place, level=self._tail.level,
            keep_ended=self._rules.keep_ended, clock=self._clock,
        )  # fmt: skip
        try:
            await self.committer.open()
        except StoreError as error:
            raise TermOver(f"the database went away after the claim: {error}") from error
        # until its first proof reads them: a halt holds from the claim on
        self.committer.control = dict(self._tail.control)
        self._permit.obey(self._tail.control)
        self.phases.claimed = self._clock()
        self.term = Term(self._me.name, epoch, self.phases)
        self._permit.grant(epoch, proven_at)
        self._desk.begin(self.committer)
        self._inbound.begin(self.committer, self._client_id)

    # ---- connect

    async def connect(self) -> On:
        """Take the broker session under the shared clientId, however long it takes. Raises TermOver when fenced."""
        committer = self._present()
        pause = 0.1
        self._fence.begin()
        while True:
            await prove(committer)  # R13: a commit under my epoch before every attempt
            moved = committer.control.get(NEW_GATEWAY)
            if moved is not None:  # R14: the old one's sessions are not fenced by this one
                self.must_hold = new_gateway_sentence(moved)
                return On.MUST_HOLD
            if not isinstance(await self._lease.verify(), Held):
                # Unknown entitles to go on with the session one has, not to open one (R13)
                await asyncio.sleep(pause)
                self._check_lease("before connecting")
                continue
            started = self._clock()
            self._permit.shut.pop("link", None)  # of the session before; a gateway without a link tells each new one
            self._desk.cancels.dialling()
            answer = await self._broker.connect(self._rules.request_timeout)
            self._dialed.append(answer.address)
            if isinstance(answer, Admitted) and await self._alive():
                away, self.gateway_away = self.gateway_away is not None, None
                self.phases.admitted = self._clock()
                failpoint.hit("takeover.admitted")
                return await self._opened(committer, answer, away)
            if isinstance(answer, InUse):
                await prove(committer)  # and before every use of the agent
                outcome = await self._agent.drop_old_session(
                    dialed=self._dialed, strangers=self._fence.may_drop_strangers(self._clock())
                )
                self.phases.fence += self._clock() - started
                if (why := self._fence.after(outcome, self._clock())) is not None:  # R16
                    self.must_hold = why
                    return On.MUST_HOLD
                continue
            why = getattr(answer, "reason", "admitted, but no answer to a round trip")
            logger.warning("no broker session: {}", why)
            self.gateway_away = self.gateway_away or started
            self._broker.abort()
            await note_away(committer, self._book)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 2.0)

    async def _alive(self) -> bool:
        """A gateway can finish the handshake and be mute: a round trip is the only proof of life."""
        try:
            await self._broker.current_time(self._rules.request_timeout)
        except RequestFailed:
            return False
        return True

    async def _opened(self, committer: Committer, admitted: Admitted, away: bool) -> On:
        if (wrong := account_sentence(self._rules.trading_mode, admitted.accounts)) is not None:
            self._broker.abort()
            self.must_hold = wrong
            return On.MUST_HOLD
        number = self._book.session + 1
        opened: dict[str, Any] = {"session": number, "next_valid_id": admitted.next_valid_id}
        opened |= {"accounts": list(admitted.accounts), "away": away}
        draft = Draft(Kind.SESSION_OPENED, opened, utcnow())
        outcome, _, why = await committer.commit([draft])
        if outcome is not Outcome.COMMITTED:
            raise TermOver(f"the new session could not be written down: {why}")
        self._permit.session = number
        self._permit.shut["reconciling"] = "The ledger and the broker are being reconciled."
        self._desk.session_opened(admitted.next_valid_id)
        return On.ADMITTED

    def _present(self) -> Committer:
        if self.committer is None:
            raise TermOver("there is no term")
        return self.committer

    # ---- the end

    def end(self, why: str) -> None:
        """What was learned behind the gate ends the term."""
        self._on_fenced(why)

    def shut(self) -> None:
        """Close the gate and abort the session: synchronous, the first thing whenever a term ends."""
        self._permit.revoke()
        self._desk.end()
        self._inbound.end()
        if self.committer is not None:
            self.committer.stop()
        failpoint.hit("stepdown.gate_shut")
        self._broker.abort()

    async def give_back(self) -> None:
        """Leave word of what was not written (R4) and of how far the log is (R18), and release the lease."""
        if (committer := self.committer) is not None:
            await committer.leave_word(lambda: self._desk.never_written(committer.epoch), TAKEN_BACK_WITHIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await self.remember()
        self.committer = self.term = None
        if committer is not None:
            await committer.close()
        await self._lease.release()

    async def note_phases(self, more: dict[str, Any]) -> None:
        """Write what is known of the takeover's cost into its history row; a failure costs the figure, nothing else."""
        if self.term is None:
            return
        epoch = self.term.epoch
        try:
            await self._tail.connection.run("note_phases", {"epoch": epoch, "phases": json.dumps(more)}, deadline=2.0)
        except StoreError as error:
            logger.warning("the phases of epoch {} were not noted: {}", epoch, error)
