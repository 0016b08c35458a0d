"""The tables that the command line prints, made from the API's bodies. Each fits 100 columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from ha import cli_format as form
from ha.cli_grid import Grid
from ha.pair_client import Answer

Row = Mapping[str, Any]


def replicas(answers: Sequence[Answer]) -> Grid:
    """One line for each replica, from `GET /health`."""
    return Grid.of("~Replica Role State >Epoch >Trust Gate Gateway >Seq etcd >Lag >Breaks >Up", map(_replica, answers))


def _replica(answer: Answer) -> list[str]:
    health = answer.body if isinstance(answer.body, dict) and "role" in answer.body else None
    if health is None:
        return [answer.url, "no answer", *[form.NOTHING] * 10]
    gateway, database, etcd = (_part(health, name) for name in ("gateway", "database", "etcd"))
    session = "no session" if not gateway.get("session") else "up" if gateway.get("link") else "link down"
    return [
        form.text(health.get("name")),
        form.text(health.get("role")),
        form.text(health.get("state")),
        form.text(health.get("epoch")),
        form.duration(health.get("lease_trust_ms")),
        "open" if _part(health, "gate").get("open") else "shut",
        session if health.get("role") == "leader" or gateway.get("session") else form.NOTHING,
        form.text(database.get("seq")) if database.get("reachable") else "away",
        "none" if health.get("single") else form.text(etcd.get("members")) if etcd.get("reachable") else "away",
        form.duration(_part(health, "tail").get("lag_ms")),
        form.text(health.get("breaks")),
        form.duration(health.get("uptime_ms")),
    ]


def _part(health: Row, name: str) -> Row:
    part = health.get(name)
    return part if isinstance(part, dict) else {}


def faults(answers: Sequence[Answer]) -> list[str]:
    """What is not fine about the pair, one sentence each; empty where it is."""
    found: list[str] = []
    bodies = [(a, a.body) for a in answers if isinstance(a.body, dict) and "role" in a.body]
    for answer in answers:
        if not isinstance(answer.body, dict) or "role" not in answer.body:
            found.append(f"{answer.url}: {answer.why()}")
    for answer, body in bodies:
        name = form.text(body.get("name"))
        reasons = _part(body, "gate").get("reasons") or []
        if body.get("role") == "leader" and not _part(body, "gate").get("open"):
            found.append(f"{name}: gate shut: {', '.join(map(form.text, reasons)) or 'no reason given'}")
        elif answer.status not in (200, 429):
            found.append(f"{name}: not healthy ({form.text(body.get('status'))})")
    leaders = [form.text(body.get("name")) for _, body in bodies if body.get("role") == "leader"]
    if len(leaders) != 1:
        found.append(f"leaders: {', '.join(leaders)}; there must be one" if leaders else "no replica leads")
    tails = [_part(body, "tail") for _, body in bodies]
    for one, other in pairwise(tails):
        if (
            one.get("seq") is not None
            and one.get("seq") == other.get("seq")
            and one.get("digest") != other.get("digest")
        ):
            found.append(f"the books differ at seq {one['seq']} (their digests are not equal)")
    return found


def headline(cluster: Row | None, answers: Sequence[Answer]) -> str:
    """The pair in one line."""
    bodies = [a.body for a in answers if isinstance(a.body, dict) and "role" in a.body]
    names = [form.text(body.get("cluster")) for body in bodies]
    leader = next((body for body in bodies if body.get("role") == "leader"), {})
    known = cluster or {}
    parts = [names[0] if names else "the pair"]
    parts.append(f"leader {form.text(leader.get('name') or known.get('leader'))}")
    parts.append(f"epoch {form.text(leader.get('epoch') or known.get('epoch'))}")
    parts += [word for word in ("paused", "halted") if known.get(word) or any(body.get(word) for body in bodies)]
    return ", ".join(parts)


PAUSED, HALTED = "PAUSED", "HALTED"
WISHES = (PAUSED, HALTED)
_MEANING = {
    PAUSED: "no automatic failover until `adapter resume`",
    HALTED: "no new orders until `adapter unhalt`; cancels pass",
}


def wishes(cluster: Row | None, answers: Sequence[Answer]) -> list[str]:
    """What operators asked for and is in force: by whom and why, and what it means."""
    bodies: list[Row] = [a.body for a in answers if isinstance(a.body, dict) and "role" in a.body]
    known, found = _part(cluster or {}, "wishes"), []
    for word in WISHES:
        key = word.lower()
        if not (cluster or {}).get(key) and not any(body.get(key) for body in bodies):
            continue
        said = _part(known, key)
        by = f" by {form.text(said['by'])}" if said.get("by") else ""
        why = f": {form.text(said['reason'])}" if said.get("reason") else ""
        found.append(f"{word}{by}{why} ({_MEANING[word]})")
    return found


def orders(rows: Iterable[Row], now: datetime) -> Grid:
    """Orders, in the order given."""
    return Grid.of(
        "UTC ~Client_id Symbol Side >Quantity >Filled >Average Type >Limit State ~Reason",
        (
            [
                form.moment(row.get("created_at"), now),
                form.text(row.get("client_order_id")),
                form.text(row.get("symbol")),
                form.text(row.get("side")),
                form.quantity(row.get("quantity")),
                form.quantity(row.get("filled")),
                form.price(row.get("average_price")),
                form.text(row.get("order_type")),
                form.price(row.get("limit_price")),
                form.text(row.get("state")),
                form.text(row.get("reason")),
            ]
            for row in rows
        ),
    )


def positions(rows: Iterable[Row]) -> Grid:
    """Positions: ours, the broker's, and what lies between."""
    return Grid.of(
        "~Account Symbol >Quantity >Average_cost >At_the_broker >Difference ~Break",
        (
            [
                form.text(row.get("account")),
                form.text(row.get("symbol")),
                form.quantity(row.get("quantity")),
                form.price(row.get("average_cost")),
                "unknown" if row.get("broker_quantity") is None else form.quantity(row.get("broker_quantity")),
                difference(row),
                form.text(row.get("break_id")),
            ]
            for row in rows
        ),
    )


