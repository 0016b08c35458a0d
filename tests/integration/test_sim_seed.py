"""The same seed and the same inputs make the same journal, but for the times."""

from decimal import Decimal
from typing import Any

from ibsim.book import Rules
from ibsim.peer import Peer
from tests.integration.sim_fixture import running_sim

_TIMES = ("at", "time", "done_at", "peer")


async def _journal(seed: int) -> list[dict[str, Any]]:
    """A session's worth of orders in a walking market, with faults that strike by chance; its journal without times."""
    async with running_sim(seed=seed, rules=Rules(fill_size=Decimal(3))) as sim:
        for name in ("pending_cancel", "duplicate_callbacks", "skip_statuses", "reorder_callbacks"):
            await sim.fault(name, percent=50, **({"ms": 0, "fill": True} if name == "pending_cancel" else {}))
        peer = await Peer.connect("127.0.0.1", sim.port)
        try:
            assert await peer.named("handshake", 2)
            peer.start(1)
            assert await peer.named("nextValidId", 2)
            for number in range(1, 41):
                side, limit = ("BUY", 189.95) if number % 2 else ("SELL", 190.05)
                values = {"symbol": "AAPL", "action": side, "totalQuantity": "7", "lmtPrice": str(limit)}
                peer.order(number, account="DU1234567", orderRef=f"r{number}", **values)
                if number % 4 == 0:
                    peer.send("cancelOrder", orderId=str(number))
                await _settled(peer)
                sim.stand.gateway.walk()
            journal = await sim.journal()
        finally:
            await peer.close()
    return [{key: value for key, value in entry.items() if key not in _TIMES} for entry in journal]


async def _settled(peer: Peer) -> None:
    count = len(peer.got)
    peer.send("reqCurrentTime")
    assert await peer.named("currentTime", 2, count)


async def test_a_seed_replays_every_random_choice():
    first, again, other = [await _journal(seed) for seed in (1, 1, 2)]
    assert first == again
    assert first != other
    assert {"execution", "cancelled"} <= {entry["kind"] for entry in first}
