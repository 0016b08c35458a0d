"""Append-only files of JSON lines: the journal, and spools for what has left memory.

Lines are gathered and written by `flush`, with one write; the caller flushes before it tells anybody what they say. A
write that a kill cut short leaves half a last line, which the next start cuts off: nobody was told of it.
"""

import fcntl
import json
import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ibsim.records import Record, moment

_STRIDE = 64
"""Every so many lines the file position is remembered."""

_MOST_PENDING = 1000
"""So many lines are written without waiting for a flush."""

_BEGINNING = b'{"seq":1,"at":"'
"""How every journal begins."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encoded(record: Record) -> bytes:
    """The line of a record."""
    return _encode(record).encode() + b"\n"


def _lock(file: BinaryIO) -> None:
    """Takes the file for this process alone, until it is closed. Raises BlockingIOError, with the file closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise


class Spool:
    """JSON lines on disk, numbered from 1. Without a path, an unnamed file that ends with the process."""

    def __init__(self, path: Path | None = None, fsync: bool = False) -> None:
        """Opens it, or makes it. Raises BlockingIOError if another process has it open, OSError if there is no way."""
        if path is None:
            self._file = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 -- open as long as it is used
        else:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 -- open as long as the gateway runs
            _lock(self._file)
        self._fsync = fsync
        self._marks = array("Q", [0])
        self._pending: list[bytes] = []
        self._size = 0
        self.count = 0
        self._recover()

    def _recover(self) -> None:
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._counted(len(line))
        self._file.truncate(self._size)

    def _counted(self, length: int) -> None:
        self.count += 1
        self._size += length
        if self.count % _STRIDE == 0:
            self._marks.append(self._size)

    def append(self, record: Record) -> None:
        """Adds one line, written at the next flush."""
        self.append_line(encoded(record))

    def append_line(self, line: bytes) -> None:
        """The same, of a record that is encoded already."""
        self._pending.append(line)
        self._counted(len(line))
        if len(self._pending) >= _MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Writes what was appended. Raises OSError if the disk refuses; what is left is written at the next call."""
        if not self._pending:
            return
        data = memoryview(b"".join(self._pending))
        try:
            while data:
                data = data[self._file.write(data) :]
        finally:
            self._pending = [bytes(data)] if data else []
        if self._fsync:
            os.fsync(self._file.fileno())

    def lines(self, after: int = 0) -> Iterator[bytes]:
        """The lines numbered above `after`, without their newline, as they were when called for."""
        self.flush()
        after = max(after, 0)
        if after >= self.count:
            return
        mark, skip = divmod(after, _STRIDE)
        at, left = self._marks[mark], self.count - after
        rest = b""
        while left > 0:
            chunk = os.pread(self._file.fileno(), 1 << 20, at)
            if not chunk:
                raise OSError("the file is shorter than what was written to it")
            at += len(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if skip:
                    skip -= 1
                elif left > 0:
                    left -= 1
                    yield line

    def records(self, after: int = 0) -> Iterator[Record]:
        """The same, decoded."""
        for line in self.lines(after):
            yield json.loads(line)

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self.flush()
        self._file.close()


class JournalError(Exception):
    """The file cannot serve as a journal; the message says why. It was left as it is."""


def _opened(path: Path, fsync: bool) -> Spool:
    """The spool of a journal on disk. Raises JournalError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            file.seek(0)
            head = file.read(len(_BEGINNING))
        if not _BEGINNING.startswith(head):
            raise JournalError(f"{path} is not empty and no journal of a stand-in gateway")
        spool = Spool(path, fsync)
    except BlockingIOError:
        raise JournalError(f"the journal {path} is in use by another stand-in gateway") from None
    except OSError as error:
        raise JournalError(f"cannot keep the journal {path}: {error.strerror}") from None
    return spool


class Journal:
    """What reached the broker, in order; `seq` is the line's number. One process at a time has it."""

    def __init__(self, path: Path | None, fsync: bool) -> None:
        """Opens it, or makes it. Raises JournalError."""
        self._path = path
        self._spool = Spool() if path is None else _opened(path, fsync)

    @property
    def seq(self) -> int:
        """The number of the last entry."""
        return self._spool.count

    def add(self, at: float, kind: str, fields: Mapping[str, Any]) -> bytes:
        """Appends one entry; fields that are None are left out. Returns its line."""
        entry = {"seq": self._spool.count + 1, "at": moment(at), "kind": kind}
        for key, value in fields.items():
            if value is not None:
                entry[key] = value
        line = encoded(entry)
        self._spool.append_line(line)
        return line

    def flush(self) -> None:
        """Makes the entries readable by anyone and safe against a kill of this process."""
        self._spool.flush()

    def lines(self, after: int = 0) -> Iterator[bytes]:
        """The entries above `after` as JSON."""
        return self._spool.lines(after)

    def entries(self, after: int = 0) -> Iterator[Record]:
        """The entries above `after`. Raises JournalError at a line that is none."""
        number = after
        for line in self._spool.lines(after):
            number += 1
            try:
                entry = json.loads(line)
                known = entry["seq"] == number and entry["kind"] and entry["at"]
            except (ValueError, TypeError, KeyError):
                known = False
            if not known:
                raise JournalError(f"line {number} of {self._path} is no journal entry with this number")
            yield entry

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self._spool.close()
