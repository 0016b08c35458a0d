"""The journal on disk, and the truth that is made again from it."""

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibsim.journal import Journal, Spool


@given(st.lists(st.integers(), max_size=300), st.integers(0, 310))
def test_a_spool_gives_back_what_came_after_a_number(numbers: list[int], after: int):
    spool = Spool()
    try:
        for number in numbers:
            spool.append({"n": number})
        assert [record["n"] for record in spool.records(after)] == numbers[after:]
    finally:
        spool.close()


def test_a_half_written_last_line_is_cut_off(tmp_path: Path):
    path = tmp_path / "journal"
    first = Journal(path, fsync=True)
    for _ in range(200):
        first.add(0.0, "fault", {"fault": "x", "code": None})
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":201,"at":"19')
    second = Journal(path, fsync=False)
    try:
        assert second.seq == 200
        second.add(1.0, "restart", {})
        second.flush()
        last = list(second.entries(after=199))
        assert [(one["seq"], one["kind"]) for one in last] == [(200, "fault"), (201, "restart")]
        assert "code" not in last[0]
        assert path.read_bytes().startswith(whole)
    finally:
        second.close()


def test_what_a_full_disk_refused_is_written_when_there_is_room_again(tmp_path: Path):
    spool = Spool(tmp_path / "spool")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for number in range(5):
        spool.append({"n": number})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    spool.append({"n": 5})
    assert [record["n"] for record in spool.records()] == list(range(6))
    spool.close()
