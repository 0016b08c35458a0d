"""Hosts on one machine: each a network namespace with a cable to a switch; this process's own host is on it as well.

No namespace has a name: each lives as long as the process that holds it, and takes its end of every cable with it. So
there is nothing to tidy up, not even after a `kill -9`, because the holders die with whoever started them.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ha.local.parts import Part
from ha.local.process import Child, Spec

_SWITCH = "switch"
_NOWHERE = "02:00:00:00:00:01"  # an address that no card has
_LIMIT = 10.0
NO_NFT = "nftables is not installed; this gets it: sudo apt-get install -y nftables"


def why_not() -> str | None:
    """Why this process cannot make hosts, in a sentence; None if it can."""
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found; this gets them: sudo apt-get install -y iproute2 util-linux"
    if os.geteuid() != 0:
        return "hosts in network namespaces need root: sudo make test TESTS=tests/chaos"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False, timeout=_LIMIT)
    return None if done.returncode == 0 else f"root may not make network namespaces here: {done.stderr.strip()}"


class Network:
    """A switch, hosts by name, and this process's own host at `here`. `holders` are to be brought up, then `wire`."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        self._directory, self._hosts = directory, tuple(hosts)
        self._link = f"pa{random.randrange(16**6):06x}"  # our end of the cable
        self._subnet = _free_subnet()
        self._pids: dict[str, int] = {}
        self.here = f"{self._subnet}.1"

    def address(self, host: str) -> str:
        """The host's address."""
        return f"{self._subnet}.{11 + self._hosts.index(host)}"

    def holders(self, env: Mapping[str, str]) -> list[Part]:
        """The processes that keep the namespaces, each ready when it has its own."""
        return [self._holder(name, env) for name in (_SWITCH, *self._hosts)]

    def _holder(self, name: str, env: Mapping[str, str]) -> Part:
        unshare, sleep = shutil.which("unshare"), shutil.which("sleep")
        assert unshare
        assert sleep

        def spec() -> Spec:
            log = self._directory / "log" / "hosts.log"
            return Spec(f"host-{name}", (unshare, "--net", sleep, "infinity"), env, self._directory, log)

        async def ready(child: Child) -> bool:
            self._pids[name] = child.pid
            return os.readlink(f"/proc/{child.pid}/ns/net") != os.readlink("/proc/self/ns/net")

        return Part(f"host-{name}", spec, ready, ((signal.SIGKILL, 2.0),))

    def wire(self) -> None:
        """Lay the cables. Raises RuntimeError with what `ip` said."""
        _ip(None, f"link add {self._link} type veth peer name here netns {self._pids[_SWITCH]}")
        _ip(None, f"addr add {self.here}/24 dev {self._link}", f"link set {self._link} up")
        switch = ["link add sw type bridge", "link set sw up", "link set here master sw up"]
        for host in self._hosts:
            switch += [f"link add name {_port(host)} type veth peer name eth0 netns {self._pids[host]}"]
            switch += [f"link set dev {_port(host)} master sw up"]
        _ip(self._pids[_SWITCH], *switch)
        for host in self._hosts:
            up = ["link set lo up", f"addr add {self.address(host)}/24 dev eth0", "link set eth0 up"]
            _ip(self._pids[host], *up)

    def on(self, host: str, spec: Spec) -> Spec:
        """The same program, run on that host."""
        nsenter = shutil.which("nsenter")
        assert nsenter
        return replace(spec, argv=(nsenter, f"--net=/proc/{self._pids[host]}/ns/net", "--", *spec.argv))

    # ---- faults

    def cut(self, host: str) -> None:
        """Pull the host's cable out."""
        _ip(self._pids[_SWITCH], f"link set dev {_port(host)} down")

    def mend(self, host: str) -> None:
        """Put it back."""
        _ip(self._pids[_SWITCH], f"link set dev {_port(host)} up")

    def is_cut(self, host: str) -> bool:
        """Whether the cable is out."""
        said = _run(self._pids[_SWITCH], ["ip", "-o", "link", "show", "dev", _port(host)])
        return "state DOWN" in said or ",UP" not in said

    def lose(self, host: str, to: str) -> None:
        """Lose everything that the host sends to that address; what comes from there still arrives."""
        _ip(self._pids[host], f"neigh replace {to} lladdr {_NOWHERE} dev eth0 nud permanent")

    def find(self, host: str, to: str) -> None:
        """The end of `lose`."""
        _ip(self._pids[host], f"neigh del {to} dev eth0")

    def forbid(self, host: str, rules: Iterable[tuple[str, str]]) -> None:
        """Rules of nftables on that host, each for what goes `out` or comes `in`; those that were there are gone."""
        self.allow(host)
        lines = ["add table inet chaos"]
        lines += [f"add chain inet chaos {way} {{ type filter hook {way}put priority 0 ; }}" for way in ("out", "in")]
        lines += [f"add rule inet chaos {way} {rule}" for way, rule in rules]
        _run(self._pids[host], [_nft(), "-f", "-"], "\n".join(lines) + "\n")

    def allow(self, host: str) -> None:
        """The end of all such rules."""
        _run(self._pids[host], [_nft(), "-f", "-"], "add table inet chaos\ndelete table inet chaos\n")

    def forbidden(self, host: str) -> int:
        """How many packets have met a rule."""
        said = _run(self._pids[host], [_nft(), "list", "table", "inet", "chaos"])
        return sum(map(int, re.findall(r"counter packets (\d+)", said)))


def nft() -> str | None:
    """The path of nftables' command, None where it is not installed."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _nft() -> str:
    found = nft()
    assert found, NO_NFT
    return found


def _port(host: str) -> str:
    """The switch's end of the host's cable."""
    return f"to-{host}"


def _free_subnet() -> str:
    taken = _run(None, ["ip", "-4", "-o", "addr"])
    free = [net for n in range(256) if f"{(net := f'10.213.{n}')}." not in taken]
    return random.choice(free)


def _ip(pid: int | None, *commands: str) -> None:
    _run(pid, ["ip", "-batch", "-"], "\n".join(commands) + "\n")


def _run(pid: int | None, command: list[str], text: str = "") -> str:
    """Run it, in that process's network namespace if one is named. Raises RuntimeError with what it said."""
    inside = [] if pid is None else ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    done = subprocess.run(
        [*inside, *command], input=text, capture_output=True, text=True, check=False, timeout=_LIMIT
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")
    return done.stdout
