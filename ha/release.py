"""Giving back the lease of a replica that has certainly ended, so that the other one need not wait for the ttl.

`adapter release` does it once (systemd's ExecStopPost). `python -m ha.release --serve` stays, imports and connection
ready, and does it within milliseconds for whoever writes run directories to its standard input.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.clock import boottime
from ha import etcd_runfile
from ha.etcd_access import EtcdAccess, parse_endpoints
from ha.etcd_calls import repeat
from ha.etcd_members import EtcdError, Verdict
from ha.lease_etcd import EtcdClient

if TYPE_CHECKING:
    from ha.config import Settings

WITHIN = 1.4  # seconds; later than that a lease of 2 s has all but run out by itself
CALL_LIMIT = 0.5
WAIT_FOR_END = 0.3
WARM_AGAIN = 0.5


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """`released`: revoked just now · `nothing`: there was no lease · `refused`: the process lives, or its file cannot
    be used · `unknown`: etcd did not say; the lease runs out within its ttl. `ms` is how long it took."""

    outcome: Literal["released", "nothing", "refused", "unknown"]
    run_dir: str
    lease_id: int | None
    reason: str
    ms: float


class Releaser:
    """Revokes leases by their run directories; keeps one connection per etcd."""

    def __init__(self, password: str | None = None) -> None:
        """`password` is that of etcd's user, for lease files that name one."""
        self._password = password
        self._clients: dict[EtcdAccess, EtcdClient] = {}

    def release(self, run_dir: Path, within: float = WITHIN) -> ReleaseResult:
        """Revoke exactly the lease that RUN_DIR/lease.json names (R34), once the process that wrote it has ended."""
        began = boottime()

        def result(outcome: Literal["released", "nothing", "refused", "unknown"], reason: str) -> ReleaseResult:
            lease_id = None if file is None else file.lease_id
            return ReleaseResult(outcome, str(run_dir), lease_id, reason, round((boottime() - began) * 1000, 3))

        file = None
        try:
            file = etcd_runfile.read(run_dir)
            if file is None:
                return result("nothing", "no lease was ever asked for here")
            if not file.writer_ended(WAIT_FOR_END):
                return result("refused", f"process {file.pid}, whose lease it is, still runs")
            client = self._client(file.access(self._password))
        except (ValueError, OSError) as error:  # BadLeaseFile among them
            return result("refused", str(error))
        try:
            self._revoke(client, file.lease_id, began + within)
        except EtcdError as error:
            if error.verdict is Verdict.NO_LEASE:
                return result("nothing", "etcd knows no such lease")
            return result("unknown", error.reason)
        return result("released", "revoked")

    def warm(self, access: EtcdAccess) -> bool:
        """Connect, so that the first release need not. False when etcd does not answer."""
        try:
            self._client(access).read("/adapter/", CALL_LIMIT)
        except EtcdError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, access: EtcdAccess) -> EtcdClient:
        if access not in self._clients:
            self._clients[access] = EtcdClient(access, longest_pause=0.1)
        return self._clients[access]

    @staticmethod
    def _revoke(client: EtcdClient, lease_id: int, deadline: float) -> None:
        """Attempt until it is answered or `deadline` passes. Raises the last EtcdError."""
        while True:
            try:
                return repeat(
                    client,
                    lambda limit: client.revoke(lease_id, limit),
                    limit=CALL_LIMIT,
                    deadline=deadline,
                    clock=boottime,
                )
            except EtcdError as error:
                if error.verdict is not Verdict.LEAVE or boottime() + client.pause() >= deadline:
                    raise
                time.sleep(client.pause())


def release(run_dir: Path, password: str | None = None, within: float = WITHIN) -> ReleaseResult:
    """Revoke the lease of the ended process whose run directory this is. Takes at most about `within` seconds."""
    releaser = Releaser(password)
    try:
        return releaser.release(run_dir, within)
    finally:
        releaser.close()


def serve(source: int, answer: Callable[[str], None], releaser: Releaser, access: EtcdAccess | None) -> None:
    """Answer each run directory that comes, one a line, on the descriptor `source` with one JSON line, in order, until
    its end. The first line that is answered is `{"ready": true}`, unasked. Keeps a connection to `access` ready."""
    answer('{"ready": true}')
    cold = access

    def idle() -> float | None:
        """Connect; seconds until it should be tried again, None when there is nothing left to do."""
        nonlocal cold
        if cold is not None and releaser.warm(cold):
            cold = None
        return None if cold is None else WARM_AGAIN

    for line in _lines(source, idle):
        answer(json.dumps(asdict(releaser.release(Path(line)))))


def _lines(source: int, idle: Callable[[], float | None]) -> Iterator[str]:
    buffer = b""
    timeout: float | None = 0.0
    while True:
        readable, _, _ = select.select([source], [], [], timeout)
        if not readable:
            timeout = idle()
            continue
        data = os.read(source, 65536)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from (os.fsdecode(line) for line in lines if line.strip())


def main(settings: Settings) -> int:
    """`adapter release`: the run directory of the settings; prints the result as JSON, 0 when no lease is left."""
    password = settings.etcd_password
    result = release(settings.run_dir, None if password is None else password.get_secret_value())
    print(json.dumps(asdict(result)))
    return 0 if result.outcome in ("released", "nothing") else 1


def _password(environment: Mapping[str, str]) -> str | None:
    if file := environment.get("ETCD_PASSWORD_FILE"):
        return Path(file).read_text().strip()
    return environment.get("ETCD_PASSWORD")


def _access(environment: Mapping[str, str], password: str | None) -> EtcdAccess | None:
    """The etcd to keep a connection to, None when the environment does not name one that can be used."""
    ca, cert, key = (
        Path(text).absolute() if (text := environment.get(f"ETCD_{n}")) else None for n in ("CA", "CERT", "KEY")
    )
    user = environment.get("ETCD_USER")
    try:
        return EtcdAccess(
            parse_endpoints(environment.get("ETCD_ENDPOINTS", "")), ca, cert, key, user, password if user else None
        )
    except ValueError as error:
        print(f"no connection is kept ready: {error}", file=sys.stderr)
        return None


def _serve() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for whoever started us; we end with them
    password = _password(os.environ)
    releaser = Releaser(password)
    try:
        serve(sys.stdin.fileno(), lambda line: print(line, flush=True), releaser, _access(os.environ, password))
    finally:
        releaser.close()
    return 0


if __name__ == "__main__":
    if sys.argv[1:] != ["--serve"]:
        print("usage: python -m ha.release --serve  (one run directory a line; or: adapter release)", file=sys.stderr)
        sys.exit(2)
    sys.exit(_serve())
