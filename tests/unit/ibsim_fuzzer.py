"""Mutated input for the stand-in gateway: whatever comes, it is served or refused, and nothing else happens.

    python -m tests.unit.ibsim_fuzzer --inputs 1000000 --seed 1        a long run; `make fuzz`

An input is one message: a good one of the table with fields replaced, lost, doubled and moved, or its bytes changed; what
led to an answer that was not seen before is mutated further. One part of the inputs goes through the codec, the other to a
whole gateway without sockets, with faults that come and go. A seed replays its run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from ibsim.contracts import KNOWN
from ibsim.faults import CHOICES, FAULTS, FaultError
from ibsim.gateway import Gateway, Settings
from ibsim.messages import REQUESTS, UNSERVED, decode, decode_answer, encode_request
from ibsim.peer import PLAIN_ORDER
from ibsim.session import Session
from ibsim.wire import PREAMBLE, Frames, WireError, fields_of, frame, message, negotiate

ROUND = 4000
"""Inputs that one gateway gets, before it is compared with what its journal says."""
MOST_SEEDS = 3000
ACCOUNT = "DU1234567"

TOKENS = [
    *("", "0", "1", "2", "3", "-1", "7", "10", "100", "190", "190.01", "0.001", "-0", "1e3", "1E-7", "0.0", "true", "None"),
    *("1e999999999", "1e-999999999", "9" * 400, "9" * 5000, "0." + "0" * 39 + "1", "NaN", "sNaN", "-Infinity", "Infinity"),
    *("1.7976931348623157E308", "170141183460469231731687303715884105727", "2147483647", "2147483648", "9223372036854775808"),
    *("AAPL", "MSFT", "EUR", "ES", "STK", "FUT", "OPT", "CASH", "BAG", "SMART", "NASDAQ", "USD", "265598", "208813720"),
    *("BUY", "SELL", "SSHORT", "LMT", "MKT", "STP", "STP LMT", "MOC", "LOC", "PEG BENCH", "PEG BEST", "IBKRATS"),
    *("DAY", "GTC", "IOC", "FOK", "GTD", "OPG", ACCOUNT, "G", "DU0", "All", "NetLiquidation,$LEDGER", "x" * 5000),
    *("20301231 15:00:00 America", "20301231-15:00:00", "00010101-00:00:00", "99991231 23:59:59 Asia/Tokyo", "20301331"),
    *("20301231 15:00:00 ../../etc/passwd", "²", "\u2028", "é", "\ufeff1", " 5 ", "1_0", "\n", "\x85", "%s", "{}"),
]  # fmt: skip

CODES = re.compile(r"[0-9']+")


def good_messages() -> list[list[str]]:
    """A good message of every kind, and orders of several kinds, as fields."""
    stock = {
        **PLAIN_ORDER,
        "symbol": "AAPL",
        "account": ACCOUNT,
        "action": "BUY",
        "totalQuantity": "5",
        "lmtPrice": "100",
    }
    orders = [
        {},
        {"orderType": "MKT", "lmtPrice": ""},
        {"action": "SELL", "lmtPrice": "180"},
        {"orderType": "STP", "auxPrice": "185", "lmtPrice": "0.0"},
        {"tif": "GTD", "goodTillDate": "20301231-15:00:00"},
        {"tif": "IOC", "ocaGroup": "G", "ocaType": "1"},
        {"parentId": "1", "transmit": "0"},
        {"whatIf": "1"},
    ]
    made = [("placeOrder", {**stock, "orderId": str(n + 1), **more}) for n, more in enumerate(orders)]
    made += [
        (name, {"version": "1", "reqId": "1", "orderId": "1"}) for name, _ in REQUESTS.values() if name != "startApi"
    ]
    made += [("reqContractDetails", {"version": "8", "reqId": "2", "symbol": "AAPL", "secType": "STK"})]
    made += [("reqMktData", {"version": "11", "reqId": "3", "symbol": "AAPL", "secType": "STK", "currency": "USD"})]
    fields = [fields_of(encode_request(name, 178, values)[4:]) for name, values in made]
    return [*fields, *([str(number), "1", "1", "1"] for number in UNSERVED)]


class Mutator:
    """Makes inputs. All chance is its own."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._good = good_messages()
        self._seeds = list(self._good)
        self._seen: set[object] = set()

    def fields(self) -> list[str]:
        """The fields of a message, good or spoilt."""
        chance = self.chance
        pool = self._good if chance.random() < 0.5 else self._seeds
        fields = list(chance.choice(pool))
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
            self._spoil(fields)
        return fields

    def _spoil(self, fields: list[str]) -> None:
        chance = self.chance
        at = chance.randrange(len(fields)) if fields else 0
        how = chance.random()
        if how < 0.7 and fields:
            fields[at] = chance.choice(TOKENS) if chance.random() < 0.8 else str(chance.randrange(-5, 200))
        elif how < 0.8 and fields:
            del fields[at]
        elif how < 0.9:
            fields.insert(at, chance.choice(TOKENS))
        elif how < 0.95 and fields:
            other = chance.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        else:
            fields.extend(chance.choice(self._good)[: chance.randrange(20)])

    def payload(self) -> bytes:
        """A message's bytes; some are spoilt as bytes, too."""
        chance = self.chance
        data = bytearray(message(self.fields())[4:])
        if chance.random() < 0.15 and data:
            for _ in range(chance.randrange(1, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.05:
            del data[chance.randrange(len(data) + 1) :]
        return bytes(data)

    def learn(self, fields: list[str], answer: object) -> None:
        """Keeps the input for more mutations if nothing was answered like that before."""
        if answer not in self._seen and len(self._seeds) < MOST_SEEDS:
            self._seen.add(answer)
            self._seeds.append(fields)


class Sink(asyncio.Transport):
    """A connection's other end, that only counts whether it is open and keeps what was written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("fuzz", 1)})
        self.written = bytearray()
        self.shut = False

    def write(self, data: Any) -> None:
        if not self.shut:
            self.written += data

    def is_closing(self) -> bool:
        return self.shut

    def close(self) -> None:
        self.shut = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def taken(self) -> bytes:
        """What was written since the last call."""
        data, self.written = bytes(self.written), bytearray()
        return data


def give(session: Session, data: bytes) -> None:
    """Hands over what the socket brought, and lets it be handled also if the machine stood still meanwhile."""
    session.data_received(data)
    for _ in range(3):
        if session._in._waiting:
            session._in.work()


def codec(payload: bytes, version: int, chance: random.Random) -> object:
    """One input through the codec; returns what it led to. A request that is read is written as it was read."""
    size = chance.randrange(1, len(payload) + 6)
    framed = frame(payload)
    frames = Frames()
    cut = [one for at in range(0, len(framed), size) for one in frames.feed(framed[at : at + size])]
    assert cut == [payload]
    try:
        negotiate(payload)
    except WireError as error:
        refused = str(error)
    else:
        return "handshake"
    try:
        request = decode(payload, version)
    except WireError as error:
        return CODES.sub("", str(error) or refused)
    if "unserved" not in request.fields:
        again = decode(encode_request(request.name, version, request.fields)[4:], version)
        assert again == request
    return request.name


class Round:
    """One gateway with a witness and a client that sends what the mutator makes."""

    def __init__(self, mutator: Mutator, directory: Path) -> None:
        self.chance = mutator.chance
        self.mutator = mutator
        self.settings = Settings(accounts=(ACCOUNT, "DU2"), journal=directory / "journal.jsonl", derivatives=False)
        self.gateway = Gateway(self.settings, KNOWN)
        self.witness, self.seen_by_witness = self._open(99, 178)
        self.client, self.sink = self._open(0, 178)

    def _open(self, client_id: int, version: int) -> tuple[Session, Sink]:
        session, sink = self.gateway.sessions.new(), Sink()
        session.connection_made(sink)
        give(session, PREAMBLE + frame(b"v%d" % version) + message(["71", "2", str(client_id), ""]))
        return session, sink

    def send(self, payload: bytes) -> tuple[tuple[str, str | None], ...]:
        """One input to the gateway; returns what it led to, and sees that all that was told is in the table."""
        self.revive()
        self.sink.taken()
        version = self.client.version
        give(self.client, frame(payload))
        told: list[tuple[str, str | None]] = []
        for one in Frames().feed(self.sink.taken()):
            answer = decode_answer(fields_of(one), version)
            told.append((answer.name, answer.fields.get("code") or answer.fields.get("status")))
        return tuple(told[:6])

    def upset(self) -> None:
        """A fault comes or goes, or the market moves."""
        chance, gateway = self.chance, self.gateway
        name = chance.choice(sorted(set(FAULTS) - {"freeze", "mute", "half_open", "delay"}))
        if chance.random() < 0.5:
            given = {key: self._parameter(name, key, value) for key, value in FAULTS[name].items()}
            try:
                gateway.fault_on(name, given)
            except FaultError:
                gateway.fault_off(name)
        else:
            gateway.fault_off(name)
        for instrument in KNOWN[:3]:
            price = instrument.price * chance.choice((1, 1, Decimal("0.5"), 2))
            gateway.set_prices({instrument.con_id: price}, {instrument.con_id: Decimal(chance.randrange(1, 9))})
        gateway.book.opening.set_by_hand(chance.choice((True, True, False)))
        gateway.flush()

    def revive(self) -> None:
        """Connects again whoever lost the connection."""
        if self.sink.shut:
            self.client.connection_lost(None)
            self.client, self.sink = self._open(self.chance.randrange(3), self.chance.randrange(157, 179))
        if self.seen_by_witness.shut:
            self.witness.connection_lost(None)
            self.witness, self.seen_by_witness = self._open(99, 178)

    def _parameter(self, name: str, key: str, value: object) -> object:
        if (name, key) in CHOICES:
            return self.chance.choice(CHOICES[name, key])
        if isinstance(value, bool):
            return self.chance.random() < 0.5
        if isinstance(value, int):
            return self.chance.randrange(1, 4)
        if key == "exec_id":
            known = list(self.gateway.days.executions(self.gateway.now()))
            return self.chance.choice(known)["exec_id"] if known else "none"
        return "" if isinstance(value, str) else None

    def look(self) -> None:
        """The witness is served as ever."""
        if "pacing" in self.gateway.faults:
            return
        self.seen_by_witness.taken()
        give(self.witness, message(["49", "1"]))
        assert b"49\x001\x00" in self.seen_by_witness.taken(), "the witness is not served any more"

    async def compare(self) -> None:
        """What the journal says is what the gateway knows."""
        await asyncio.sleep(0.01)
        for name in list(self.gateway.faults.active):
            self.gateway.fault_off(name)
        self.gateway.book.opening.set_by_hand(True)
        self.gateway.flush()
        knew = truth(self.gateway)
        self.gateway.close()
        again = Gateway(self.settings, KNOWN)
        again.flush()
        restored = truth(again)
        again.close()
        for one, other in zip(knew, restored, strict=True):
            differs = {
                key: (one.get(key), other.get(key)) for key in {**one, **other} if one.get(key) != other.get(key)
            }
            assert not differs, f"known and restored: {differs}"


def truth(gateway: Gateway) -> tuple[dict[Any, Any], ...]:
    """Open orders, positions, cash and ids."""
    book = gateway.book
    orders = {
        one.perm_id: (one.side, one.quantity, one.filled, one.limit_price, one.aux_price, one.tif, one.order_ref)
        for one in book.orders
    }
    held = {(one.account, one.instrument.con_id): one.quantity for one in book.accounts.positions()}
    cash = {name: round(amount, 6) for name, amount in book.accounts.cash.items()}
    return orders, held, cash, {client: book.ids(client).next_valid for client in (0, 1, 2)}


async def fuzz(seed: int, inputs: int, show: bool = False) -> Counter[str]:
    """Runs so many inputs; returns how many took which way, and how many different answers there were.

    Raises whatever the stand-in raised; the message names the input with which it can be repeated.
    """
    mutator = Mutator(random.Random(seed))
    counts: Counter[str] = Counter()
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: broken.append(context))
    with tempfile.TemporaryDirectory(prefix="ibsim-fuzz-") as directory:
        while counts["inputs"] < inputs:
            number = counts["rounds"] = counts["rounds"] + 1
            await _round(mutator, Path(directory) / str(number), min(ROUND, inputs - counts["inputs"]), counts)
            assert not broken, broken
            if show:
                print(f"\r{counts['inputs']} of {inputs} inputs", end="", file=sys.stderr, flush=True)
    counts["different answers"] = len(mutator._seen)
    return counts


async def _round(mutator: Mutator, directory: Path, inputs: int, counts: Counter[str]) -> None:
    chance = mutator.chance
    one = Round(mutator, directory)
    for number in range(inputs):
        payload = mutator.payload()
        way = "codec" if chance.random() < 0.6 else "gateway"
        try:
            answer = codec(payload, chance.randrange(157, 179), chance) if way == "codec" else one.send(payload)
            if number % 100 == 0:
                one.upset()
                await asyncio.sleep(0)
                one.revive()
                one.look()
        except Exception as error:
            error.add_note(f"input {counts['inputs'] + 1}, {way}: {payload!r}")
            raise
        if payload.endswith(b"\0"):
            mutator.learn(payload.decode(errors="replace").split("\0")[:-1], (way, answer))
        counts["inputs"] += 1
        counts[way] += 1
    await one.compare()


def main() -> int:
    """Runs the command."""
    options = argparse.ArgumentParser(prog="python -m tests.unit.ibsim_fuzzer")
    options.add_argument("--inputs", type=int, default=1_000_000, metavar="N")
    options.add_argument("--seed", type=int, default=1, metavar="N")
    given = options.parse_args()
    start = time.perf_counter()
    counts = asyncio.run(fuzz(given.seed, given.inputs, show=True))
    seconds = time.perf_counter() - start
    print(f"\nno crash: {', '.join(f'{counts[name]} {name}' for name in sorted(counts))}; {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
