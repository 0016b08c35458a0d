"""The log's lines: who, when, whose order; nothing secret, nothing forged, nothing that blocks for long."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import os
import re
import socket
import stat
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from engine.broker import Unreachable
from engine.broker_ib import IbBroker
from ha import log
from ha.config import ConfigError, load_settings
from ha.redact import escape_controls, one_line, redact

HEAD = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    access = logging.getLogger("aiohttp.access")
    access_level = access.level
    yield
    logger.remove()
    logging.captureWarnings(False)
    root.handlers[:], root.level = before
    access.setLevel(access_level)
    log.bind_state("-", None)


def lines_of(*events: Any, **env: str) -> list[str]:
    """The lines that come out when each of `events` is called."""
    stream = io.StringIO()
    log.setup(load_settings({"REPLICA_NAME": "a", **env}, need="cli"), stream)
    for event in events:
        event()
    return stream.getvalue().splitlines()


def fail(error: Exception) -> None:
    raise error


def dial_nobody() -> None:
    """By the adapter's own door, at a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        broker = IbBroker("127.0.0.1", taken.getsockname()[1], 17, lambda _: None)
        assert isinstance(asyncio.run(broker.connect(1.0)), Unreachable)


def test_what_the_library_says_of_a_dial_that_failed_is_no_error_of_ours_and_is_there_for_who_debugs() -> None:
    assert lines_of(dial_nobody) == [], "the takeover tells it, in one line"
    told = [line for line in lines_of(dial_nobody, LOG_LEVEL="DEBUG") if "ib_async.client" in line]
    assert [line.split()[1] for line in told if "API" in line.split(": ", 1)[1][:20]] == ["DEBUG", "DEBUG"]
    assert any("ConnectionRefusedError" in line for line in told)
    (other,) = lines_of(lambda: logging.getLogger("ib_async.client").error("Peer closed connection."))
    assert " ERROR " in other, "what nobody else tells stays what it is"


def test_a_line_names_time_level_replica_role_state_and_epoch() -> None:
    log.bind_state("leader", 5, "LEADING")
    (line,) = lines_of(lambda: logger.info("sent {}", 3))
    assert re.fullmatch(rf"{HEAD} INFO a leader/LEADING e5 [\w.]*test_log: sent 3", line)


def test_the_time_is_now_in_utc() -> None:
    before = datetime.now(UTC)
    (line,) = lines_of(lambda: logger.info("x"))
    assert before <= datetime.fromisoformat(line.split(" ")[0]) <= datetime.now(UTC)


def test_the_state_of_the_moment_stands_in_each_line() -> None:
    def changes() -> None:
        log.bind_state("standby", None, "STANDBY")
        logger.info("one")
        log.bind_state("leader", 6)
        logger.info("two")

    first, second = lines_of(changes)
    assert " a standby/STANDBY e- " in first
    assert " a leader e6 " in second


def test_a_requests_ids_stand_in_its_lines_only() -> None:
    def request() -> None:
        with logger.contextualize(correlation_id="c-1", order_id="ABCDEFGH2345ABCD"):
            logger.info("inside")
            logging.getLogger("ib_async").warning("inside too")
        logger.info("outside")

    inside, too, outside = lines_of(request)
    assert " c=c-1 o=ABCDEFGH2345ABCD " in inside
    assert " c=c-1 o=ABCDEFGH2345ABCD " in too
    assert "c=" not in outside


def test_text_from_outside_cannot_forge_a_line() -> None:
    def forged() -> None:
        with logger.contextualize(correlation_id="x\n2026-01-01 INFO forged"):
            logger.info("a\r\nb\x1b[31m\u2028c")

    (line,) = lines_of(forged)
    assert "a\\r\\nb\\x1b[31m\\x2028c" in line
    assert "c=x\\n2026" in line


def test_braces_and_markup_in_text_from_outside_are_only_text() -> None:
    def odd() -> None:
        logger.info("{}", "{0} {extra} <red>x</red>")
        logging.getLogger("x").warning("{0} %s", "{y}")

    assert [line.split(": ", 1)[1] for line in lines_of(odd)] == ["{0} {extra} <red>x</red>", "{0} {y}"]


