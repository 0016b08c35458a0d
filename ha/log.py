"""The log: one line for each event, with the time in UTC, the replica, its role, the epoch, and whose order it is about.

    2026-01-31T09:30:00.123456Z INFO a leader/LEADING e5 c=9f2c o=B6DR… engine.submit: sent

The node says who it is with `bind_state`. A request's ids are bound with loguru's own `logger.contextualize(
correlation_id=…, order_id=…)`, which rooms that do not know this one can use too. Control characters in anything that is
logged are escaped, passwords and tokens masked; the lines of a traceback follow their event behind a bar. With LOG_JSON
each event is one JSON object on one line, traceback included.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, time
from pathlib import Path
from time import time as now
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

from engine.clock import iso
from ha.config import ConfigError, Settings
from ha.redact import escape_controls, is_secret_name, redact

if TYPE_CHECKING:
    from loguru import Record

ERRORS_ROTATION = "100 MB"
ERRORS_RETENTION_DAYS = 365
_SHOWN_APART = frozenset({"correlation_id", "order_id", "_line"})


@dataclass
class _Who:
    replica: str = "-"
    role: str = "-"
    state: str = ""
    epoch: int | None = None


_who = _Who()


def bind_state(role: str, epoch: int | None, state: str = "") -> None:
    """From now on every line carries this role, epoch (None: none yet) and state."""
    _who.role, _who.epoch, _who.state = role, epoch, state


def setup(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all events, those of the standard library's logging too, to `stream` (stderr) and to LOG_FILE.

    Replaces what was set up before. Raises ConfigError if LOG_FILE cannot be written.
    """
    _who.replica = settings.replica_name or "-"
    logger.remove()
    form = _json_line if settings.log_json else _text_line
    common: dict[str, Any] = {"format": form, "colorize": False, "backtrace": False, "diagnose": False}
    on_stderr = settings.log_stderr if settings.log_file else None
    logger.add(stream or sys.stderr, level=on_stderr or settings.log_level, **common)
    if settings.log_file:
        _add_files(settings, settings.log_file, common)
    _route_standard_logging(settings.log_level)


def errors_file(log_file: Path) -> Path:
    """Where errors go beside `log_file`. Not NAME.errors.log: the retention of NAME.log would take it for its own."""
    return log_file.with_name(f"{log_file.stem}-errors{log_file.suffix}")


def _add_files(settings: Settings, log_file: Path, common: dict[str, Any]) -> None:
    for half in log_file.parent.glob(f"{log_file.stem}*.gz.part"):
        half.unlink(missing_ok=True)  # an earlier process ended while it compressed; the whole file is still there
    common = common | {"compression": _compress, "opener": _open_private, "encoding": "utf-8"}
    try:
        logger.add(
            log_file,
            level=settings.log_level,
            rotation=_rotation(settings.log_rotation),
            retention=_keep(settings.log_retention_days),
            **common,
        )
        logger.add(
            errors_file(log_file),
            level="ERROR",
            rotation=ERRORS_ROTATION,
            retention=_keep(ERRORS_RETENTION_DAYS),
            **common,
        )
    except OSError as error:
        sentence = (
            f"LOG_FILE={log_file} cannot be written: {error.strerror}; use a directory that this user may write to."
        )
        raise ConfigError([sentence]) from error


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def _rotation(setting: str) -> str | time:
    if setting.lower() == "midnight":
        return time(0, 0, tzinfo=UTC)
    if ":" in setting:
        hour, _, minute = setting.partition(":")
        return time(int(hour), int(minute), tzinfo=UTC)
    return setting


def _keep(days: int) -> Callable[[list[str]], None]:
    """Deletes closed files after so many days. Loguru's own would lose an event when a file is renamed meanwhile."""

    def delete_old(paths: list[str]) -> None:
        for path in map(Path, paths):
            with suppress(FileNotFoundError):  # compressed just now, and under its new name next time
                if path.stat().st_mtime < now() - days * 86400:
                    path.unlink()

    return delete_old


