"""PostgreSQL on a disk that can be full: full_disk.c is before its own calls, and a file beside the data fills the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ha.local.ports import Ports
from ha.local.postgres import Server
from ha.local.process import Spec
from tests.chaos.preload import library


def flag(directory: Path) -> Path:
    """The file that fills the disk of this directory's PostgreSQL while it exists."""
    return directory / "disk-is-full"


class ServerOnDisk(Server):
    """As Server; its disk is full while `flag` exists. Without a compiler it is the plain one."""

    def __init__(self, directory: Path, ports: Ports, env: Mapping[str, str]) -> None:
        super().__init__(directory, ports, env)
        found = library("full_disk", directory)
        self._more = {} if found is None else {"LD_PRELOAD": str(found), "FULL_DISK": str(flag(directory))}

    def spec(self) -> Spec:
        """See Server."""
        plain = super().spec()
        return replace(plain, env={**plain.env, **self._more})
