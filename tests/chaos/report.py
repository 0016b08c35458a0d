"""`python -m tests.chaos.report RECORD`: the reports of a run, made from its record once more.

Writes report.txt and report.html beside the record and prints the text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.record import BadRecord, Record, read
from tests.chaos.report_html import html
from tests.chaos.report_text import text


def write(path: Path) -> Record:
    """Write both reports beside this record, which is returned. Raises BadRecord, OSError."""
    record = read(path.read_text(encoding="utf-8"))
    path.with_name("report.txt").write_text(text(record) + "\n", encoding="utf-8")
    path.with_name("report.html").write_text(html(record), encoding="utf-8")
    return record


def main(argv: Sequence[str] | None = None) -> int:
    """0 = the run was fine, 1 = it was not, 2 = wrong usage or no record."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.report", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("record", type=Path)
    path = parser.parse_args(argv).record
    try:
        record = write(path)
    except (BadRecord, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    print(text(record))
    return 1 if record.bad or not record.rounds else 0


if __name__ == "__main__":
    sys.exit(main())