def _compress(path: str) -> None:
    """Compress a closed file in a thread: a day's log takes longer than a leader's loop may stand still (R12)."""
    threading.Thread(target=_gzip, args=(Path(path),), name="log-gzip", daemon=True).start()


def _gzip(path: Path) -> None:
    packed, half = path.with_name(f"{path.name}.gz"), path.with_name(f"{path.name}.gz.part")
    try:
        with path.open("rb") as source, gzip.open(half, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        stat = path.stat()
        half.chmod(stat.st_mode & 0o777)
        os.utime(half, (stat.st_atime, stat.st_mtime))  # retention counts from the last event, not from the packing
        half.rename(packed)
        path.unlink()
    except OSError as error:
        half.unlink(missing_ok=True)
        logger.warning("{} stays uncompressed: {}", path, error)


def _text_line(record: Record) -> str:
    return _cached(record, _as_text)


def _json_line(record: Record) -> str:
    return _cached(record, _as_json)


def _cached(record: Record, render: Any) -> str:
    """Loguru asks once for each sink; the line is the same for all of them."""
    if "_line" not in record["extra"]:
        record["extra"]["_line"] = render(record)
    return "{extra[_line]}\n"


def _as_text(record: Record) -> str:
    who = f"{_who.role}/{_who.state}" if _who.state else _who.role
    parts = [str(iso(record["time"])), record["level"].name, _who.replica, who]
    parts.append("e-" if _who.epoch is None else f"e{_who.epoch}")
    extra = record["extra"]
    for sign, name in (("c", "correlation_id"), ("o", "order_id")):
        if extra.get(name):
            parts.append(f"{sign}={escape_controls(str(extra[name]))}")
    head = " ".join(parts)
    line = f"{head} {record['name']}: {escape_controls(redact(record['message']))}"
    return "\n  | ".join([line, *(escape_controls(part) for part in _trace(record).splitlines())])


def _as_json(record: Record) -> str:
    extra = record["extra"]
    event: dict[str, Any] = {
        "at": iso(record["time"]),
        "level": record["level"].name,
        "replica": _who.replica,
        "role": _who.role,
        "state": _who.state or None,
        "epoch": _who.epoch,
        "correlation_id": extra.get("correlation_id"),
        "order_id": extra.get("order_id"),
        "logger": record["name"],
        "message": redact(record["message"]),
    }
    if rest := {key: _extra(key, value) for key, value in extra.items() if key not in _SHOWN_APART}:
        event["extra"] = rest
    if trace := _trace(record):
        event["exception"] = trace
    return json.dumps(event, default=str)


def _extra(key: str, value: Any) -> str:
    return "***" if is_secret_name(key) else redact(str(value))


def _trace(record: Record) -> str:
    raised = record["exception"]
    if raised is None or raised.value is None:
        return ""
    return redact("".join(traceback.format_exception(raised.value)).rstrip())


_SAID_BY_US = {"ib_async.client": ("API connection failed", "Make sure API port")}
"""What a library calls an error and we tell ourselves, in one line and with what we do about it. By logger: how it begins."""


class _ToLoguru(logging.Handler):
    """Passes the standard library's records on under their own logger's name."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno

        if record.getMessage().startswith(_SAID_BY_US.get(record.name, "\0")):
            level = "DEBUG"

        def under_its_name(event: Record) -> None:
            event["name"] = record.name

        logger.patch(under_its_name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def _route_standard_logging(level: str) -> None:
    """Libraries speak from WARNING on, for who debugs from INFO on, all they have to say with TRACE: ib_async alone would drown
    our own lines."""
    least = {"TRACE": logger.level(level).no, "DEBUG": logging.INFO}.get(level, logging.WARNING)
    logging.basicConfig(handlers=[_ToLoguru()], level=max(least, logger.level(level).no), force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.captureWarnings(True)
