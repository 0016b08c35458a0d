"""The command that strikes at random: what it refuses, what it would play, and that a stopped or killed run leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos import run
from tests.chaos.catalogue import Form, possible
from tests.chaos.parts import ROOT
from tests.chaos.record import read
from tests.chaos.schedule import dump, schedule


def test_the_same_seed_lists_the_same_schedule_and_a_recorded_one_is_listed_as_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run.main(["--list", "--seed", "7", "--minutes", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("round 1 (orders drawn from ")
    assert run.main(["--list", "--seed", "7", "--minutes", "3"]) == 0
    assert capsys.readouterr().out == said
    path = tmp_path / "record.jsonl"
    path.write_text(dump(schedule(7, 180, possible(Form.LOOPBACK))))
    assert run.main(["--list", "--replay", str(path), "--seed", "8"]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--only", "weather"], "weather"),
        (["--rate", "5"], "no fault counts"),
        (["--minutes", "0"], "above 0"),
        (["--round", "0"], "no round 0"),
        (["--replay", "/nowhere"], "No such file"),
        (["--form", "cloud"], "cloud"),
    ],
)
def test_wrong_usage_is_said_in_a_sentence_with_exit_code_2(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_schedule_with_a_fault_that_is_no_more_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(dump(schedule(7, 1, possible(Form.LOOPBACK))).replace('"name": "', '"name": "old-'))
    with pytest.raises(SystemExit):
        run.main(["--replay", str(path)])
    assert "unknown here: old-" in capsys.readouterr().err


def test_a_round_that_is_not_in_the_recorded_schedule_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(dump(schedule(7, 1, possible(Form.LOOPBACK))))
    with pytest.raises(SystemExit):
        run.main(["--replay", str(path), "--round", "2"])
    assert "there is no round 2" in capsys.readouterr().err


# ---- the real thing


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_is_stopped_or_killed_in_a_round_leaves_no_process_and_no_file(
    number: signal.Signals, tmp_path: Path
) -> None:
    out, place = tmp_path / "out", tmp_path / "tmp"
    place.mkdir()
    argv = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--minutes",
        "5",
        "--seed",
        "3",
        "--only",
        "process",
        "--out",
        str(out),
    ]
    env = os.environ | {"TMPDIR": str(place)}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=said, stderr=said)
    try:
        _until(lambda: re.search(r"^ +\d+:\d\d  .*kill -9", (tmp_path / "said").read_text(), re.MULTILINE), 150)
        process.send_signal(number)
        code = process.wait(60)
    finally:
        process.kill()
    _until(lambda: not _living(place) and not list(place.iterdir()), 40)
    if number is signal.SIGINT:
        assert code == 1, "no round was judged"
        assert read((out / "record.jsonl").read_text()).end.startswith("it was stopped by hand")
        assert (out / "report.html").exists()
    else:
        assert read((out / "record.jsonl").read_text()).end == ""


def _living(place: Path) -> list[str]:
    """Processes that work in this directory, or name it."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if str(place).encode() in (proc / "cmdline").read_bytes() or (proc / "cwd").readlink().is_relative_to(
                place
            ):
                found.append(proc.name)
        except OSError:
            continue
    return found


def _until(seen: object, seconds: float) -> None:
    assert callable(seen)
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)
