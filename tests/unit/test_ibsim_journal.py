"""The journal on disk, and the truth that is made again from it."""

from pathlib import Path

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
