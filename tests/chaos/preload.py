"""Small libraries that are put before a process's own calls, built from the C files here: neither root nor a file system nor
a clock of its own is needed for a full disk or a wrong clock."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NO_COMPILER = "a full disk and a wrong clock need a C compiler; this gets one: sudo apt-get install -y gcc libc6-dev"


def compiler() -> str | None:
    """The C compiler's path, None where there is none, or it lacks the C library's headers."""
    found = shutil.which("cc") or shutil.which("gcc")
    return found if found and Path("/usr/include/stdlib.h").exists() else None


def library(name: str, directory: Path) -> Path | None:
    """The library made of NAME.c, in this directory; None without a compiler. Raises subprocess.CalledProcessError."""
    made = directory / f"{name}.so"
    if (cc := compiler()) is not None and not made.exists():
        directory.mkdir(parents=True, exist_ok=True)
        source = Path(__file__).with_name(f"{name}.c")
        command = [cc, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made if made.exists() else None
