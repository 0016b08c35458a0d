"""One part of the log as two files: PART.jsonl.gz, an event a line, and PART.json, which says what must be in it.

A file is written beside its name and renamed when it is whole and on the disk; the manifest comes last, so that a part is there
when its manifest is. Nothing here knows the database.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from engine.events import Event

_ELSEWHERE = (
    "Each cluster needs a directory of its own: name another one; if nobody needs this file, move it away first."
)


class BadArchive(Exception):
    """A file is not what its manifest says, or is not there. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one file holds. `sha256` is of the compressed file, `digest` the book's after its last event."""

    cluster: str
    part: str
    month: str
    from_seq: int
    last_seq: int
    events: int
    digest: str
    sha256: str
    bytes: int
    written_at: str

    def as_json(self) -> dict[str, Any]:
        """For the file and for `--json`."""
        return asdict(self)


class Writer:
    """Writes PART.jsonl.gz. Use as a context; what is not finished leaves no file."""

    def __init__(self, directory: Path, part: str) -> None:
        self._path = data_path(directory, part)
        self._fresh = self._path.with_name(self._path.name + ".new")
        self._text = hashlib.sha256()
        self.events = 0
        self._raw: IO[bytes] | None = None

    def __enter__(self) -> Writer:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._raw = self._fresh.open("wb")
        self._zip = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", mtime=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._raw is not None:
            self._raw.close()
        self._fresh.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """One event, as `log_rows` answers it."""
        line = json.dumps(row, default=_text, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        self._zip.write(line)
        self._text.update(line)
        self.events += 1

    def finish(self) -> tuple[str, int]:
        """Put it on the disk under its name and read it back: (sha256 of the file, its bytes). Raises BadArchive, OSError."""
        assert self._raw is not None
        self._zip.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        if self._path.exists() and not self._holds_this():
            raise BadArchive(f"{self._path} is there already and holds other events. {_ELSEWHERE}")
        self._fresh.rename(self._path)
        _sync(self._path.parent)
        if not self._holds_this():
            raise BadArchive(f"{self._path} reads back otherwise than it was written.")
        return _sha256(self._path), self._path.stat().st_size

    def _holds_this(self) -> bool:
        found, lines = hashlib.sha256(), 0
        for line in _lines(self._path):
            found.update(line)
            lines += 1
        return (found.digest(), lines) == (self._text.digest(), self.events)


def refuse_anothers(directory: Path, cluster: str, part: str, seqs: tuple[int, int]) -> None:
    """Raises BadArchive when the directory has this part of another cluster, or with other events than `seqs`, first and last.

    Those may be the only ones that are left: nothing here is ever written over by another log's.
    """
    if not manifest_path(directory, part).exists():
        return
    there = read_manifest(directory, part)
    if there.cluster != cluster or (there.from_seq, there.last_seq) != seqs:
        raise BadArchive(
            f"{manifest_path(directory, part)} is of events {there.from_seq} to {there.last_seq} of cluster {there.cluster!r}, "
            f"events {seqs[0]} to {seqs[1]} of {cluster!r} would go there. {_ELSEWHERE}"
        )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """The last word: from now on the part is there."""
    path = manifest_path(directory, manifest.part)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest.as_json(), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    _sync(directory)


def read_manifest(directory: Path, part: str, cluster: str | None = None) -> Manifest:
    """`cluster`: whose it must be. Raises BadArchive."""
    path = manifest_path(directory, part)
    try:
        found = Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadArchive(f"{path} is missing: name the directory that `adapter archive` wrote to.") from None
    except (ValueError, TypeError) as error:
        raise BadArchive(f"{path} is no manifest of an archived part: {error}") from error
    if cluster not in (None, found.cluster):
        raise BadArchive(f"{path} is of cluster {found.cluster!r}, this is {cluster!r}: name its own directory.")
    return found


def events(directory: Path, manifest: Manifest, sha256: str | None = None) -> Iterator[Event]:
    """The part's events. `sha256`: as the database remembers it. Raises BadArchive, before the first event for another file."""
    path = data_path(directory, manifest.part)
    if not path.exists():
        raise BadArchive(f"{path} is missing.")
    found = _sha256(path)
    for told, who in ((manifest.sha256, "its manifest"), (sha256 or found, "the database")):
        if found != told:
            raise BadArchive(f"{path} has the sha256 {found}; {who} says {told}.")
    expected = manifest.from_seq
    for line in _lines(path):
        event = _event(json.loads(line))
        if event.seq != expected:
            raise BadArchive(f"{path} has event {event.seq} where {expected} belongs.")
        expected += 1
        yield event
    if expected != manifest.last_seq + 1:
        raise BadArchive(f"{path} ends at event {expected - 1}, its manifest says {manifest.last_seq}.")


def data_path(directory: Path, part: str) -> Path:
    """Where the events of a part lie."""
    return directory / f"{part}.jsonl.gz"


def manifest_path(directory: Path, part: str) -> Path:
    """Where its manifest lies."""
    return directory / f"{part}.json"


def _event(row: dict[str, Any]) -> Event:
    at = datetime.fromisoformat(row["timestamp"])
    return Event(
        row["seq"], row["epoch"], row["event_type"], row["payload"], at, row["order_id"], row["user_id"],
        row["correlation_id"], row["event_id"],
    )  # fmt: skip


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile) as error:
        raise BadArchive(f"{path} is cut or damaged: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"an event holds a {type(value).__name__}")


def _sync(directory: Path) -> None:
    place = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
