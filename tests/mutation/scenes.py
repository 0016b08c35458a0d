"""Scenarios in which the judge of the cluster must see a mutant: for each a fault that the rule was made for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ha.demo.fetch import FetchFailed
from tests.chaos.at_gateway import AtGateway
from tests.chaos.check import Bite
from tests.chaos.cluster import CLIENT_ID, Cluster
from tests.chaos.faults import Away, DidNotBite, Dies, DropAcks, Fault, Kill, now
from tests.chaos.partitions import CutLinks
from tests.chaos.parts import MEMBERS
from tests.chaos.scenario import Step
from tests.chaos.traffic import Load

FAST = Load(rate=30.0, seconds=5.0, settle=8.0)


@dataclass(frozen=True, slots=True)
class OfGateway:
    """A fault of the stand-in, by its name; over when it has worn off, or was mended after `seconds`."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    within: float = 3.0

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        before, at = (await on.journal())[-1]["seq"], now()
        await on.broker("POST", f"/faults/{self.name}", dict(self.parameters))
        if self.seconds is not None:
            await asyncio.sleep(self.seconds)
            await on.broker("DELETE", f"/faults/{self.name}")
        elif self.name != "restart":
            try:
                async with asyncio.timeout(self.within):
                    while self.name in (await on.broker("GET", "/faults"))["faults"]:
                        await asyncio.sleep(0.02)
            except TimeoutError:
                await on.broker("DELETE", f"/faults/{self.name}")
                raise DidNotBite(f"{self.name} did not wear off: too few orders came") from None
        ended = now()
        asked = [e for e in await self._since(on, before) if e.get("client_id") in (CLIENT_ID, None)]
        if not asked:
            raise DidNotBite(f"nothing happened at the gateway during {self.name}")
        return Bite(f"gateway: {self.name}", at, f"{len(asked)} entries of the journal since", None, ended)

    async def _since(self, on: Cluster, seq: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(20):
            while True:  # it may be restarting
                try:
                    return [entry for entry in await on.journal() if entry["seq"] > seq]
                except FetchFailed:
                    await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class RestingTwin:
    """The gateway doubles an order that rests: one after the other, until one is that does not fill at once."""

    at_most: int = 4
    rests_for: float = 0.3

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        for _ in range(self.at_most):
            bite = await AtGateway("twin", 3.0, {"next": 1}).strike(on)
            await asyncio.sleep(self.rests_for)
            journal = await on.journal()
            [*_, twin] = [entry for entry in journal if entry["kind"] == "order" and entry.get("code") == "twin"]
            seen = {entry["kind"] for entry in journal if entry.get("order_ref") == twin["order_ref"]}
            if "execution" not in seen:
                return replace(bite, evidence=f"{bite.evidence}, permId {twin['perm_id']} rests")
        raise DidNotBite("each order that was doubled filled at once")


@dataclass(frozen=True, slots=True)
class Beneath:
    """Faults one after the other while another one lasts; the bite is the last one's."""

    lasting: OfGateway
    faults: tuple[Fault, ...]
    after: float = 0.2

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        lasting = asyncio.create_task(self.lasting.strike(on))
        await asyncio.sleep(self.after)
        try:
            bites = [await fault.strike(on) for fault in self.faults]
        finally:
            beneath = await lasting
        return replace(bites[-1], fault=f"{bites[-1].fault} beneath {beneath.fault}")


@dataclass(frozen=True, slots=True)
class Scene:
    """Faults at their times, under this load. `arms`: a failpoint for both replicas before it begins."""

    steps: Callable[[], Sequence[Step]]
    load: Load = FAST
    arms: str | None = None


def _dying(point: str) -> Callable[[], Sequence[Step]]:
    return lambda: [Step(0.0, Dies({"a": point, "b": point}))]


SCENES: Mapping[str, Scene] = {
    "leader killed": Scene(lambda: [Step(2.0, Kill("leader"))]),
    "leader killed between licence and write": Scene(_dying("submit.before_write"), arms="submit.before_write=kill@30"),
    "leader without etcd and without the other replica": Scene(
        lambda: [
            Step(
                1.5, CutLinks((*(f"{{leader}}-{member}" for member in MEMBERS), "peer-{leader}", "peer-{standby}"), 5.0)
            )
        ],
        Load(rate=30.0, seconds=8.0),
    ),
    "a gateway that loses orders": Scene(
        lambda: [Step(1.5, OfGateway("lose_orders", {"next": 2}))], Load(rate=30.0, seconds=9.0)
    ),
    "a gateway that rolls its ids back": Scene(
        lambda: [Step(1.5, OfGateway("restart", {"down_ms": 500, "rollback_ids": 20}))], Load(rate=30.0, seconds=6.0)
    ),
    "a gateway that doubles orders": Scene(
        lambda: [Step(1.5, RestingTwin())],
        Load(rate=30.0, seconds=7.0, cancel_share=0.0, limit_share=1.0),
    ),
    "a gateway that tells of a fill before its execution": Scene(
        lambda: [Step(1.0, AtGateway("reorder_callbacks", 3.0))], Load(rate=30.0, seconds=6.0)
    ),
    "a list without an end at a takeover": Scene(
        lambda: [
            Step(1.5, Beneath(OfGateway("no_end", {"request": "open_orders"}, 7.0), (DropAcks(6), Kill("leader"))))
        ],
        Load(rate=30.0, seconds=9.0),
    ),
    "a gateway away for longer than an order may wait": Scene(
        lambda: [Step(1.5, Away("gateway", 12.0))], Load(rate=25.0, seconds=15.0, settle=12.0)
    ),
    "a link that is lost for longer than an order may wait": Scene(
        lambda: [Step(1.5, OfGateway("link_down", {"notice_ms": 1500}, 12.0))],
        Load(rate=25.0, seconds=15.0, settle=12.0),
    ),
}