def test_a_traceback_follows_its_event_behind_a_bar_and_without_values() -> None:
    def fails() -> None:
        password = "hunter2"
        try:
            fail(ValueError(f"bad\nthing postgresql://u:{password}@h/d"))
        except ValueError:
            logger.exception("it failed")

    first, *rest = lines_of(fails)
    assert first.endswith("it failed")
    assert all(line.startswith("  | ") for line in rest)
    assert any("ValueError: bad" in line for line in rest)
    assert "hunter2" not in "".join(rest)


def test_the_standard_librarys_records_come_in_under_their_own_name() -> None:
    def speak() -> None:
        logging.getLogger("alembic.runtime").info("step %d", 1)
        logging.getLogger("ib_async.client").debug("noise")
        logging.getLogger("aiohttp.access").info("GET /")
        warnings.warn("careful", stacklevel=1)
        logging.getLogger("odd").log(35, "own level")

    first, second, third = lines_of(speak, LOG_LEVEL="DEBUG")
    assert " INFO a - e- alembic.runtime: step 1" in first
    assert "py.warnings: " in second
    assert "careful" in second
    assert "odd: own level" in third


def test_a_standard_library_exception_keeps_its_traceback() -> None:
    def fails() -> None:
        try:
            fail(KeyError("gone"))
        except KeyError:
            logging.getLogger("aiohttp.server").exception("request failed")

    assert "  | KeyError: 'gone'" in lines_of(fails)


def test_only_trace_lets_libraries_speak_below_info() -> None:
    def speak() -> None:
        logging.getLogger("ib_async").debug("noise")

    assert lines_of(speak, LOG_LEVEL="DEBUG") == []
    assert len(lines_of(speak, LOG_LEVEL="TRACE")) == 1


@pytest.mark.parametrize(("level", "lines"), [("TRACE", 2), ("DEBUG", 2), ("INFO", 1), ("WARNING", 1), ("ERROR", 0)])
def test_libraries_speak_from_warning_on_and_below_only_for_who_debugs(level: str, lines: int) -> None:
    def speak() -> None:
        logging.getLogger("ib_async.client").info("Connecting to 127.0.0.1:4002 with clientId 17...")
        logging.getLogger("alembic.runtime.plugins").warning("odd")

    assert len(lines_of(speak, LOG_LEVEL=level)) == lines


def test_beside_a_file_stderr_may_have_less(tmp_path: Path) -> None:
    def speak() -> None:
        logger.info("less")
        logger.warning("more")

    file = tmp_path / "a.log"
    assert [line.split(": ")[-1] for line in lines_of(speak, LOG_FILE=str(file), LOG_STDERR="warning")] == ["more"]
    assert len(file.read_text().splitlines()) == 2
    assert len(lines_of(speak, LOG_STDERR="warning")) == 2, "without a file everything is on stderr"


def test_events_below_the_level_are_left_out() -> None:
    def speak() -> None:
        logger.info("less")
        logger.warning("more")

    assert len(lines_of(speak, LOG_LEVEL="warning")) == 1


