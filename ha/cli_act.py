"""The commands by which an operator asks something of a running pair: their options. What they do is in ha.cli_operate."""

from __future__ import annotations

from typing import Annotated

import typer

from ha.cli_look import Json, PairDir, Token, Url, client_for, screen

app = typer.Typer()

Reason = Annotated[str, typer.Option("--reason", help="Why; the other operators read it.")]


@app.command()
def switchover(
    *,
    to: Annotated[
        str | None, typer.Option("--to", help="The replica that is to lead; the other one if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also when orders are in doubt or it is too soon.")] = False,
    reason: Reason = "",
    wait: Annotated[float, typer.Option(min=1, help="Seconds until the other one must lead.")] = 30.0,
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """Hand the lead over to the other replica, and wait until it leads."""
    from ha import cli_operate

    wish = {"to": to, "force": force} | ({"reason": reason} if reason else {})
    raise typer.Exit(cli_operate.switchover(client_for(url, token, directory), screen(), as_json, wish, wait))


@app.command()
def pause(
    reason: Reason = "", url: Url = None, token: Token = None, directory: PairDir = None, as_json: Json = False
) -> None:
    """No automatic failover until `adapter resume`."""
    from ha import cli_operate

    raise typer.Exit(
        cli_operate.wish(client_for(url, token, directory), screen(), as_json, "pause", {"reason": reason})
    )


@app.command()
def resume(
    reason: Reason = "", url: Url = None, token: Token = None, directory: PairDir = None, as_json: Json = False
) -> None:
    """End the pause."""
    from ha import cli_operate

    raise typer.Exit(
        cli_operate.wish(client_for(url, token, directory), screen(), as_json, "resume", {"reason": reason})
    )


@app.command()
def halt(
    *,
    cancel_open: Annotated[bool, typer.Option("--cancel-open", help="Cancel our open orders too, one by one.")] = False,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """No new orders until `adapter unhalt`; cancels pass."""
    from ha import cli_operate

    body = {"reason": reason, "cancel_open": cancel_open}
    raise typer.Exit(cli_operate.wish(client_for(url, token, directory), screen(), as_json, "halt", body))


@app.command()
def unhalt(
    reason: Reason = "", url: Url = None, token: Token = None, directory: PairDir = None, as_json: Json = False
) -> None:
    """Allow new orders again."""
    from ha import cli_operate

    raise typer.Exit(
        cli_operate.wish(client_for(url, token, directory), screen(), as_json, "unhalt", {"reason": reason})
    )


@app.command()
def reconcile(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; nothing is written.")] = False,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """Compare the ledger with the broker now, and repair it. 1 if they differ (--dry-run) or did not come to agree."""
    from ha import cli_operate

    raise typer.Exit(cli_operate.reconcile(client_for(url, token, directory), screen(), as_json, dry_run, reason))