def difference(row: Row) -> str:
    """Broker's quantity less ours with its sign; `-` where they agree, `unknown` where the broker's is not known."""
    ours, broker = form.decimal(row.get("quantity")), form.decimal(row.get("broker_quantity"))
    if ours is None or broker is None:
        return "unknown"
    return form.NOTHING if ours == broker else f"{'+' if broker > ours else ''}{form.quantity(broker - ours)}"


_PHASES = ("detect", "acquire", "claim", "fence", "connect", "reconcile", "first_order", "total")


def history(rows: Iterable[Row], now: datetime) -> Grid:
    """Terms, newest first; phases in milliseconds; how many differences were repaired and held."""
    return Grid.of(
        ">Epoch UTC ~Who >detect >acq. >claim >fence >conn. >rec. >first >total >fix/held ~Why",
        (
            [
                form.text(row.get("epoch")),
                form.moment(row.get("at"), now),
                f"{form.text(row.get('from'))}>{form.text(row.get('to'))}",
                *(form.milliseconds(row.get(f"{phase}_ms")) for phase in _PHASES),
                f"{form.text(row.get('repaired'))}/{form.text(row.get('held'))}",
                ": ".join(form.text(row[part]) for part in ("kind", "reason") if row.get(part)),
            ]
            for row in rows
        ),
    )


def breaks(rows: Iterable[Row], now: datetime) -> Grid:
    """Differences between the ledger and the broker."""
    return Grid.of(
        "Id ~Kind Symbol Order ~Ours ~Broker Opened_UTC ~Resolved",
        (
            [
                form.text(row.get("id")),
                form.text(row.get("kind")),
                form.text(row.get("symbol")),
                form.text(row.get("order_id")),
                form.text(row.get("ours")),
                form.text(row.get("broker")),
                form.moment(row.get("opened_at"), now),
                _resolved(row, lambda at: form.moment(at, now)),
            ]
            for row in rows
        ),
    )


def plan(rows: Iterable[Row]) -> Grid:
    """Differences that a reconciliation found: the row of its table, the verdict, both sides, and what it writes."""
    return Grid.of(
        "Row Verdict ~About ~Ours ~Broker ~Writes",
        (
            [
                form.text(row.get("row")),
                "waits" if row.get("waits") else form.text(row.get("verdict")),
                form.text(row.get("about")),
                form.text(row.get("ours")),
                form.text(row.get("broker")),
                form.text(", ".join(map(str, row.get("writes") or [])) or None),
            ]
            for row in rows
        ),
    )


def _resolved(row: Row, moment: Callable[[Any], str]) -> str:
    if row.get("resolved_at") is None:
        return "open"
    return f"{moment(row['resolved_at'])} {form.text(row.get('resolution'))}"