def test_json_is_one_object_a_line_with_everything_in_it() -> None:
    def speak() -> None:
        log.bind_state("leader", 5, "LEADING")
        with logger.contextualize(correlation_id="c\n1", order_id="O1"):
            logger.bind(token="t").info("a\nb")
        try:
            fail(ValueError("x"))
        except ValueError:
            logger.exception("bad")

    first, second = (json.loads(line) for line in lines_of(speak, LOG_JSON="true"))
    assert re.fullmatch(HEAD, first.pop("at"))
    assert first.pop("logger").endswith("test_log")
    assert first == {
        "level": "INFO",
        "replica": "a",
        "role": "leader",
        "state": "LEADING",
        "epoch": 5,
        "correlation_id": "c\n1",
        "order_id": "O1",
        "message": "a\nb",
        "extra": {"token": "***"},
    }
    assert "ValueError: x" in second["exception"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_errors_go_to_their_own_file_beside_the_log(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "adapter.log"

    def speak() -> None:
        logger.info("fine")
        logger.error("bad")

    lines_of(speak, LOG_FILE=str(path))
    assert len(path.read_text().splitlines()) == 2
    errors = path.with_name("adapter-errors.log")
    assert errors == log.errors_file(path)
    assert [line.split(": ")[-1] for line in errors.read_text().splitlines()] == ["bad"]


def test_log_files_are_not_readable_by_others(tmp_path: Path) -> None:
    lines_of(lambda: logger.error("x"), LOG_FILE=str(tmp_path / "adapter.log"))
    assert all(not path.stat().st_mode & stat.S_IROTH for path in tmp_path.iterdir())


def test_a_full_file_is_closed_and_compressed_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "adapter.log"

    def speak() -> None:
        for number in range(60):
            logger.info("{:03} {}", number, "x" * 100)

    lines_of(speak, LOG_FILE=str(path), LOG_ROTATION="2 KB")
    for thread in threading.enumerate():
        if thread.name == "log-gzip":
            thread.join(10)
    packed = sorted(tmp_path.glob("adapter.*.log.gz"))
    assert len(packed) >= 2
    text = "".join(gzip.decompress(one.read_bytes()).decode() for one in packed) + path.read_text()
    assert sorted(re.findall(r": (\d{3}) x", text)) == [f"{number:03}" for number in range(60)]
    assert sorted(tmp_path.iterdir()) == sorted([*packed, path, log.errors_file(path)])


def test_compressing_does_not_hold_up_the_thread_that_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    asked = threading.Event()

    def slow(path: Path) -> None:
        asked.set()
        held.wait(10)

    monkeypatch.setattr(log, "_gzip", slow)
    try:
        lines = lines_of(
            *[lambda: logger.info("x" * 1500)] * 3, LOG_FILE=str(tmp_path / "adapter.log"), LOG_ROTATION="2 KB"
        )
        assert asked.wait(5)
        assert len(lines) == 3  # all were written while the compression still waited
    finally:
        held.set()


def test_what_a_killed_compression_left_is_cleared_at_the_next_start(tmp_path: Path) -> None:
    half = tmp_path / "adapter.2026-01-01.log.gz.part"
    half.write_bytes(b"half")
    lines_of(LOG_FILE=str(tmp_path / "adapter.log"))
    assert not half.exists()


def test_the_retention_of_the_log_does_not_take_the_errors_file(tmp_path: Path) -> None:

    path = tmp_path / "adapter.log"
    errors = log.errors_file(path)
    errors.write_text("an old error\n")
    old = tmp_path / "adapter.2020-01-01_00-00-00_000000.log.gz"
    old.write_bytes(b"")
    for one in (errors, old):
        os.utime(one, (0, 0))
    lines_of(*[lambda: logger.info("x" * 1500)] * 3, LOG_FILE=str(path), LOG_ROTATION="2 KB")
    assert not old.exists()
    assert errors.read_text() == "an old error\n"


def test_a_log_file_that_cannot_be_written_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "adapter.log"
    with pytest.raises(ConfigError, match=r"LOG_FILE=.* cannot be written: "):
        lines_of(LOG_FILE=str(path))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("midnight", time(0, 0, tzinfo=UTC)),
        ("06:30", time(6, 30, tzinfo=UTC)),
        ("100 MB", "100 MB"),
        ("1 day", "1 day"),
    ],
)
def test_times_of_rotation_are_in_utc(setting: str, expected: Any) -> None:
    assert log._rotation(setting) == expected


@pytest.mark.parametrize("setting", ["midnight", "6:30", "100 MB", "1 GB", "500KB", "12 hours", "1 day", "2 weeks"])
def test_every_rotation_that_the_settings_allow_is_understood_by_the_log(setting: str, tmp_path: Path) -> None:
    assert len(lines_of(lambda: logger.info("x"), LOG_FILE=str(tmp_path / "a.log"), LOG_ROTATION=setting)) == 1


# --- redaction --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("smtp://u:hun/ter@2@h", "smtp://u:***@h"),
        ("postgresql://h/d?password=hunter2&sslmode=require", "postgresql://h/d?password=***&sslmode=require"),
        ("host=h password=hunter2 dbname=d", "host=h password=*** dbname=d"),
        ("API_SECRET_KEY=hunter2", "API_SECRET_KEY=***"),
        ('{"password": "hunter2", "a": 1}', '{"password": "***", "a": 1}'),
        ("Authorization: Bearer hunter2.hunter2-x", "Authorization: Bearer ***"),
        ("got eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl here", "got *** here"),
        ("http://h:8080/health and a@b", "http://h:8080/health and a@b"),
        ("no secret: the token has expired", "no secret: the token has expired"),
    ],
)
def test_passwords_and_tokens_are_masked_and_the_rest_is_left(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_quoted_value_is_one_short_line() -> None:
    assert one_line("a\tb" + "x" * 100, 10) == "a\\tbxxxxx…"
    assert escape_controls("right\u202eleft") == "right\\x202eleft"
