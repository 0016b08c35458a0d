"""`adapter preflight`: look at database and gateway as this replica's settings name them, before it is started."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ha.cli_look import Json, refuse, screen

if TYPE_CHECKING:
    from ha.config import Settings
    from ha.preflight import Finding, Known

app = typer.Typer()


@app.command()
def preflight(
    *,
    agent: Annotated[
        bool,
        typer.Option(
            "--agent", help="End the first session by the fence agent. It ends the pair's own too: stop the pair first."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Is the gateway there ours, does it fence, and is the database fit? With a spare clientId. 1 when something is not."""
    import asyncio

    from ha.cli import settings_for
    from ha.redact import redact

    settings = settings_for("single")
    _say_nothing_beside()
    try:
        with screen().errors.status("asking the database and the gateway"):
            found = asyncio.run(_look(settings, agent=agent))
    except ValueError as error:
        refuse(error)
    shown = screen()
    if as_json:
        shown.json({"findings": [{"what": one.what, "fine": one.fine, "says": redact(one.says)} for one in found]})
    else:
        shown.show(*(f"{'ok ' if one.fine else 'NOT'} {one.what}: {redact(one.says)}" for one in found))
    raise typer.Exit(0 if all(one.fine for one in found) else 1)


def _say_nothing_beside() -> None:
    """What is found is the answer; that a dial was refused is one of the things that are looked for."""
    import logging

    from loguru import logger

    logger.remove()
    logging.getLogger("ib_async").setLevel(logging.CRITICAL)


async def _look(settings: Settings, *, agent: bool) -> Sequence[Finding]:
    """Raises ValueError where the command must not be given now."""
    from engine.store import StoreError
    from ha import from_settings as given
    from ha.preflight import Finding, preflight
    from ha.startup import NotFit, check_database

    try:
        told = await check_database(settings)
        known, led = await _known(settings)
    except NotFit as unfit:
        return [Finding("database", False, str(unfit))]
    except StoreError as error:
        return [Finding("database", False, f"It does not answer: {error}")]
    if agent and led:
        raise ValueError(
            "A replica leads, and the fence agent would end its session too: stop both replicas, then use --agent."
        )
    drop = partial(_dropped, settings) if agent else None
    found = await preflight(given.spare_broker(settings), known, deadline=settings.request_timeout, drop=drop)
    return [Finding("database", True, " ".join(told) or "It is fit for this version and these settings."), *found]


async def _known(settings: Settings) -> tuple[Known, bool]:
    """What the log has of the broker, and whether somebody proved an epoch just now. Raises StoreError, NotFit.

    From the log, because the tables that people query may be behind it.
    """
    from engine.book import Book
    from ha.preflight import known_of
    from ha.startup import NotFit
    from ha.tail import Tail

    assert settings.database_dsn is not None
    tail = Tail(book := Book(), settings.database_dsn, f"{settings.replica_name}-preflight")
    try:
        await tail.connection.open()
        await tail.catch_up()
        [row] = await tail.connection.run("somebody_leads")
    finally:
        await tail.close()
    if tail.unfit is not None:
        raise NotFit(f"The ledger cannot be read: {tail.unfit}")
    return known_of(book), bool(row["led"])


async def _dropped(settings: Settings, address: str) -> None:
    from ha import from_settings as given

    await given.fence_agent(settings).drop_old_session(dialed=[address])
