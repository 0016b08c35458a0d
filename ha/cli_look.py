"""The commands that look at a running pair: their options. What they do is in ha.cli_read (and ha.cli_operate)."""

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
PairDir = Annotated[
    Path | None, typer.Option("--dir", help="Where `adapter up` keeps everything; .adapter if left out.")
]
DIR = Path(".adapter")


def refuse(error: Exception) -> NoReturn:
    """Say what is wrong with how the command was called, and end with 2."""
    typer.echo(str(error), err=True)
    raise typer.Exit(2)


def client_for(url: list[str] | None, token: str | None, directory: Path | None) -> PairClient:
    """Who is asked. Ends the command with a sentence: 2 for a wrong address, 1 where no pair is."""
    from ha.pair_client import NoPair, PairClient, UsageError, find_urls

    try:
        return PairClient(find_urls(url or [], os.environ, directory or DIR, named=directory is not None), token)
    except UsageError as error:
        refuse(error)
    except NoPair as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def screen() -> Screen:
    """stdout and stderr."""
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
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """Both replicas: role, epoch, gate, gateway, lag. 1 unless one leads, its gate is open, and both are healthy."""
    from ha import cli_read

    client = client_for(url, token, directory)
    raise typer.Exit(cli_read.status(client, screen(), as_json, every if watch else None, times))


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
    directory: PairDir = None,
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
        cli_read.orders(client_for(url, token, directory), screen(), as_json, filters=filters, limit=limit, live=live)
    )


@app.command()
def positions(url: Url = None, token: Token = None, directory: PairDir = None, as_json: Json = False) -> None:
    """Positions here and at the broker. 1 if one differs."""
    from ha import cli_read

    raise typer.Exit(cli_read.positions(client_for(url, token, directory), screen(), as_json))


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="How many terms, the newest.")] = 20,
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """Starts, failovers and switchovers, with the time of each phase."""
    from ha import cli_read

    raise typer.Exit(cli_read.history(client_for(url, token, directory), screen(), as_json, limit))


breaks_app = typer.Typer(help="Open differences between the ledger and the broker. 1 if there is one.")
app.add_typer(breaks_app, name="breaks")


@breaks_app.callback(invoke_without_command=True)
def breaks(
    context: typer.Context,
    resolved: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """Open differences between the ledger and the broker. 1 if there is one."""
    if context.invoked_subcommand is not None:
        context.obj = (url, token, directory, as_json)  # before or behind the word `resolve`: they count
        return
    from ha import cli_read

    raise typer.Exit(cli_read.breaks(client_for(url, token, directory), screen(), as_json, resolved))


@breaks_app.command()
def resolve(
    context: typer.Context,
    break_id: Annotated[str, typer.Argument(metavar="ID", help="The break, as `adapter breaks` names it.")],
    resolution: Annotated[
        str, typer.Argument(help="What was found; in doubt: dead, adopt (with --perm-id), send_again.")
    ],
    reason: Annotated[str, typer.Option(help="Why, for the log.")],
    perm_id: Annotated[int | None, typer.Option(help="The broker's order that it is, for adopt.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Accept a new gateway that has not shown that it is ours.")
    ] = False,
    url: Url = None,
    token: Token = None,
    directory: PairDir = None,
    as_json: Json = False,
) -> None:
    """An operator's word on a difference."""
    from ha import cli_operate

    before = context.obj
    raise typer.Exit(
        cli_operate.resolve(
            client_for(url or before[0], token or before[1], directory or before[2]),
            screen(),
            as_json or before[3],
            break_id,
            {"resolution": resolution, "reason": reason}
            | ({} if perm_id is None else {"perm_id": perm_id})
            | ({"force": True} if force else {}),
        )
    )
