"""PostgreSQL on a disk that can be full: a small library before its own calls refuses what would make a file grow.

No root and no file system of its own is needed. That the disk is full is a file beside the data.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ha.local.ports import Ports
from ha.local.postgres import Server
from ha.local.process import Spec

_SOURCE = Path(__file__).with_name("full_disk.c")
NO_COMPILER = "a full disk needs a C compiler; this gets one: sudo apt-get install -y gcc libc6-dev"


def compiler() -> str | None:
    """The C compiler's path, None where there is none."""
    found = shutil.which("cc") or shutil.which("gcc")
    return found if found and Path("/usr/include/stdlib.h").exists() else None


def flag(directory: Path) -> Path:
    """The file that fills the disk of this directory's PostgreSQL while it exists."""
    return directory / "disk-is-full"


class ServerOnDisk(Server):
    """As Server; its disk is full while `flag` exists. Without a compiler it is the plain one."""

    def __init__(self, directory: Path, ports: Ports, env: Mapping[str, str]) -> None:
        super().__init__(directory, ports, env)
        self._more: dict[str, str] = {}
        if (cc := compiler()) is not None:
            library = directory / "full_disk.so"
            directory.mkdir(parents=True, exist_ok=True)
            command = [cc, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
            self._more = {"LD_PRELOAD": str(library), "FULL_DISK": str(flag(directory))}

    def spec(self) -> Spec:
        """See Server."""
        plain = super().spec()
        return replace(plain, env={**plain.env, **self._more})
