"""`adapter archive`: closed parts of old months leave the database for files, oldest first; a checkpoint stands beyond them.

A part is dropped only after its file was read back from the disk, its manifest was written, and a checkpoint beyond it was
committed, whose digest the leader's proof confirmed. Keys stay (R37), and so does what people query. Whatever ends the command,
what it did is whole, and the next one goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from engine import checkpoint
from engine.book import Book
from engine.clock import iso
from engine.digest import DIGEST_VERSION, written
from engine.events import event_of
from engine.schema import newest_version
from ha import archive_files as files
from ha.ledger_log import BATCH, LedgerProblem, Log, Part, Progress

LARGEST_PART = 100_000
"""Events after which the open part is closed before its month is over: it is read once meanwhile, and writers wait for that."""

KEPT_MONTHS = 3
"""Months before the present one that stay, unless `--before` says otherwise."""


@dataclass(slots=True)
class Report:
    """What was done, or with `--dry-run` what would be."""

    before: str
    closed: str | None = None
    archived: list[dict[str, Any]] = field(default_factory=list)
    checkpoint: dict[str, Any] | None = None
    dry_run: bool = False
    behind: list[dict[str, Any]] = field(default_factory=list)  # other forms whose latest checkpoint needs what goes

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "before": self.before, "dry_run": self.dry_run, "closed": self.closed, "archived": self.archived,
            "checkpoint": self.checkpoint, "behind": self.behind,
        }  # fmt: skip


def month_before(today: date, months: int = KEPT_MONTHS) -> str:
    """The month that `--before` means when it is left out: parts of older ones go."""
    count = today.year * 12 + today.month - 1 - months
    return f"{count // 12:04}-{count % 12 + 1:02}"


def due(parts: list[Part], before: str) -> list[Part]:
    """Closed parts of months before this one that are in the database still, oldest first."""
    return [part for part in parts if part.last_seq is not None and not part.archived and part.month < before]


async def archive(
    log: Log, directory: Path, cluster: str, before: str, *, dry_run: bool, say: Progress, forget_forms: bool = False
) -> Report:
    """Move out what is due. Raises LedgerProblem, BadArchive, StoreError, OSError.

    `forget_forms`: also where another version could not start any more for want of a checkpoint; those of its form go first.
    """
    report = Report(before, dry_run=dry_run)
    if dry_run:
        going = due(await log.parts(), before)
        report.archived, report.behind = [_planned(part) for part in going], await _behind(log, going)
        return report
    [floor] = await log.run("schema_floor")
    [closed] = await log.named("close_part", {"most": LARGEST_PART})
    report.closed = closed["closed"]
    going = due(await log.parts(), before)
    if going and floor["version_num"] < newest_version():
        raise LedgerProblem(
            "An older version may still run, and it cannot start without the log's first events: let both replicas run this "
            "version, then `adapter migrate --post`, then archive."
        )
    if not going:
        report.checkpoint = await log.keep_checkpoint(await _book_for_checkpoint(log))
        return report
    report.behind = await _behind(log, going)
    if report.behind and not forget_forms:
        raise LedgerProblem(_told(report.behind, going[-1]))
    book = await log.book_before(going[0].from_seq)
    for part in going:
        report.archived.append((await _write(log, book, directory, cluster, part, say)).as_json())
    say("writing a checkpoint")
    report.checkpoint = await log.keep_checkpoint(book)
    if await log.checkpoint_beyond(book.seq) is None:
        raise LedgerProblem(
            f"No checkpoint that this version can read stands at or beyond event {book.seq}, so nothing was dropped: run "
            "`adapter rebuild --checkpoint --archive DIR`, then archive."
        )
    await log.note(
        "archive", before=before, parts=[part.name for part in going], forgotten=[b["form"] for b in report.behind]
    )
    for form in report.behind:
        say(f"forgetting the checkpoints of form {form['form']}")
        await log.named("forget_form", {"form": form["form"], "digest_version": form["digest_version"]})
    for part, told in zip(going, report.archived, strict=True):
        say(f"dropping {part.name}")
        await log.named("drop_part", {"part": part.name, "sha256": told["sha256"], "digest": told["digest"]})
    return report


async def _behind(log: Log, going: list[Part]) -> list[dict[str, Any]]:
    """Other forms of checkpoints (R22) whose latest one is of use now, and would be of none without these parts."""
    if not going:
        return []
    mine = checkpoint.form(), DIGEST_VERSION
    return [
        {"form": row["form"], "digest_version": row["digest_version"], "seq": row["seq"]}
        for row in await log.run("checkpoint_forms")
        if (row["form"], row["digest_version"]) != mine and going[0].from_seq - 1 <= row["seq"] < (going[-1].last_seq or 0)
    ]  # fmt: skip


def _told(behind: list[dict[str, Any]], last: Part) -> str:
    forms = ", ".join(f"{b['form']} (digests {b['digest_version']}) stands at event {b['seq']}" for b in behind)
    return (
        f"The latest checkpoint of form {forms}, and the log up to event {last.last_seq} is to go: who reads that form "
        "could not start any more, so nothing was archived. Run that version's `adapter rebuild --checkpoint --archive DIR` first; "
        "or, where no replica of it will start again, archive with --forget-forms."
    )


async def _book_for_checkpoint(log: Log) -> Book:
    [proof] = await log.run("proof")
    return await log.book_before(proof["seq"] + 1)


def _planned(part: Part) -> dict[str, Any]:
    assert part.last_seq is not None
    return {
        "part": part.name, "month": part.month, "from_seq": part.from_seq, "last_seq": part.last_seq,
        "events": part.last_seq - part.from_seq + 1,
    }  # fmt: skip


async def _write(log: Log, book: Book, directory: Path, cluster: str, part: Part, say: Progress) -> files.Manifest:
    """One part as files, folded on the way; `book` stands at its end afterwards."""
    assert part.last_seq is not None
    files.refuse_anothers(directory, cluster, part.name, (part.from_seq, part.last_seq))
    with files.Writer(directory, part.name) as out:
        while rows := await log.run("log_rows", {"after": book.seq, "last": part.last_seq, "limit": BATCH}):
            for row in rows:
                out.add(row)
                book.apply(event_of(row))
            say(f"{part.name}: event {book.seq} of {part.last_seq}")
        if book.seq != part.last_seq:
            raise LedgerProblem(f"{part.name} ends at event {book.seq}, it should hold {part.last_seq}.")
        sha256, size = out.finish()
    manifest = files.Manifest(
        cluster, part.name, part.month, part.from_seq, part.last_seq, part.last_seq - part.from_seq + 1, written(book.digest),
        sha256, size, iso(datetime.now(UTC)) or "",
    )  # fmt: skip
    files.write_manifest(directory, manifest)
    return manifest
