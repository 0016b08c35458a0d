"""RUN_DIR/lease.json: written whole, read with suspicion, and bound to the process that wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ha import etcd_runfile
from ha.etcd_access import EtcdAccess
from ha.etcd_runfile import BadLeaseFile, LeaseFile

ACCESS = EtcdAccess(("a:1", "b:1", "c:1"), Path("ca"), Path("crt"), Path("key"), "user", "s3cret")
FILE = LeaseFile.of_this_process(7, "desk1", "/adapter/desk1/leader", ACCESS)


@pytest.mark.rule(34)
def test_what_is_written_is_read_back_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    etcd_runfile.write(tmp_path, FILE)
    assert etcd_runfile.read(tmp_path) == FILE
    path = tmp_path / etcd_runfile.NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [etcd_runfile.NAME]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    etcd_runfile.write(tmp_path, FILE)
    with pytest.raises(FileNotFoundError):
        etcd_runfile.write(tmp_path / "missing", replace(FILE, lease_id=8))
    assert etcd_runfile.read(tmp_path) == FILE


def test_the_password_is_not_in_the_file_and_the_paths_are_absolute(tmp_path: Path) -> None:
    etcd_runfile.write(tmp_path, FILE)
    text = (tmp_path / etcd_runfile.NAME).read_text()
    assert "s3cret" not in text
    assert str(Path("ca").absolute()) in text


def test_the_access_needs_the_password_only_where_there_is_a_user() -> None:
    assert FILE.access("s3cret").password == "s3cret"
    with pytest.raises(BadLeaseFile, match="ETCD_PASSWORD"):
        FILE.access(None)
    assert replace(FILE, user=None).access(None).user is None
    assert replace(FILE, user=None).access("not for this etcd").password is None
    with pytest.raises(BadLeaseFile, match="host:port"):
        replace(FILE, endpoints=("a",)).access("s3cret")


def test_no_file_is_none(tmp_path: Path) -> None:
    assert etcd_runfile.read(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"lease_id": 0},
        {"lease_id": -5},
        {"lease_id": 2**63},
        {"lease_id": "7"},
        {"pid": "11"},
        {"started": None},
        {"endpoints": [3]},
        {"endpoints": 3},
        {"ca": 3},
        {"key": None},
        {"surplus": 1},
    ],
)
def test_a_spoilt_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / etcd_runfile.NAME).write_text(json.dumps(asdict(FILE) | change))
    with pytest.raises(BadLeaseFile):
        etcd_runfile.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"lease_id": 7}'])
def test_what_is_no_lease_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / etcd_runfile.NAME).write_bytes(content)
    with pytest.raises(BadLeaseFile):
        etcd_runfile.read(tmp_path)


def test_a_living_writer_has_not_ended_and_a_reused_process_number_is_not_it() -> None:
    assert not FILE.writer_ended(0)
    assert replace(FILE, started=FILE.started - 1).writer_ended(0)


def test_a_killed_writer_has_ended_even_before_anybody_waited_for_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        file = replace(FILE, pid=child.pid, started=started)
        assert not file.writer_ended(0)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is still a zombie
        assert file.writer_ended(0)
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
    assert file.writer_ended(0)
