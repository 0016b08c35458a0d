"""The commands that look at a running pair: their options. What they do is in ha.cli_read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from ha.cli_read import Screen
    from ha.pair_client import PairClient

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Url = Annotated[
    list[str] | None,
    typer.Option(
        "--url", help="A replica, http://HOST:PORT; repeat for the other. Else ADAPTER_URL, else DIR/pair.json."
    ),
]
Token = Annotated[str | None, typer.Option("--token", envvar="ADAPTER_TOKEN", help="Bearer token.", show_envvar=True)]
Dir = Annotated[Path, typer.Option("--dir", help="Where `adapter up` keeps everything.")]
DIR = Path(".adapter")


def refuse(error: Exception) -> NoReturn:
    """Say what is wrong with how the command was called, and end with 2."""
    typer.echo(str(error), err=True)
    raise typer.Exit(2)


def _client(url: list[str] | None, token: str | None, directory: Path) -> PairClient:
    from ha.pair_client import PairClient, UsageError, find_urls

    try:
        return PairClient(find_urls(url or [], os.environ, directory), token)
    except UsageError as error:
        refuse(error)


def _screen() -> Screen:
    from ha.cli_read import Screen

    return Screen.standard()


@app.command()
def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
    times: Annotated[int | None, typer.Option(min=1, help="With --watch: stop after so many looks.")] = None,
    url: Url = None,
    token: Token = None,
    directory: Dir = DIR,
    as_json: Json = False,
) -> None:
    """Both replicas: role, epoch, gate, gateway, lag. 1 unless one leads, its gate is open, and both are healthy."""
    from ha import cli_read

    client = _client(url, token, directory)
    raise typer.Exit(cli_read.status(client, _screen(), as_json, every if watch else None, times))


@app.command()
def orders(
    *,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as WORKING.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only of this symbol.")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="Only the order of this key.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="Only what changed after this seq.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest.")] = 100,
    live: Annotated[bool, typer.Option("--open", help="Only those that can still change.")] = False,
    url: Url = None,
    token: Token = None,
    directory: Dir = DIR,
    as_json: Json = False,
) -> None:
    """Orders, oldest first."""
    from ha import cli_read

    filters = {
        "state": state.upper() if state else None,
        "symbol": symbol,
        "client_order_id": client_order_id,
        "after": after,
    }
    raise typer.Exit(
        cli_read.orders(_client(url, token, directory), _screen(), as_json, filters=filters, limit=limit, live=live)
    )


@app.command()
def positions(url: Url = None, token: Token = None, directory: Dir = DIR, as_json: Json = False) -> None:
    """Positions here and at the broker. 1 if one differs."""
    from ha import cli_read

    raise typer.Exit(cli_read.positions(_client(url, token, directory), _screen(), as_json))


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="How many terms, the newest.")] = 20,
    url: Url = None,
    token: Token = None,
    directory: Dir = DIR,
    as_json: Json = False,
) -> None:
    """Starts, failovers and switchovers, with the time of each phase."""
    from ha import cli_read

    raise typer.Exit(cli_read.history(_client(url, token, directory), _screen(), as_json, limit))


@app.command()
def breaks(
    resolved: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    url: Url = None,
    token: Token = None,
    directory: Dir = DIR,
    as_json: Json = False,
) -> None:
    """Open differences between the ledger and the broker. 1 if there is one."""
    from ha import cli_read

    raise typer.Exit(cli_read.breaks(_client(url, token, directory), _screen(), as_json, resolved))
