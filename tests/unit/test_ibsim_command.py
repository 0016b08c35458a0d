"""The command: what is wrong with its options, its ports or its journal is one sentence, and nothing is harmed."""

import subprocess
import sys
from pathlib import Path

import pytest

from ibsim.__main__ import main
from ibsim.journal import Journal, JournalError
from ibsim.options import parser


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "99999"], "'99999' is not a whole number from 0 to 65535"),
        (["--port", "x"], "'x' is not a whole number from 0 to 65535"),
        (["--port", "4002", "--control-port", "4002"], "are both 4002"),
        (["--account", "a,b"], "'a,b' is no account"),
        (["--tick-ms", "nan"], "'nan' is not a number of milliseconds from 0 on"),
        (["--fill-delay-ms=-1"], "'-1' is not a number of milliseconds from 0 on"),
        (["--fill-size=-1"], "'-1' is not a number of shares"),
        (["--first-id", "0"], "'0' is not a whole number from 1 to 2147483647"),
        (["--symbol", "ACME"], "'ACME' is not NAME=PRICE, such as ACME=12.50"),
        (["--symbol", "ACME=1e999999999"], "is not NAME=PRICE"),
        (["--zone", "America"], "'America' is no time zone, such as America/New_York"),
        (["--hours", "9-5"], "'9-5' is not HH:MM-HH:MM or always"),
        (["--server-version", "179"], "'179' is not a whole number from 157 to 178"),
        (["--daily-restart", "25:00"], "'25:00' is no time of the day"),
        (["--nope"], "unrecognized arguments: --nope"),
        (["conformance", "--against", "here"], "'here' is not HOST:PORT"),
        (["conformance", "--against", "127.0.0.1:1", "--patience", "0"], "'0' is not a number of seconds above 0"),
        (["conformance", "--against", "127.0.0.1:1", "--price", "x"], "'x' is not a price"),
    ],
)
def test_a_wrong_option_is_named_in_a_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("adapter sim")


def test_help_shows_no_default_where_there_is_none() -> None:
    assert "None" not in parser().format_help()
    assert "(default: 4002)" in parser().format_help()


def _refused(journal: Path) -> str:
    command = [sys.executable, "-m", "ibsim", "--port", "0", "--control-port", "0", "--journal", str(journal)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    return line


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not ended by a newline")
    assert "not empty and no journal" in _refused(other)
    assert other.read_text() == "not ended by a newline"


def test_a_journal_that_another_one_uses_or_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", fsync=False)
    try:
        assert "in use by another" in _refused(tmp_path / "journal")
    finally:
        journal.close()
    Journal(tmp_path / "journal", fsync=False).close()
    (tmp_path / "file").write_text("")
    assert "cannot keep the journal" in _refused(tmp_path / "file" / "journal")


def test_a_line_that_is_no_entry_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, fsync=False)
    journal.add(0.0, "fault", {"fault": "x"})
    journal.close()
    whole = path.read_bytes()
    for bad in (b"nonsense\n", b"{}\n", whole):
        path.write_bytes(whole + bad)
        broken = Journal(path, fsync=False)
        with pytest.raises(JournalError, match="line 2 of"):
            list(broken.entries())
        broken.close()


def test_prices_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.prices").write_text("[1, 2]")
    assert "does not hold the prices" in _refused(tmp_path / "journal")


def test_it_stands_alone() -> None:
    """It imports aiohttp and the standard library, and no other part or dependency of this project."""
    code = "import sys, ibsim.__main__, ibsim.conformance; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    imported = {name.partition(".")[0] for name in ran.stdout.split()}
    rooms = {"engine", "ha", "reconcile", "adapter_client"}
    clients = {"ib_async", "psycopg", "grpc", "etcd3", "pydantic", "typer", "rich", "loguru", "jwt", "alembic"}
    assert "aiohttp" in imported
    assert not imported & (rooms | clients)
