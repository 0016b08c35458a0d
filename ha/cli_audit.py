"""`adapter audit`: who asked for what, when and from where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ha.cli_look import Json, PairDir, Token, Url, client_for, screen

if TYPE_CHECKING:
    from ha.cli_read import Screen
    from ha.pair_client import PairClient

app = typer.Typer()


@app.command()
def audit(
    *,
    subject: Annotated[str | None, typer.Option(help="Only what this token's subject asked for.")] = None,
    order_id: Annotated[str | None, typer.Option(help="Only about this order.")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="Only about the order of this key.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only these kinds of events, commas between; * = all of them.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only from this time on, such as 2025-01-31T15:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Only before this time.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="The first ones behind this seq, not the newest.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """Who asked for what, when and from where, oldest first; a token of role operator is needed."""
    asked = {
        "subject": subject, "order_id": order_id, "client_order_id": client_order_id, "kind": kind, "since": since,
        "until": until, "after": after, "limit": limit,
    }  # fmt: skip
    raise typer.Exit(show(client_for(url, token, directory), screen(), as_json, asked))


def show(client: PairClient, screen: Screen, as_json: bool, asked: dict[str, Any]) -> int:
    """Print what matches; 1 when no replica gave a good answer."""
    best, answers = client.best("/api/v1/audit", asked)
    if best is None or "audit" not in best.body:
        for answer in answers:
            screen.say(f"{answer.url}: {answer.why()}")
        return 1
    if as_json:
        screen.json(best.body)
        return 0
    screen.show(table(best.body["audit"], datetime.now(UTC)))
    if best.body["next"] is not None:
        screen.say(f"there is more: --after {best.body['next']}")
    return 0


def table(rows: list[dict[str, Any]], now: datetime) -> Any:
    """The rows as a grid."""
    from ha import cli_format as form
    from ha.cli_grid import Grid

    columns = ("by", "from", "kind", "what", "order_id", "correlation_id")
    return Grid.of(
        ">Seq UTC By From Kind ~What Order ~Correlation_id",
        (
            [str(row["seq"]), form.moment(row["at"], now), *(form.text((row | {"what": what(row)})[name]) for name in columns)]
            for row in rows
        ),
    )  # fmt: skip


def what(row: dict[str, Any]) -> str:
    """What was asked for, in a few words."""
    p = row["payload"]
    if row["kind"] == "operator_command":
        return " ".join(filter(None, (p["command"], p["reason"] and f"({p['reason']})")))
    if row["kind"] == "order_accepted":
        price = f" at {p['limit_price']}" if p.get("limit_price") else ""
        return f"{p['side']} {p['quantity']} {p['symbol']} {p['order_type']}{price}, key {p.get('client_order_id')}"
    if row["kind"] == "modify_licensed":
        return ", ".join(f"{name} {figure}" for name, figure in p["changes"].items())
    if row["kind"] == "break_resolved":
        return " ".join(filter(None, (p["id"], p["resolution"], p.get("reason") and f"({p['reason']})")))
    return str(p.get("reason") or p.get("status") or "")
