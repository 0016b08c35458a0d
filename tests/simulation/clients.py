"""Strategies: each order is asked for under one key at either replica, again and again, until somebody says what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from engine.http import Response
from engine.reference import order_id
from tests.simulation.server import make_request
from tests.simulation.world import World

SYMBOLS = ("AAPL", "MSFT", "IBM", "KO", "T", "GE", "F", "XOM")
ORDERS = "/api/v1/orders"
PATIENCE = 2.5  # seconds for one answer


@dataclass(slots=True)
class Wish:
    """One order of a strategy, and what it was told."""

    key: str
    id: str
    body: dict[str, Any]
    answers: list[str] = field(default_factory=list)
    acknowledged: bool = False  # 2xx
    ambiguous: bool = False  # an attempt ended without a word, or with 504
    given_up: str | None = None


class Clients:
    """All of them. `wishes` is what the judge goes through at the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wishes: list[Wish] = []
        self.busy = 0
        self.patient = True  # while there are faults, and some time after

    def start(self, how_many: int, until: float, gap: float) -> None:
        """So many strategies, each with a new order about every `gap` seconds until the time `until`."""
        for number in range(how_many):
            self.busy += 1
            self._world.spawn(self._strategy(number, until, gap), f"strategy {number}")

    async def _strategy(self, number: int, until: float, gap: float) -> None:
        chance, tasks = self._world.chance, []
        count = 0
        while self._world.now < until:
            await asyncio.sleep(gap * 2 * chance.random())
            count += 1
            wish = self._wish(f"s{number}-{count}")
            self.wishes.append(wish)
            tasks.append(self._world.spawn(self._order(wish), wish.key))
        if tasks:
            await asyncio.wait(tasks)
        self.busy -= 1

    def _wish(self, key: str) -> Wish:
        chance = self._world.chance
        body: dict[str, Any] = {
            "client_order_id": key, "symbol": chance.choice(SYMBOLS), "side": chance.choice(("BUY", "SELL")),
            "quantity": str(chance.randint(1, 9) * 2), "order_type": "LMT", "limit_price": "10.5",
        }  # fmt: skip
        if chance.random() < 0.3:
            body["order_type"] = "MKT"
            del body["limit_price"]
        return Wish(key, order_id("desk1", "local", key), body)

    async def _order(self, wish: Wish) -> None:
        chance, world = self._world.chance, self._world
        target, url = chance.choice("ab"), ORDERS
        while not wish.acknowledged and wish.given_up is None:
            answer = await self.ask(target, "POST", url, wish.body)
            target, url = self._next(wish, answer, target)
            if not wish.acknowledged:
                await asyncio.sleep(chance.uniform(0.02, 0.3))
        if wish.acknowledged and chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            await self._look_again(wish)
        if wish.acknowledged and chance.random() < 0.2:
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            answer = await self._follow("DELETE", f"/api/v1/orders/{wish.id}")
            world.say(wish.key, f"asks for a cancel: {_status(answer)}")

    def _next(self, wish: Wish, answer: Response | None, target: str) -> tuple[str, str]:
        """Take the answer in; whom to ask next, and for what."""
        status = _status(answer)
        wish.answers.append(f"{self._world.now:.3f} {target} {status}")
        self._world.say(wish.key, f"asked {target}: {status} {_detail(answer)}")
        other = "b" if target == "a" else "a"
        if answer is None or status == 504:
            wish.ambiguous = True
            return other, ORDERS
        if status in (200, 201):
            wish.acknowledged = True
            if status == 200 and not wish.ambiguous:
                self._world.judge.violated("API", f"{wish.key} was never accepted before: {', '.join(wish.answers)}")
            self._check(wish, answer)
        elif status == 307:
            place = urlsplit(answer.headers["Location"])
            return str(place.hostname), f"{place.path}?{place.query}"
        elif status == 503:
            if not self.patient:
                wish.given_up = _detail(answer)
            return other, ORDERS
        else:
            wish.given_up = f"{status} {_detail(answer)}"
            self._world.judge.violated("API", f"{wish.key} was answered {status}: {answer.body}")
        return target, ORDERS

    def _check(self, wish: Wish, answer: Response) -> None:
        """G3 begins here: an order answered 2xx is durable, under its own id and body; unless the database went back just then."""
        body, judge = answer.body, self._world.judge
        if body["id"] != wish.id or body["client_order_id"] != wish.key or body["symbol"] != wish.body["symbol"]:
            judge.violated("API", f"{wish.key} was answered with another order: {body}")
        if not self._world.database.by_order.get(wish.id) and wish.id not in self._world.database.lost:
            judge.violated("G3", f"{wish.key} was answered {answer.status}, and the ledger does not have it")

    async def _look_again(self, wish: Wish) -> None:
        """R36: nobody says 404 of what was acknowledged."""
        answer = await self.ask(self._world.chance.choice("ab"), "GET", f"/api/v1/orders/{wish.id}")
        lost = wish.id in self._world.database.lost
        if answer is not None and answer.status not in (200, 307, 503) and not lost:
            self._world.judge.violated("R36", f"{wish.key} was acknowledged, and then looked for: {answer.status}")

    async def _follow(self, method: str, url: str) -> Response | None:
        """A request to either replica, and once more where that one sends it."""
        answer = await self.ask(self._world.chance.choice("ab"), method, url)
        if answer is None or answer.status != 307:
            return answer
        place = urlsplit(answer.headers["Location"])
        return await self.ask(str(place.hostname), method, f"{place.path}?{place.query}")

    async def ask(self, replica: str, method: str, url: str, body: Any = None) -> Response | None:
        """One request; None when there was no answer, whatever became of it."""
        return await ask(self._world, replica, method, url, body)


async def ask(world: World, replica: str, method: str, url: str, body: Any = None) -> Response | None:
    """One request to a replica; None when there was no answer, whatever became of it."""
    answered: asyncio.Future[Response | None] = world.loop.create_future()

    def settle(value: Response | None) -> None:
        if not answered.done():
            answered.set_result(value)

    def arrive() -> None:
        process = world.replicas[replica].running
        if process is None or process.state is None:
            settle(None)
            return
        process.on_end.append(lambda: settle(None))
        work = process.server.handle(make_request(method, url, body))
        task = world.loop.create_task(work, context=process.owner.context.copy())
        task.add_done_callback(lambda done: settle(done.result()), context=process.owner.context)

    world.after(world.chance.uniform(0.0002, 0.002), arrive)
    try:
        async with asyncio.timeout(PATIENCE):
            return await answered
    except TimeoutError:
        return None


def _status(answer: Response | None) -> int | None:
    return answer.status if answer is not None else None


def _detail(answer: Response | None) -> str:
    if answer is None or not isinstance(answer.body, dict):
        return ""
    return str(answer.body.get("detail") or answer.body.get("state") or "")
