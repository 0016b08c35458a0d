"""The command `adapter`. Each command imports what it needs when it runs, so that `adapter --help` is quick.

Exit codes: 0 fine, 1 not fine, 2 wrong usage (a wrong setting too).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ha import cli_act, cli_audit, cli_ledger, cli_look, cli_preflight
from ha.cli_look import DIR, Dir, Json, refuse
from ha.redact import redact

if TYPE_CHECKING:
    from ha.config import Need, Settings

app = typer.Typer(
    name="adapter",
    help="An order adapter for Interactive Brokers that runs as a fenced pair.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a pretty trace shows local variables, secrets among them
)

PortBase = Annotated[int | None, typer.Option("--port-base", min=1, max=65528, help="N: ports N+1 to N+7.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"adapter {version('platform-adapter')}")
        raise typer.Exit


@app.callback()
def _adapter(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def settings_for(need: Need) -> Settings:
    """The settings, or the sentences about them on stderr and exit code 2."""
    from ha.config import ConfigError, load_settings

    try:
        settings = load_settings(need=need)
    except ConfigError as error:
        refuse(error)
    for warning in settings.warnings if need not in ("run", "single") else ():
        typer.echo(f"warning: {warning}", err=True)
    return settings


@app.command()
def run(
    single: Annotated[bool, typer.Option("--single", help="Without a pair: no etcd, no other replica.")] = False,
) -> None:
    """Run one replica; settings come from the environment and .env (docs/settings.md)."""
    settings = settings_for("single" if single else "run")
    from loguru import logger

    from ha import log
    from ha.config import ConfigError

    try:
        log.setup(settings)
    except ConfigError as error:
        refuse(error)
    for warning in settings.warnings:
        logger.warning("{}", warning)
    from ha.main import run as run_replica

    raise typer.Exit(run_replica(settings, single=single))


@app.command()
def up(
    directory: Dir = DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Say in one line of JSON what runs where.")] = False,
    port_base: PortBase = None,
    no_restart: Annotated[bool, typer.Option("--no-restart", help="Leave a replica that died dead.")] = False,
) -> None:
    """Run a whole pair on this machine: etcd, PostgreSQL, a stand-in gateway and two replicas."""
    from ha.local.pair import up as up_pair

    raise typer.Exit(up_pair(directory, json=as_json, port_base=port_base, restart=not no_restart))


@app.command()
def demo(
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where everything lies; a fresh one if left out.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, help="How long orders flow.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders per second.")] = 20.0,
    seed: Annotated[int | None, typer.Option(help="Replays the same orders and kills.")] = None,
    port_base: PortBase = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the directory for a look afterwards.")] = False,
) -> None:
    """Kill the leader twice while orders flow, and count at the broker what became of each."""
    from ha.demo.run import demo as run_demo

    raise typer.Exit(
        run_demo(dir=directory, seconds=seconds, rate=rate, seed=seed, port_base=port_base, json=as_json, keep=keep)
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def sim(context: typer.Context) -> None:
    """Run the stand-in gateway alone; `adapter sim --help` lists its options."""
    os.execv(sys.executable, [sys.executable, "-m", "ibsim", *context.args])


@app.command()
def migrate(
    *,
    new_gateway: Annotated[
        bool,
        typer.Option(
            "--new-gateway",
            help="TWS_GATEWAY_ID names another gateway now; the next leader holds until you confirm it.",
        ),
    ] = False,
    raise_level: Annotated[
        bool,
        typer.Option(
            "--raise-level",
            help="The rollout's last step, with this version on both replicas: write its new kinds of events from now on.",
        ),
    ] = False,
    post: Annotated[
        bool,
        typer.Option("--post", help="All steps: both replicas run this version, or stand still."),
    ] = False,
) -> None:
    """Bring the database to this version's schema, as its owner (MIGRATE_DATABASE_URL); the older version still runs on it."""
    settings = settings_for("migrate")
    from engine.migrate import Identity, MigrationError, summary
    from engine.migrate import migrate as migrate_database

    assert settings.migrate_dsn is not None
    assert settings.database_dsn is not None
    identity = Identity(settings.cluster_name, settings.gateway_id, settings.tws_client_id)
    try:
        migrated = migrate_database(
            settings.migrate_dsn,
            settings.database_dsn,
            identity,
            new_gateway=new_gateway,
            post=post,
            raise_level=raise_level,
        )
    except MigrationError as error:
        typer.echo(redact(str(error)), err=True)
        raise typer.Exit(1) from error
    typer.echo(summary(migrated, identity))


@app.command()
def release() -> None:
    """Give back the lease of a replica that has certainly ended; for systemd's ExecStopPost."""
    settings = settings_for("release")
    from ha.release import main as release_lease

    raise typer.Exit(release_lease(settings))


@app.command()
def token(
    subject: Annotated[str, typer.Option("--sub", help="Who the token is for; orders carry this name.")],
    role: Annotated[str, typer.Option("--role", help="viewer, trader or operator.")] = "viewer",
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is good: 15m, 8h, 30d.")] = "8h",
    as_json: Json = False,
) -> None:
    """Issue a bearer token, signed with API_SECRET_KEY."""
    settings = settings_for("cli")
    from ha import cli_token

    try:
        issued = cli_token.issue(settings.api_secret, subject, role, ttl)
    except ValueError as error:
        refuse(error)
    typer.echo(issued.as_json() if as_json else issued.token)


app.add_typer(cli_look.app)
app.add_typer(cli_act.app)
app.add_typer(cli_audit.app)
app.add_typer(cli_ledger.app)
app.add_typer(cli_preflight.app)
