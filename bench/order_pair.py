"""A pair with tokens and risk limits on, an operator's token, and what the figures of the order path are read from."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from bench.wire import Wire
from ha.cli_token import issue
from ha.local.pair import LocalPair
from ha.local.ports import Ports
from tests.chaos.processes import Used

SECRET = "the benchmark's own secret, and nobody else's"
SYMBOLS = ("AAPL", "MSFT", "GOOG", "AMZN", "NVDA", "IBM")
PATIENCE = 120.0  # seconds; longer than any condition that holds at all
LIMITS = {
    "API_SECRET_KEY": SECRET,
    "MAX_ORDER_QUANTITY": "1000", "MAX_ORDER_VALUE": "1000000", "MAX_OPEN_ORDERS": "1000000",
    "ALLOWED_SYMBOLS": ",".join(SYMBOLS),
    "MAX_INTENT_AGE_LMT": "3600", "MAX_INTENT_AGE_MKT": "3600",
}  # fmt: skip
NO_PACE = {"ORDER_RATE": "0", "ORDER_RATE_PER_SYMBOL": "0", "MAX_UNACKNOWLEDGED": "100000"}


class Pair:
    """A running pair."""

    def __init__(self, local: LocalPair, http: aiohttp.ClientSession, token: str) -> None:
        self.local, self.http, self.token = local, http, token

    async def status(self, url: str, path: str) -> int:
        """The status of a GET, 0 for none."""
        try:
            async with self.http.get(url + path) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def get(self, url: str) -> Any:
        """The body of a GET, whatever its status."""
        async with self.http.get(url) as answer:
            return await answer.json()

    async def whole(self) -> tuple[str, str]:
        """The URLs of the leader, its gate open, and of its ready standby, once there are both."""
        end = time.monotonic() + PATIENCE
        urls = [replica.url for replica in self.local.replicas]
        while time.monotonic() < end:
            for leader, standby in (urls, urls[::-1]):
                asked = ((leader, "/leader"), (standby, "/standby"), (leader, "/readyz"))
                if [await self.status(*one) for one in asked] == [200, 200, 200]:
                    return leader, standby
            await asyncio.sleep(0.05)
        raise TimeoutError(f"the pair was not whole within {PATIENCE:g} s")

    async def until(self, holds: Callable[[], Any], what: str) -> Any:
        """What the awaitable of `holds` gives, once that is true. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := await holds():
                return found
            await asyncio.sleep(0.05)
        raise TimeoutError(f"not within {PATIENCE:g} s: {what}")

    async def wire(self, url: str) -> Wire:
        """A connection of its own, with the token."""
        return await Wire.open(url, self.token)

    async def fault(self, name: str, **parameters: Any) -> None:
        """Break something of the stand-in gateway."""
        control = f"http://127.0.0.1:{self.local.ports.control}"
        async with self.http.post(f"{control}/faults/{name}", json=parameters) as answer:
            assert answer.status == 200, await answer.text()

    async def journal(self, after: int = 0) -> list[dict[str, Any]]:
        """What the broker took down, from this entry on."""
        found = await self.get(f"http://127.0.0.1:{self.local.ports.control}/journal?after={after}")
        return found["entries"]  # type: ignore[no-any-return]

    async def journal_seq(self) -> int:
        """Its last entry."""
        found = await self.get(f"http://127.0.0.1:{self.local.ports.control}/journal?after=999999999")
        return int(found["seq"])

    def used(self, url: str) -> Used:
        """CPU of the replica with this URL, so far."""
        pid = next(replica.pid for replica in self.local.replicas if replica.url == url)
        assert pid is not None
        return Used.by(pid)

    def names(self, leader: str, standby: str) -> dict[int, str]:
        """The replicas with these URLs, by their process."""
        what = {leader: "leader", standby: "standby"}
        return {replica.pid: what[replica.url] for replica in self.local.replicas if replica.pid is not None}

    @property
    def owner_url(self) -> str:
        """The database as the owner of the tables."""
        return str(self.local.info()["migrate_database_url"])


@contextlib.asynccontextmanager
async def running(kept: Path | None, base: int | None, settings: Mapping[str, str]) -> AsyncIterator[Pair]:
    """A pair, whole; ended and removed afterwards, its logs laid under `kept`. `base`: its ports begin behind it."""
    token = issue(SECRET, "bench", "operator", "1d").token
    ports = Ports.free() if base is None else Ports.from_base(base)
    limit = aiohttp.ClientTimeout(total=60)
    with tempfile.TemporaryDirectory(prefix="pa-bench-") as name:
        directory = opened(name)
        local = LocalPair(directory / "pair", ports=ports, env={"PATH": "/usr/bin:/bin", **LIMITS, **settings})
        async with aiohttp.ClientSession(timeout=limit, headers={"Authorization": f"Bearer {token}"}) as http:
            try:
                await local.start()
                pair = Pair(local, http, token)
                await pair.whole()
                yield pair
            finally:
                await local.stop()
                if kept is not None:
                    shutil.copytree(directory / "pair" / "log", kept, dirs_exist_ok=True)


def opened(directory: str) -> Path:
    """It, so that PostgreSQL's own user may pass through."""
    Path(directory).chmod(0o755)
    return Path(directory)


def body(name: str, number: int, **fields: Any) -> dict[str, Any]:
    """A limit order that rests, under a key that is made of `name` and `number`."""
    return {
        "client_order_id": f"{name}-{number}", "symbol": SYMBOLS[number % len(SYMBOLS)], "side": "BUY", "quantity": "1",
        "order_type": "LMT", "limit_price": "1.00", "tif": "GTC",
    } | fields  # fmt: skip


def moment(entry: Mapping[str, Any]) -> float:
    """When the broker took an entry down, in seconds since 1970."""
    return datetime.fromisoformat(str(entry["at"]).replace("Z", "+00:00")).timestamp()
