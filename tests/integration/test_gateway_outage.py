"""A gateway that only one replica can reach (R17): real pair, real stand-in gateway, one relay before it for each replica."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.pair_fixture import RunningPair, ask, until
from tests.integration.test_operate import history, name_of, order, placed

pytestmark = [pytest.mark.timeout(120), pytest.mark.rule(17)]


class Relay:
    """A TCP relay that can be cut: what is open is reset, what is new is refused."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._do(self._open())

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to}
        await asyncio.gather(self._pump(reader, to), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        with contextlib.suppress(OSError):
            writer.close()

    async def _cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    def cut(self) -> None:
        """Reset what is open and refuse what comes."""
        self._do(self._cut())

    def mend(self) -> None:
        """Serve again, on the same port."""
        self._do(self._open())

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture
def relayed() -> Iterator[tuple[RunningPair, dict[str, Relay]]]:
    place = Path(tempfile.mkdtemp(prefix="pa-relay-"))
    pair = RunningPair(place / "pair", {})
    relays = {name: Relay(pair.pair.ports.gateway) for name in ("a", "b")}
    pair.pair.part_env |= {name: {"TWS_PORT": str(relay.port)} for name, relay in relays.items()}
    try:
        pair.run(pair.pair.start())
        yield pair, relays
    finally:
        pair.close()
        for relay in relays.values():
            relay.close()
        shutil.rmtree(place)


def test_the_leader_hands_over_to_the_replica_that_can_reach_the_gateway_once(
    relayed: tuple[RunningPair, dict[str, Relay]],
) -> None:
    pair, relays = relayed
    old, new = pair.leader, pair.standby
    resting = placed(old, order())
    until(lambda: ask(old, "GET", f"/api/v1/orders/{resting['id']}").json["state"] == "WORKING", "the gateway has it")
    relays[name_of(pair, old)].cut()
    until(lambda: pair.with_status("/leader") == new, "the other one leads", 30)
    row = history(new)[0]
    assert row["kind"] == "switchover"
    assert "gateway" in row["reason"]
    assert ask(pair.leader, "GET", f"/api/v1/orders/{resting['id']}").json["state"] == "WORKING"
    placed(pair.leader, order())
    # now nobody reaches it: the pair does not swap for ever
    epoch = row["epoch"]
    relays[name_of(pair, new)].cut()
    until(lambda: ask(new, "GET", "/health").json["state"] == "CONNECTING", "the leader dials in vain")
    relays[name_of(pair, new)].mend()
    until(lambda: pair.leader == new, "the same one leads again when the gateway is back", 30)
    assert history(new)[0]["epoch"] == epoch
    assert len([e for e in pair.journal(resting["id"]) if e["kind"] == "order"]) == 1
