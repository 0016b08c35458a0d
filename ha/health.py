"""What a replica says of itself. Every answer is made from facts in memory; no handler waits for anything behind it.

The one exception is `/api/v1/history`, which reads the database and says 503 when that is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.auth import Access
from engine.clock import Clock, boottime, iso, utcnow
from engine.errors import FieldError, Problem, invalid, unavailable
from engine.http import Request, Response, Server
from engine.metrics import CONTENT_TYPE, Metrics
from engine.store import Connection, StoreError
from ha.node import Node
from ha.peers import Peers
from ha.role import HAS_EPOCH, State

_LEADING = frozenset({State.LEADING, State.HOLDING})


class Health:
    """The handlers; `register` hangs them on a server."""

    def __init__(
        self,
        node: Node,
        peers: Peers,
        metrics: Metrics,
        access: Access,
        reader: Connection,
        *,
        cluster: str,
        pid: int,
        lag_limit: float,
        warnings: Sequence[str] = (),
        clock: Clock = boottime,
    ) -> None:
        self._node, self._peers, self._metrics, self._access = node, peers, metrics, access
        self._reader, self._cluster, self._pid = reader, cluster, pid
        self._lag_limit, self._warnings, self._clock = lag_limit, warnings, clock
        self._started = clock()

    def register(self, server: Server, *, metrics: bool = True) -> None:
        """All paths of this room; `/metrics` only where it is wanted."""
        if metrics:
            server.route("GET", "/metrics", self.metrics)
        for path, handler in {
            "/livez": self.livez, "/readyz": self.readyz, "/leader": self.leader, "/standby": self.standby,
            "/health": self.health, "/api/v1/health": self.health,
            "/api/v1/cluster": self.cluster, "/api/v1/history": self.history,
        }.items():  # fmt: skip
            server.route("GET", path, handler)

    # ---- probes

    async def livez(self, _request: Request) -> Response:
        """200 while the event loop runs."""
        return Response(200, {"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """200 if this replica does its role's job."""
        reasons = self.reasons()
        return Response(
            200 if not reasons else 503, {"ready": not reasons, "role": self._node.role, "reasons": reasons}
        )

    async def leader(self, _request: Request) -> Response:
        """200 only in LEADING and HOLDING, and only with a proof of epoch that is fresh now (R12)."""
        return self._only_if(self.leads(), "leader")

    async def standby(self, request: Request) -> Response:
        """200 only as a standby that tails; `?lag=1s` bounds how far behind it may be."""
        lag = _seconds(request.query.get("lag"), self._lag_limit)
        ok = (
            self._node.state is State.STANDBY
            and self._node.unfit() is None
            and self._node.tail.lag(self._clock()) <= lag
        )
        return self._only_if(ok, "standby")

    def _only_if(self, ok: bool, role: str) -> Response:
        body = {"role": self._node.role, "state": self._node.state.value, "epoch": self._epoch()}
        return Response(
            200 if ok else 503, body | ({} if ok else {"reasons": self.reasons() or [f"this is not the {role}"]})
        )

    def leads(self) -> bool:
        """Whether this replica is the leader and can prove it at this moment."""
        return self._node.state in _LEADING and self._node.permit.proven(self._clock())

    def reasons(self) -> list[str]:
        """Why this replica does not do its role's job; empty when it does."""
        node = self._node
        if node.state is State.LEADING:
            return node.permit.gate_reasons(self._clock())
        if node.state in HAS_EPOCH:
            return [f"This leader is {node.state}.", *node.permit.gate_reasons(self._clock())]
        if node.state is not State.STANDBY:
            return [f"This replica is {node.state}."]
        found = [] if (unfit := node.unfit()) is None else [f"This standby could not take over: {unfit}."]
        return found + ([f"etcd does not answer: {node.etcd_problem}."] if node.etcd_problem else [])

    # ---- the whole picture

    async def health(self, _request: Request) -> Response:
        """200 leader and healthy, 429 standby and healthy, 503 otherwise."""
        reasons = self.reasons()
        healthy = 200 if self._node.state in _LEADING else 429
        body = self.picture()
        return Response(
            503 if reasons else healthy, body | {"status": "unhealthy" if reasons else "ok", "reasons": reasons}
        )

    def picture(self) -> dict[str, Any]:
        """The body of `/health`."""
        node, now = self._node, self._clock()
        book, permit, contact = node.book, node.permit, node.lease.contact()
        leading = node.state in HAS_EPOCH
        term = node.takeover.term
        return {
            "status": "ok", "role": node.role, "state": node.state.value, "name": node.me.name, "instance": node.me.instance,
            "pid": self._pid, "cluster": self._cluster, "epoch": self._epoch(), "single": contact.endpoints == 0,
            "term_started_at": iso(term.started_at) if term is not None else None,
            "lease_trust_ms": round(node.lease.trust_left(now) * 1000) if leading else 0,
            "gate": {"open": permit.gate_open(now), "reasons": permit.gate_reasons(now)},
            "gateway": {
                "session": permit.session is not None, "link": permit.session is not None and "link" not in permit.shut,
                "next_order_id": book.order_id_floor, "next_restart_at": iso(node.tender.calendar.next(utcnow())),
            },
            "database": {"reachable": permit.proven(now) if leading else node.tail.reachable, "seq": book.seq},
            "etcd": {"reachable": node.etcd_problem is None, "members": contact.endpoints},
            "tail": {
                "seq": book.seq, "lag_ms": 0 if leading else _bounded_ms(node.tail.lag(now)), "digest": f"{book.digest:016x}",
            },
            "breaks": len(book.open_breaks), "paused": node.paused, "halted": "halted" in node.control,
            "warnings": list(self._warnings), "version": node.me.version, "uptime_ms": round((now - self._started) * 1000),
        }  # fmt: skip

    def _epoch(self) -> int:
        return self._node.permit.epoch or self._node.tail.epoch

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text."""
        return Response(200, self._metrics.text(), content_type=CONTENT_TYPE)

    async def cluster(self, request: Request) -> Response:
        """The pair, as this replica knows it."""
        self._access.asker(request, "viewer")
        node = self._node
        mine = self.picture()
        rows = [self._row(node.me.name, node.me.url, mine, not self.reasons())]
        for peer in self._peers.others.values():
            rows.append(self._row(peer.name, peer.url, peer.health, peer.status in (200, 429)))
        rows.sort(key=lambda row: str(row["name"]))
        seen = node.seen
        leader = seen.record.name if seen is not None and seen.record is not None else None
        return Response(200, {
            "leader": leader, "epoch": self._epoch(), "paused": node.paused, "halted": "halted" in node.control, "replicas": rows,
            "wishes": {key: node.control[key] for key in ("paused", "halted") if key in node.control},
        }, self._stamp())  # fmt: skip

    def _stamp(self) -> dict[str, str]:
        """Who says this, as on every read."""
        node = self._node
        return {"Adapter-Role": node.role, "Adapter-Epoch": str(self._epoch()), "Adapter-Seq": str(node.book.seq)}

    @staticmethod
    def _row(name: str, url: str, health: dict[str, Any] | None, healthy: bool) -> dict[str, Any]:
        said = health or {}
        return {
            "name": name, "url": url, "role": said.get("role"), "state": said.get("state"), "healthy": healthy,
            "lag_ms": said.get("tail", {}).get("lag_ms"), "version": said.get("version"),
        }  # fmt: skip

    async def history(self, request: Request) -> Response:
        """Terms, newest first, with what each phase cost."""
        self._access.asker(request, "viewer")
        limit = request.query.get("limit") or "50"
        if not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not 1 <= int(limit) <= 1000:
            raise invalid(FieldError("limit", "a whole number from 1 to 1000"))
        try:
            if not self._reader.is_open:
                await self._reader.open(deadline=2.0)
            rows = await self._reader.run("history", {"limit": int(limit)}, deadline=2.0)
        except StoreError as error:
            raise unavailable("database-away", f"The history is in PostgreSQL, which is away: {error}") from error
        renamed = (
            {"from": row.pop("from_name"), "to": row.pop("to_name")} | row | {"at": iso(row["at"])} for row in rows
        )
        return Response(200, {"history": list(renamed)}, self._stamp())


def _bounded_ms(seconds: float) -> int | None:
    """Milliseconds, or None for "never was at the head"."""
    return None if seconds == float("inf") else round(seconds * 1000)


def _seconds(text: str | None, default: float) -> float:
    """`1s`, `500ms` or plain seconds."""
    if text is None:
        return default
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("", 1.0)):
        number = text.removesuffix(unit) if unit else text
        if text.endswith(unit) and number.replace(".", "", 1).isascii() and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise Problem(400, "bad-query", "A query parameter is wrong", "lag is a time such as 1s or 500ms.")
