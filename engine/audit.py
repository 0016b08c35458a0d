"""Who asked for what, when and from where: read from the same log that everything is folded from.

An order, a change, a cancel and a word on a break are events themselves and carry who asked (`user_id`), under which correlation
id, and from where (`from` in the payload). What operators wish lies outside the log (R29); the leader notes each command in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.auth import Access
from engine.clock import iso
from engine.errors import FieldError, invalid, unavailable
from engine.events import Kind
from engine.http import Request, Response, Server
from engine.store import Connection, Row, StoreError

PATH = "/api/v1/audit"
ASKS = (
    Kind.ORDER_ACCEPTED, Kind.CANCEL_REQUESTED, Kind.MODIFY_LICENSED, Kind.BREAK_RESOLVED, Kind.OPERATOR_COMMAND,
)  # fmt: skip
"""Kinds that somebody asked for; an event of another kind is one too when it says from where."""
EVERYTHING = "*"
MAX_PAGE = 1000
DEADLINE = 5.0
_TEXTS = ("subject", "order_id", "client_order_id")


class Audit:
    """`GET /api/v1/audit`."""

    def __init__(self, url: str, replica: str, access: Access) -> None:
        self._access = access
        self._connection = Connection(url, f"adapter-audit:{replica}")

    def register(self, server: Server) -> None:
        """The one path."""
        server.route("GET", PATH, self.audit)
        server.on_stop.append(self._connection.close)

    async def audit(self, request: Request) -> Response:
        """`GET /audit`, oldest first: the newest `limit` rows, or with `after` the first ones behind that event."""
        self._access.asker(request, "operator")
        asked, limit = filters(request.query)
        name = "audit_newest" if asked["after"] is None else "audit_after"
        try:
            if not self._connection.is_open:
                await self._connection.open(deadline=2.0)
            rows = await self._connection.run(name, asked | {"limit": limit + 1}, deadline=DEADLINE)
            [begins] = await self._connection.run("log_begins", {}, deadline=DEADLINE)
        except StoreError as error:
            raise unavailable("database-away", f"The audit is in PostgreSQL, which is away: {error}") from error
        if name == "audit_newest":
            rows, following = rows[:limit][::-1], None
        else:
            following = rows[limit - 1]["seq"] if len(rows) > limit else None
        return Response(
            200, {"audit": [_view(row) for row in rows[:limit]], "next": following, "log_begins": begins["first"]}
        )


def filters(query: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """The statement's parameters and the limit. Raises Problem 422 with each wrong parameter."""
    wrong: list[FieldError] = []

    def whole(name: str, least: int, most: int) -> int | None:
        text = query.get(name)
        if not text:
            return None
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        wrong.append(FieldError(name, f"a whole number from {least} to {most}"))
        return None

    def moment(name: str) -> datetime | None:
        text = query.get(name)
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else "")
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        wrong.append(FieldError(name, "a time with its zone, such as 2025-01-31T15:00:00Z"))
        return None

    texts = {name: query.get(name) or None for name in _TEXTS}
    wrong += [FieldError(name, "no NUL characters, please") for name, text in texts.items() if "\x00" in (text or "")]
    kind = query.get("kind") or None
    kinds = None if kind in (None, EVERYTHING) else [part.strip() for part in str(kind).split(",")]
    if kinds is not None and (unknown := sorted(set(kinds) - set(Kind))):
        wrong.append(FieldError("kind", f"there is no {', '.join(unknown)[:100]}; * for all, or of: {', '.join(Kind)}"))
    asked = texts | {
        "after": whole("after", 0, 1 << 62), "since": moment("since"), "until": moment("until"), "kinds": kinds,
        "asks": None if kind is not None else list(ASKS),
    }  # fmt: skip
    limit = whole("limit", 1, MAX_PAGE) or 100
    if wrong:
        raise invalid(*wrong)
    return asked, limit


def _view(row: Row) -> dict[str, Any]:
    return {
        "seq": row["seq"], "epoch": row["epoch"], "at": iso(row["timestamp"].astimezone(UTC)), "kind": row["event_type"],
        "by": row["user_id"], "from": row["payload"].get("from"), "order_id": row["order_id"],
        "client_order_id": row["client_order_id"], "correlation_id": row["correlation_id"], "event_id": str(row["event_id"]),
        "payload": row["payload"],
    }  # fmt: skip
