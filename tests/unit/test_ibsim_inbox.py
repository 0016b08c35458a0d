"""What one client has sent and the gateway has not handled yet is bounded."""

from pathlib import Path

from ibsim.contracts import KNOWN
from ibsim.gateway import Gateway, Settings
from ibsim.inbox import MAX_WAITING, MAX_WAITING_BYTES
from ibsim.session import Session
from ibsim.wire import MAX_FRAME, PREAMBLE, frame, message
from tests.unit.ibsim_fuzzer import Sink, give


class Valve(Sink):
    """A connection that knows whether it is read."""

    reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


def opened(gateway: Gateway) -> tuple[Session, Valve]:
    """An open session on a connection of its own."""
    session, valve = gateway.sessions.new(), Valve()
    session.connection_made(valve)
    give(session, PREAMBLE + frame(b"v178") + message(["71", "2", "1", ""]))
    return session, valve


async def _fed(data: bytes, most: int) -> int:
    """How often a paced session takes this data before its socket is read no further."""
    gateway = Gateway(Settings(derivatives=False), KNOWN)
    gateway.fault_on("pacing", {"limit": 1, "over": "delay"})
    session, valve = opened(gateway)
    times = 0
    while valve.reads and times < most:
        session.data_received(data)
        times += 1
    gateway.close()
    session.connection_lost(None)
    return times


async def test_large_requests_that_wait_stop_the_reading_by_their_bytes():
    long = message(["19", "1", "1", "x" * (MAX_FRAME - 100)])
    assert await _fed(long, 100) <= MAX_WAITING_BYTES // len(long) + 3


async def test_many_small_requests_that_wait_stop_the_reading_by_their_number():
    assert await _fed(message(["49", "1"]), 3 * MAX_WAITING) <= MAX_WAITING + 3


async def test_what_waited_is_handled_and_the_socket_read_again_when_the_pace_allows(tmp_path: Path):
    gateway = Gateway(Settings(derivatives=False, journal=tmp_path / "journal"), KNOWN)
    gateway.fault_on("pacing", {"limit": 1, "over": "delay"})
    session, valve = opened(gateway)
    for _ in range(MAX_WAITING + 2):
        session.data_received(message(["49", "1"]))
    assert not valve.reads
    gateway.fault_off("pacing")
    while session._in._waiting:
        session._in.work()
    assert valve.reads
    assert valve.taken().count(b"49\x001\x00") == MAX_WAITING + 2
    gateway.close()
