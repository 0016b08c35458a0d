"""Every connection, and who holds which clientId. Thin."""

import asyncio
from typing import TYPE_CHECKING

from ibsim.session import Session

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

REFUSED_CLOSE = 0.7
"""Seconds between error 326 and the end of the connection."""
MAX_CLIENTS = 32
MAX_CONNECTIONS = 1000
"""Sockets at once, with a clientId or not; the next one ends the oldest that has none yet."""
FARMS = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)
LINK_LOST = (1100, "Connectivity between IBKR and Trader Workstation has been lost.")


class Sessions:
    """The connections of one gateway, by session number and by clientId."""

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway
        self.by_number: dict[int, Session] = {}
        self.by_client: dict[int, Session] = {}
        self.last = 0
        """The highest session number so far."""

    def new(self) -> Session:
        """A session for a connection that is being accepted."""
        self.last += 1
        return Session(self.gateway, self.last)

    def master(self) -> Session | None:
        """The master client's session, if it is open."""
        client_id = self.gateway.settings.master_client_id
        return None if client_id is None else self.by_client.get(client_id)

    def connected(self, session: Session) -> None:
        """A client's connection stands; while frozen nobody listens to it."""
        session.since = self.gateway.now()
        self.by_number[session.number] = session
        if len(self.by_number) > MAX_CONNECTIONS:
            idle = (one for one in self.by_number.values() if one.state in ("handshake", "connected"))
            self.drop(next(idle, session), f"more than {MAX_CONNECTIONS} connections")
            self.gateway.flush()
        session.regulate()

    def start(self, session: Session) -> None:
        """startApi: the clientId is free and the session opens, or it is refused."""
        if session.client_id in self.by_client:
            text = "Unable to connect as the client id is already in use. Retry with a unique client id."
            session.error(326, text)
            self.refused(session, 326, text)
            return
        if len(self.by_client) >= MAX_CLIENTS:
            text = f"Unable to connect: {MAX_CLIENTS} clients are connected, no more are possible"
            session.error(504, text)
            self.refused(session, 504, text)
            return
        session.state = "open"
        self.by_client[session.client_id] = session
        self.gateway.log("session_open", session=session.number, client_id=session.client_id, peer=session.peer)
        session.send("managedAccounts", {"accounts": ",".join(self.gateway.settings.accounts)})
        session.send("nextValidId", {"orderId": str(self.gateway.book.ids(session.client_id).next_valid)})
        for code, text in FARMS:
            session.error(code, text)
        if not self.gateway.book.link.up and self.gateway.book.link.noticed:
            session.error(*LINK_LOST)

    def refused(self, session: Session, code: int, reason: str) -> None:
        """The session is not let in; its connection ends a moment later."""
        session.state = "refused"
        client_id = session.client_id if session.version else None
        self.gateway.log(
            "session_refused", session=session.number, client_id=client_id, code=code, peer=session.peer, reason=reason
        )
        asyncio.get_running_loop().call_later(REFUSED_CLOSE, session.end, reason)

    def peer_gone(self, session: Session, reason: str) -> None:
        """The connection ended; a half-open peer's session keeps its clientId."""
        if session.state == "open" and not session.reason and self.gateway.faults.strikes("half_open"):
            session.state = "half_open"
            return
        self._close(session, reason)
        self.gateway.flush()

    def _close(self, session: Session, reason: str) -> None:
        if session.state == "closed":
            return
        if session.state in ("open", "half_open"):
            if self.by_client.get(session.client_id) is session:
                del self.by_client[session.client_id]
            self.gateway.log("session_closed", session=session.number, client_id=session.client_id, reason=reason)
            if "forget_untransmitted" in self.gateway.faults:
                self._forget_untransmitted(session)
        elif session.state != "refused" and reason != "closed by the client":
            self.gateway.log("session_closed", session=session.number, reason=reason)
        session.state = "closed"
        self.by_number.pop(session.number, None)
        self.gateway.quotes.forget(session)

    def _forget_untransmitted(self, session: Session) -> None:
        """What the gateway kept for this session and was never told to transmit is gone, in no list."""
        for order in self.gateway.book.orders:
            if order.session == session.number and not order.transmit:
                order.done = True
                self.gateway.book.course.forget(order)
                self.gateway.log(
                    "fault", fault="forget_untransmitted", session=session.number, client_id=order.client_id,
                    order_id=order.order_id, perm_id=order.perm_id, order_ref=order.order_ref,
                )  # fmt: skip

    def drop(self, session: Session, reason: str, torn: bool = False) -> None:
        """Ends a session, half-open ones too, and frees its clientId."""
        if session.state != "half_open":
            if torn:
                session.tear(reason)
            else:
                session.abort(reason)
        self._close(session, reason)

    def drop_all(self, reason: str) -> None:
        """Ends every session."""
        for session in list(self.by_number.values()):
            self.drop(session, reason)

    def tell_all(self, code: int, text: str) -> None:
        """An error about no request, to every open session."""
        for session in self.by_client.values():
            session.error(code, text)
