"""A rolling upgrade while orders flow: two versions as wheels, one of the history and one of this tree; see faults.py."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.check import Bite
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, now
from tests.chaos.operators import hand_over, leads
from tests.chaos.parts import ROOT

_LIMIT = 120.0
_A_KIND = r'^    [A-Z_]+ = "[a-z_]+"$'
"""A line of `engine.events.Kind`."""


def why_not() -> str | None:
    """Why there is no version before, in a sentence; None if there is."""
    done = _git("log", "-1", "--format=%H", "--", "engine/migrations/versions")
    if done.returncode != 0 or not done.stdout.strip():
        return f"the version before is built from the history, and there is none here: {done.stderr.decode().strip()}"
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
        return "the history is cut off before the version before: fetch all of it (git fetch --unshallow)"
    return None


def version_before() -> str:
    """The oldest commit with this tree's schema and its kinds of events: what runs on the same database, and reads what this
    version has written there. (That an older one reads what this version writes at the older ledger level is shown by
    tests/integration/test_side_by_side.py.) Raises DidNotBite."""
    if (reason := why_not()) is not None:
        raise DidNotBite(reason)
    schema = _last("--", "engine/migrations/versions")
    kinds = _last(f"-G{_A_KIND}", "--", "engine/events.py")
    later = _git("merge-base", "--is-ancestor", schema, kinds).returncode == 0
    return kinds if later else schema


def _last(*words: str) -> str:
    return _git("log", "-1", "--format=%H", *words).stdout.decode().strip()


def unpacked_wheel(tree: Path, place: Path) -> Path:
    """The wheel of this tree, built and unpacked as an installation would. Raises DidNotBite."""
    wheels = place / "wheel"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(wheels)]
    done = subprocess.run([*command, str(tree)], capture_output=True, text=True, check=False, timeout=_LIMIT)
    if done.returncode != 0:
        raise DidNotBite(f"the wheel of {tree} was not built: {done.stderr[-800:]}")
    [wheel] = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place / "site")
    return place / "site"


def both(place: Path) -> tuple[Path, Path]:
    """The version before and this one, each in a directory of its own. Raises DidNotBite."""
    trees = []
    for name, commit in (("before", version_before()), ("now", None)):
        if not (place / name / "site").exists():
            tree = place / name / "tree"
            tree.mkdir(parents=True)
            archive = _git("archive", commit).stdout if commit else _present()
            with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
                packed.extractall(tree, filter="data")
            unpacked_wheel(tree, place / name)
        trees.append(place / name / "site")
    return trees[0], trees[1]


@dataclass(frozen=True, slots=True)
class RollingUpgrade:
    """Both replicas run the version before; then one after the other is started again as this one, with a hand-over in
    between, as the rollout does it. At every moment one of them leads."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        before, present = await asyncio.to_thread(
            both, on.directory.parent / "versions"
        )  # once for all clusters of a run
        first = await on.paired()
        second = on.other(first)
        ran = []
        at = now()
        # down to the version before: the standby, a hand-over, the other one; and up again the same way
        for version in (before, present):
            for replica in (second, first):
                if on.scene.leader() == replica:
                    await hand_over(on, replica)
                    await leads(on, on.other(replica))
                    await on.paired()
                await on.renew([replica], {}, {"PYTHONPATH": str(version)})
                ran.append((replica, runs_from(on, replica) == version))
        if not all(right for _, right in ran):
            raise DidNotBite(f"not every replica ran the version that it was to run: {ran}")
        return Bite("rolling upgrade", at, f"{len(ran)} restarts, two of each version of each replica", None, now())


def runs_from(on: Cluster, replica: str) -> Path | None:
    """The directory that this replica's process has its code from, by the environment that the kernel keeps."""
    for item in Path(f"/proc/{on.child(replica).pid}/environ").read_bytes().split(b"\0"):
        if item.startswith(b"PYTHONPATH="):
            return Path(item.removeprefix(b"PYTHONPATH=").decode())
    return None


def _present() -> bytes:
    """This tree as it is on disk: what git knows of, changes included."""
    names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.decode().split("\0")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as packed:
        for name in names:
            if name and (ROOT / name).is_file():
                packed.add(ROOT / name, name)
    return made.getvalue()


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False, timeout=_LIMIT)
