"""RUN_DIR of a replica without a pair: the lock that keeps a second one away, and the few values that etcd would keep.

The lock is the kernel's (flock): it goes with the process, however that ends. The values are one small JSON file, replaced
whole and synced, so that they are there after a loss of power.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOCK = "single.lock"
VALUES = "single.json"


@dataclass(slots=True)
class Values:
    """What is kept. `place` takes the part of etcd's cluster id (R32): random, and as long-lived as the file."""

    place: str = field(default_factory=lambda: f"single-{secrets.token_hex(8)}")
    revision: int = 0
    values: dict[str, tuple[str, int]] = field(default_factory=dict)  # value, and the revision at which it was written

    def with_value(self, key: str, value: str, revision: int) -> Values:
        """A copy in which `key` is written at `revision`, the newest."""
        return Values(self.place, revision, {**self.values, key: (value, revision)})


class RunDir:
    """The directory of one process. `take` first; `keep` may be called from any thread, one call at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    def take(self) -> Values:
        """Lock the directory and read what is kept. Raises RuntimeError with a sentence when it cannot be had."""
        try:
            descriptor = os.open(self._path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._hold(descriptor)
            return self._read()
        except OSError as error:
            raise RuntimeError(f"RUN_DIR={self._path} cannot be used: {error.strerror}.") from error

    def keep(self, values: Values) -> None:
        """Write the values whole or not at all, to the disk. Raises OSError."""
        text = json.dumps({"place": values.place, "revision": values.revision, "values": values.values})
        draft = self._path / f".{VALUES}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path / VALUES)

    def give_up(self) -> None:
        """Unlock the directory; once is enough."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _hold(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RuntimeError(
                f"RUN_DIR={self._path} is in use by another `adapter run --single` (pid {owner}): one host has one; end that "
                "one first, or start a pair."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _read(self) -> Values:
        file = self._path / VALUES
        try:
            found: Any = json.loads(file.read_bytes())
            values = {str(key): (str(value), int(revision)) for key, (value, revision) in found["values"].items()}
            return Values(str(found["place"]), int(found["revision"]), values)
        except FileNotFoundError:
            made = Values()
            self.keep(made)
            return made
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.give_up()
            raise RuntimeError(
                f"{file} is damaged ({error!r}): it remembers how far the ledger was. Compare the database with the broker, "
                "then move the file away."
            ) from error
