"""Faults of the stand-in gateway, each with the stand-in's own word that it took effect; see faults.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.chaos.check import Bite
from tests.chaos.cluster import CLIENT_ID, Cluster
from tests.chaos.faults import DidNotBite, Fault, now

HANDSHAKE = b"API\0\0\0\0\tv157..178"
"""What a client says first, without startApi: the answer costs nobody a session."""
PATIENCE = 8.0
"""Seconds for which a fault stays on beyond its time when nothing has come yet that it could take effect on."""
AT_ONCE = {"restart", "logout", "link_down", "close_sessions", "midnight", "farm_down"}
"""What the journal shows as soon as it is switched on; all others wait for something to take effect on."""
_SHOWN_BY = {
    "restart": "restart",
    "link_down": "link_down",
    "close_sessions": "session_closed",
    "logout": "session_closed",
}


@dataclass(frozen=True, slots=True)
class AtGateway:
    """One fault of the stand-in, switched on for so many seconds, or until it is used up. `meanwhile` strikes while it is
    on: a leader that dies has the next one meet it in its takeover."""

    name: str
    seconds: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    meanwhile: Fault | None = None

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        before, struck, at = (await on.journal())[-1]["seq"], await _struck(on, self.name), now()
        await on.broker("POST", f"/faults/{self.name}", self.parameters)
        other: Bite | None = None
        try:
            if self.meanwhile is not None:
                other = await self.meanwhile.strike(on)
            deaf = self.name == "freeze" and not await _answers(on)
            await self._over(on, struck)
        finally:
            ended = now()
            await mend(on, self.name)
        shown = [entry for entry in await on.journal() if entry["seq"] > before]
        evidence = self._evidence(shown, await _struck(on, self.name) - struck + deaf)
        said = " ".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])
        if other is not None:
            said, evidence = f"{other.fault} while the gateway has {said}", f"{other.evidence}; {evidence}"
            return Bite(said, other.at, evidence, other.replica, ended)
        refused = tuple(e["perm_id"] for e in shown if self.name == "reject" and e["kind"] == "rejected")
        return Bite(f"gateway: {said}", at, evidence, None, ended, refused)

    async def _over(self, on: Cluster, struck: int) -> None:
        """Wait until the time is up, or the fault is used up; longer, where it has found nothing to take effect on yet."""
        began = asyncio.get_running_loop().time()
        while (took := asyncio.get_running_loop().time() - began) < self.seconds + PATIENCE:
            await asyncio.sleep(0.05)
            if "next" in self.parameters:
                if self.name not in (await on.broker("GET", "/faults"))["faults"]:
                    return
            elif took >= self.seconds and (self.name in (*AT_ONCE, "freeze") or await _struck(on, self.name) > struck):
                return

    def _evidence(self, shown: list[dict[str, Any]], struck: int) -> str:
        kind = _SHOWN_BY.get(self.name, "fault")
        entries = [e for e in shown if e["kind"] == kind and (kind != "fault" or e.get("fault") == self.name)]
        if (self.name in AT_ONCE and not entries) or (self.name not in AT_ONCE and not struck):
            raise DidNotBite(f"{self.name} was switched on and found nothing to take effect on")
        if (least := self.parameters.get("next")) is not None and struck < least:
            raise DidNotBite(f"{self.name} was meant for {least} and took effect on {struck}")
        return f"{len(entries)} entries of the journal" if self.name in AT_ONCE else f"it took effect {struck} times"


@dataclass(frozen=True, slots=True)
class Correction:
    """IB replaces the newest execution of ours by one at another price."""

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        [*_, newest] = [e for e in await on.journal() if e["kind"] == "execution" and e.get("client_id") == CLIENT_ID]
        at, price = now(), str(float(newest["price"]) + 1)
        await on.broker("POST", "/faults/correction", {"exec_id": newest["exec_id"], "price": price})
        made = [e for e in await on.journal() if e["kind"] == "correction" and e["seq"] > newest["seq"]]
        if not made:
            raise DidNotBite(f"{newest['exec_id']} was not corrected")
        return Bite("an execution is corrected", at, f"{newest['exec_id']} became {made[-1]['exec_id']}")


async def mend(on: Cluster, *names: str) -> None:
    """Switch these faults off; all that are on, if none is named."""
    for name in names or (await on.broker("GET", "/faults"))["faults"]:
        if name not in {"restart", "close_sessions", "correction", "midnight"}:
            await on.broker("DELETE", f"/faults/{name}")


async def _answers(on: Cluster) -> bool:
    """Whether the gateway answers a handshake."""
    writer = None
    try:
        async with asyncio.timeout(0.4):
            reader, writer = await asyncio.open_connection("127.0.0.1", on.ports.gateway)
            writer.write(HANDSHAKE)
            return bool(await reader.read(1))
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()


async def _struck(on: Cluster, name: str) -> int:
    try:
        return int((await on.broker("GET", "/faults"))["struck"].get(name, 0))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DidNotBite(f"the control port does not answer: {error}") from None
