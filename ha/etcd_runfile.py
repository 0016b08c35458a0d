"""RUN_DIR/lease.json: which lease this process may hold, written before the lease exists (R34).

Whoever supervises the process reads it after the process's death and revokes exactly this lease. It also names the
process, so that nobody revokes the lease of one that lives.
"""

from __future__ import annotations

import json
import os
import select
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ha.etcd_access import EtcdAccess
from ha.lease import MAX_LEASE_ID

NAME = "lease.json"


class BadLeaseFile(ValueError):
    """The lease file is there and cannot be used."""


@dataclass(frozen=True, slots=True)
class LeaseFile:
    """The content. `started` is the process's start time in clock ticks since boot, as /proc has it; the password of
    etcd is not in it."""

    lease_id: int
    cluster: str
    key: str
    endpoints: tuple[str, ...]
    ca: str | None
    cert: str | None
    tls_key: str | None
    user: str | None
    pid: int
    started: int

    @classmethod
    def of_this_process(cls, lease_id: int, cluster: str, key: str, access: EtcdAccess) -> LeaseFile:
        """The content for a lease that this process is about to ask for."""
        pid = os.getpid()
        return cls(
            lease_id=lease_id,
            cluster=cluster,
            key=key,
            endpoints=access.endpoints,
            ca=_text(access.ca),
            cert=_text(access.cert),
            tls_key=_text(access.key),
            user=access.user,
            pid=pid,
            started=_start_time(pid) or 0,
        )

    def access(self, password: str | None) -> EtcdAccess:
        """How to reach the etcd that the file names.

        Raises BadLeaseFile when the file names a user and there is no password, or what it names cannot work.
        """
        if self.user is not None and password is None:
            raise BadLeaseFile(f"etcd's user {self.user!r} needs a password; set ETCD_PASSWORD")
        ca, cert, key = (None if path is None else Path(path) for path in (self.ca, self.cert, self.tls_key))
        try:
            return EtcdAccess(self.endpoints, ca, cert, key, self.user, password if self.user is not None else None)
        except ValueError as error:
            raise BadLeaseFile(str(error)) from error

    def writer_ended(self, within: float) -> bool:
        """Whether the process that wrote the file has ended, all its threads included; waits up to `within` seconds."""
        if self.started == 0 or _start_time(self.pid) != self.started:
            return True  # no such process, or the number belongs to another one by now
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(within * 1000))
        finally:
            os.close(handle)


def write(run_dir: Path, content: LeaseFile) -> None:
    """Write the file whole or not at all, and to the disk. Raises OSError."""
    target = run_dir / NAME
    draft = run_dir / f".{NAME}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(content), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, target)
    directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(run_dir: Path) -> LeaseFile | None:
    """Read the file; None when there is none. Raises BadLeaseFile, or OSError when it cannot be read."""
    try:
        text = (run_dir / NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields: Any = json.loads(text)
        content = LeaseFile(**{**fields, "endpoints": tuple(fields["endpoints"])})
    except (ValueError, TypeError, KeyError) as error:
        raise BadLeaseFile(f"{run_dir / NAME} is not a lease file: {error!r}") from error
    numbers = (content.lease_id, content.pid, content.started)
    if any(type(number) is not int for number in numbers) or not 0 < content.lease_id <= MAX_LEASE_ID:
        raise BadLeaseFile(f"{run_dir / NAME} names no lease and no process: {numbers!r}")
    texts = (content.cluster, content.key, *content.endpoints)
    optional = (content.ca, content.cert, content.tls_key, content.user)
    if not all(isinstance(one, str) for one in (*texts, *(one for one in optional if one is not None))):
        raise BadLeaseFile(f"{run_dir / NAME} does not say where etcd is")
    return content


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _start_time(pid: int) -> int | None:
    """The process's start in clock ticks since boot, None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name before it may hold blanks and brackets
