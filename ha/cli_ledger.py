"""The commands about the ledger's storage: their options. What they do is in ha.ledger_archive and ha.ledger_rebuild."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from ha.cli_look import Json, refuse, screen
from ha.redact import redact

if TYPE_CHECKING:
    from ha.config import Settings
    from ha.ledger_log import Log, Progress

app = typer.Typer()
T = TypeVar("T")

ARCHIVE = Path("archive")
Archive = Annotated[Path | None, typer.Option("--archive", help="Where `adapter archive` has put its files.")]


@app.command()
def archive(
    before: Annotated[
        str | None, typer.Option("--before", help="YYYY-MM: months before this one go. Else three months stay.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="The directory for the files.")] = ARCHIVE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    forget_forms: Annotated[
        bool,
        typer.Option(
            "--forget-forms", help="Also where a version with another form of checkpoint could not start any more."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Move old months of the log into files, and write a checkpoint of the book (MIGRATE_DATABASE_URL)."""
    from ha.ledger_archive import archive as run
    from ha.ledger_archive import month_before

    if before is not None and not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", before):
        refuse(ValueError(f"--before {before} is no month: write it as YYYY-MM."))
    month = before or month_before(datetime.now(UTC).date())
    settings = _settings()
    report = _do(
        settings, to,
        lambda log, say: run(log, to, settings.cluster_name, month, dry_run=dry_run, say=say, forget_forms=forget_forms),
    )  # fmt: skip
    shown = screen()
    if as_json:
        shown.json(report.as_json())
        return
    verb = "would go" if dry_run else "archived"
    for part in report.archived:
        shown.show(f"{verb}: {part['part']}, events {part['from_seq']} to {part['last_seq']}")
    if not report.archived:
        shown.show(f"no closed part of the log is older than {month}")
    for form in report.behind:
        said = "would be forgotten, and archiving is refused without --forget-forms" if dry_run else "forgotten"
        shown.show(f"checkpoints of form {form['form']}, the latest at event {form['seq']}: {said}")
    if report.checkpoint is not None:
        shown.show(f"checkpoint at event {report.checkpoint['seq']}, {report.checkpoint['bytes']} bytes")


@app.command()
def rebuild(
    verify: Annotated[bool, typer.Option("--verify", help="Write nothing, compare everything.")] = False,
    checkpoint: Annotated[bool, typer.Option("--checkpoint", help="Only write a checkpoint of this version.")] = False,
    directory: Archive = None,
    as_json: Json = False,
) -> None:
    """Replay the log: write the tables that people query anew, or compare (--verify). 1 when something differs."""
    from ha import ledger_rebuild

    if verify and checkpoint:
        refuse(ValueError("--verify and --checkpoint are two things: name one."))
    settings, shown = _settings(), screen()
    if checkpoint:
        kept = _do(settings, directory, ledger_rebuild.write_checkpoint)
        if as_json:
            shown.json({"checkpoint": kept})
        else:
            shown.show(f"checkpoint at event {kept['seq']}" if kept else "no event is proven yet")
        return
    report = _do(settings, directory, ledger_rebuild.verify if verify else ledger_rebuild.rewrite)
    if as_json:
        shown.json(report.as_json())
    elif verify:
        shown.show(f"replayed {report.seq} events, digest {report.digest}; compared: {', '.join(report.compared)}")
        shown.show(*(report.differences or ["equal"]))
    else:
        rows = ", ".join(f"{count} {name}" for name, count in report.rows.items())
        shown.show(f"the tables stand at event {report.seq}: {rows}")
    raise typer.Exit(1 if report.differences else 0)


def _settings() -> Settings:
    from ha.cli import settings_for

    return settings_for("migrate")


def _do(settings: Settings, directory: Path | None, work: Callable[[Log, Progress], Awaitable[T]]) -> T:
    """Run it on the owner's connection; a sentence and exit code 1 where it cannot be done."""
    import asyncio

    from engine.errors import IllegalTransition
    from engine.store import Connection, StoreError
    from ha.archive_files import BadArchive
    from ha.ledger_log import LedgerProblem, Log

    assert settings.migrate_dsn is not None
    url = settings.migrate_dsn

    async def run(say: Progress) -> T:
        connection = Connection(url, "adapter-ledger")
        try:
            await connection.open()
            return await work(Log(connection, directory, say), say)
        finally:
            await connection.close()

    try:
        with screen().errors.status("reading the log") as status:
            return asyncio.run(run(status.update))
    except (LedgerProblem, BadArchive, StoreError, OSError) as error:
        _fail(str(error))
    except (IllegalTransition, ValueError, KeyError) as error:
        _fail(f"The log cannot be folded: {error}")


def _fail(sentence: str) -> NoReturn:
    typer.echo(redact(sentence), err=True)
    raise typer.Exit(1)
