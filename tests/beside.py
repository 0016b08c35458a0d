"""What `make test` runs beside the tests that wait: some that only compute, behind everything else, then others at full priority.

python -m tests.beside PATH... --then PATH...
"""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType


def run(paths: list[str], niceness: int) -> int:
    """One pytest over these paths; its exit code. Ends with us when we are told to end."""
    # a shell starts what runs in the background with SIGINT ignored, and its children inherit that: it is taken back
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    lower = ["nice", "-n", str(niceness)] if niceness else []
    with subprocess.Popen([*lower, sys.executable, "-m", "pytest", *paths]) as child:
        told: list[int] = []

        def end(number: int, _: FrameType | None) -> None:
            told.append(number)
            child.send_signal(number)

        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, end)
        code = child.wait()
    if told:
        sys.exit(128 + told[0])
    return code


def main(arguments: list[str]) -> int:
    """0 when both were green, else what pytest said, one bit for another."""
    first, then = arguments[: arguments.index("--then")], arguments[arguments.index("--then") + 1 :]
    return run(first, 19) | run(then, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
