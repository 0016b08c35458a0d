"""How a mutant reaches a process: a directory on its PYTHONPATH with a `sitecustomize` that begins it before anything else runs.

The name of the mutant lies in that file, so that it goes wherever the variable goes: to pytest, and to each replica that a
test starts with a cleaned environment. The product knows nothing of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_APPLIED = 97
"""The exit code of a process in which the mutant could not be applied: nothing runs that only seems to be mutated."""
_WITHOUT_ROOMS = {"ibsim", "adapter_client.traffic", "http.server"}
"""Modules run as programs that import no room of the product."""


@contextmanager
def on_path(mutant: str) -> Iterator[str]:
    """The value of PYTHONPATH under which Python begins this mutant."""
    with tempfile.TemporaryDirectory(prefix=f"mutant-{mutant}-") as place:
        Path(place, "sitecustomize.py").write_text(
            f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.mutation.hook import begin\nbegin({mutant!r})\n"
        )
        yield os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))


def begin(mutant: str) -> None:
    """Called by `sitecustomize`. Ends the process where the mutant cannot be applied."""
    if _program() in _WITHOUT_ROOMS:
        return
    try:
        from tests.mutation import catalogue
        from tests.mutation import mutant as mutants

        mutants.begin(catalogue.ALL, mutant)
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not run as if it were mutated
        traceback.print_exc()
        print(f"the mutant {mutant} could not be applied", file=sys.stderr, flush=True)
        os._exit(NOT_APPLIED)  # an exception in `sitecustomize` would be printed and passed over


def _program() -> str:
    argv = sys.orig_argv
    return argv[argv.index("-m") + 1] if "-m" in argv[:-1] else ""
