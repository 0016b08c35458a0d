"""The links of a cluster, each a proxy of one Toxiproxy: cut them, one way or both, refuse, slow down, and mend.

A cut link loses what is sent and says nothing, as a cable that is out does; a refused one ends its connections and takes
no new ones. Only one cluster at a time has links: the client package keeps Toxiproxy's address in one place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

from toxiproxy.proxy import Proxy
from toxiproxy.server import Toxiproxy

HOST = "127.0.0.1"


class Way(StrEnum):
    """A direction on a link, seen from whoever dialled."""

    THERE = "upstream"  # what the caller says
    BACK = "downstream"  # what the called one says


BOTH = (Way.THERE, Way.BACK)


class Links:
    """The links by name: `a-e1`, `a-postgres`, `a-gateway` (from replica a), `peer-a` (whoever dials replica a as the
    other replica, and clients that are redirected there), `client-a` (clients that dial a)."""

    def __init__(self, api: int, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._api = api
        self._server = Toxiproxy()
        # the client package asks the environment for a proxy, even for this machine's own ports
        os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), HOST)))

    def of(self, *beginnings: str) -> list[str]:
        """The names that begin so, such as `a-e` for all that lead from a to etcd. Raises LookupError for none."""
        if not (found := [name for name in self.names if name.startswith(beginnings)]):
            raise LookupError(f"no link begins with {beginnings}: {', '.join(self.names)}")
        return found

    async def cut(self, names: Sequence[str], ways: Sequence[Way] = BOTH) -> None:
        """Lose what is sent that way; connections stay open."""

        def do(proxy: Proxy) -> None:
            for way in ways:
                proxy.add_toxic(type="timeout", stream=way.value, attributes={"timeout": 0})

        await self._each(names, do)

    async def refuse(self, names: Sequence[str]) -> None:
        """End the connections, take no new ones."""
        await self._each(names, lambda proxy: proxy.disable())

    async def slow(self, names: Sequence[str], milliseconds: int, jitter: int = 0) -> None:
        """Have everything take that much longer, each way."""

        def do(proxy: Proxy) -> None:
            for way in BOTH:
                delay = {"latency": milliseconds, "jitter": jitter}
                proxy.add_toxic(type="latency", stream=way.value, attributes=delay)

        await self._each(names, do)

    async def toxic(
        self, names: Sequence[str], kind: str, attributes: Mapping[str, int], ways: Sequence[Way] = BOTH
    ) -> None:
        """Any other of Toxiproxy's toxics, each of these ways."""

        def do(proxy: Proxy) -> None:
            for way in ways:
                proxy.add_toxic(type=kind, stream=way.value, attributes=dict(attributes))

        await self._each(names, do)

    async def mend(self, names: Sequence[str] | None = None) -> None:
        """Make them whole; all of them if none is named. Connections over a link that was cut end now."""

        def do(proxy: Proxy) -> None:
            for toxic in proxy.toxics():
                proxy.destroy_toxic(toxic)
            if not proxy.enabled:
                proxy.enable()

        await self._each(self.names if names is None else names, do)

    async def broken(self) -> dict[str, list[str]]:
        """What is wrong with which link; empty when all are whole."""
        found: dict[str, list[str]] = {}

        def look(proxy: Proxy) -> None:
            wrong = [f"{toxic.type} {toxic.stream}" for toxic in proxy.toxics().values()]
            if wrong or not proxy.enabled:
                found[proxy.name] = wrong or ["refused"]

        await self._each(self.names, look)
        return found

    async def _each(self, names: Sequence[str], do: Callable[[Proxy], object]) -> None:
        await asyncio.to_thread(self._do, names, do)

    def _do(self, names: Sequence[str], do: Callable[[Proxy], object]) -> None:
        self._server.update_api_consumer(HOST, self._api)
        proxies = self._server.proxies()
        for name in names:
            do(proxies[name])
