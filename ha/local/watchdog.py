"""The launcher in systemd's place: a replica that was ready and then gives no sign of life in time is killed.

As with `Type=notify`, `WatchdogSec=`, `WatchdogSignal=SIGKILL` and `TimeoutStopSec=`. Only what the replica's own process says
counts, and a launcher that stood still itself does not take that for the replica's silence.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ha.local.process import Child

DEFAULT = 1.5  # the default of the setting WATCHDOG, which a test compares
STOPS_WITHIN = 5.0  # seconds from STOPPING=1 to the end; from then on no sign is waited for
_LONGEST_PATH = 107  # bytes that an address of this kind may have
_LATE = 0.5  # seconds that the launcher's own timer may be late
_CREDENTIALS = struct.Struct("3i")


class Watchdog:
    """Listens to one replica. `on_silent(child, why)` is called once when its signs of life stop, or it does not end."""

    def __init__(self, run_dir: Path, on_silent: Callable[[Child, str], None]) -> None:
        self._run_dir, self._on_silent = run_dir, on_silent
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._interval = DEFAULT
        self._child: Child | None = None
        self._stopping = False
        self._heard_at = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, env: Mapping[str, str]) -> dict[str, str]:
        """A new address for the next start; what must stand in that child's environment. Raises OSError."""
        self.close()
        self._interval = _seconds(env.get("WATCHDOG", ""))
        self._run_dir.mkdir(parents=True, exist_ok=True)
        path = self._run_dir / "notify"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            if len(os.fsencode(path)) <= _LONGEST_PATH:
                path.unlink(missing_ok=True)
                listening.bind(str(path))
                path.chmod(0o600)
                address, self._path = str(path), path
            else:
                address = f"@adapter-{secrets.token_hex(8)}"
                listening.bind("\0" + address[1:])
        except BaseException:
            listening.close()
            raise
        self._socket = listening
        return {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(self._interval * 1e6))}

    def attach(self, child: Child) -> None:
        """Listen to this child, which was started with the address."""
        assert self._socket is not None
        self._child = child
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """The child has ended: nobody is listened to."""
        self._child, self._stopping = None, False
        self._disarm()
        if self._socket is not None:
            with suppress(RuntimeError):  # no loop runs here: then nothing was attached either
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def _read(self) -> None:
        while self._socket is not None:
            try:
                data, extra, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            if self._child is not None and _sender(extra) == self._child.pid:
                self._take(data.splitlines())

    def _take(self, lines: list[bytes]) -> None:
        if self._stopping:
            return
        self._stopping = b"STOPPING=1" in lines
        armed = self._timer is not None
        if self._stopping or b"READY=1" in lines or (armed and b"WATCHDOG=1" in lines):
            self._heard_at = asyncio.get_running_loop().time()
            if not armed:
                self._arm()

    def _arm(self) -> None:
        self._due = self._heard_at + (STOPS_WITHIN if self._stopping else self._interval)
        self._timer = asyncio.get_running_loop().call_at(self._due, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The time is up, counted from the sign that was the last one when the timer was set."""
        self._read()  # what came while this loop was busy
        now, child = asyncio.get_running_loop().time(), self._child
        if now - self._due > _LATE:
            self._heard_at = now  # it is this launcher that stood still, or the whole machine
        if child is None:
            return
        self._arm()  # for the sign that came last
        if now < self._due:
            return
        self._disarm()
        gave = "did not end" if self._stopping else "no sign of life"
        self._on_silent(child, f"{gave} for {now - self._heard_at:.2f} s")


def _seconds(setting: str) -> float:
    """The setting WATCHDOG; its default for what the replica itself will refuse."""
    try:
        seconds = float(setting)
    except ValueError:
        return DEFAULT
    return seconds if 0 < seconds <= 86400 else DEFAULT


def _sender(extra: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, _, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
            return int(pid)
    return None
