"""The HTTP server on a real socket: hostile bodies, methods, pages of others, rate limits, tokens."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import jwt
import pytest
from loguru import logger

from engine import http as room
from engine.auth import Access
from engine.door import Door
from engine.errors import Problem
from engine.http import MAX_BODY, PortBusy, Request, Response, Server
from engine.request import parse_order
from ha.local.ports import Ports
from tests.integration.pair_fixture import Answer, ask

SECRET = "s" * 32
PAGE = "https://desk.example"
ORDER = {"client_order_id": "k", "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "MKT"}


class Running:
    """A server with one path for orders and one that says who asks."""

    def __init__(self, door: Door | None = None, *secrets: str) -> None:
        self.access = Access(secrets)
        self.seen: list[tuple[str, str, int]] = []
        self.server = Server(lambda method, path, status, _: self.seen.append((method, path, status)), door)
        self.server.route("POST", "/api/v1/orders", self.place)
        self.server.route("GET", "/api/v1/orders/{id}", self.who)
        self.server.route("GET", "/livez", self.who)
        self.server.route("GET", "/api/v1/broken", self.broken)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = Ports.free().a
        self.url = f"http://127.0.0.1:{self.port}"

    async def place(self, request: Request) -> Response:
        return Response(201, {"accepted": parse_order(request.json()).canonical()})

    async def who(self, request: Request) -> Response:
        asker = self.access.asker(request, "trader")
        return Response(
            200, {"subject": asker.subject, "correlation_id": asker.correlation_id, "id": request.params.get("id")}
        )

    async def broken(self, request: Request) -> Response:
        logger.info("about to break")
        raise KeyError("a defect with a secret in it")

    def run(self, *ports: int) -> None:
        asyncio.run_coroutine_threadsafe(self.server.start("127.0.0.1", list(ports)), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def post(self, body: object, **headers: str) -> Answer:
        return ask(self.url, "POST", "/api/v1/orders", body, headers)

    def get(self, path: str = "/api/v1/orders/X", **headers: str) -> Answer:
        return ask(self.url, "GET", path, None, headers)


@contextmanager
def running(door: Door | None = None, *secrets: str) -> Iterator[Running]:
    made = Running(door, *secrets)
    try:
        made.run(made.port)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Door(None, (PAGE,))) as made:
        yield made


def raw(port: int, data: bytes) -> bytes:
    """Send bytes and read the answer's head."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        return connection.recv(65536)


# ---- bodies


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[1,", b"\x00", b'{"a": "\x00"}', b"\xff\xfe", b'{"symbol": "\xe9"}', b"NaN", b'{"quantity": NaN}',
        b'{"quantity": -Infinity}', b"[" * 30_000, b'{"a":' * 10_000, b"1" * 5_000, b"\xef\xbb\xbf{}", b"'a'",
        b'{"quantity": "1", "quantity": "1000"}', b'{"a": 01}', "{}".encode("utf-16"), b"{} {}",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_json_is_malformed(server: Running, body: bytes) -> None:
    answer = server.post(body)
    assert (answer.status, answer.problem) == (400, "malformed")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"[{}]", b'"order"', b"1", b"true"])
def test_json_that_is_no_object_is_refused(server: Running, body: bytes) -> None:
    answer = server.post(body)
    assert (answer.status, answer.problem, answer.fields) == (422, "invalid-order", {"body"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity", b"1e400"), ("quantity", b"10.5"), ("quantity", b"1" * 4000), ("quantity", b"-1"), ("quantity", b"[]"),
        ("quantity", b'"1_0"'), ("quantity", '"１０"'.encode()), ("quantity", b'" 1"'), ("quantity", b'"1e99999999999999999999"'),
        ("quantity", b"true"), ("client_order_id", b"1.5"), ("client_order_id", b"7"), ("client_order_id", b'"\\u0000"'),
        ("client_order_id", b'"\\ud800"'), ("symbol", b"1.5"), ("symbol", b'{"a": 1}'), ("side", b"[]"), ("side", b"null"),
        ("order_type", b"0"), ("account", b'"DU\\u0000"'), ("outside_rth", b'"yes"'), ("outside_rth", b"1"),
        ("valid_until", b"1700000000"), ("valid_until", b'"20250131"'), ("valid_until", b'"0001-01-01T00:00:00+14:00"'),
        ("valid_until", b'"9999-12-31T23:59:59-12:00"'), ("no_such_field", b"1"), ("con_id", b'"265598"'), ("con_id", b"0"),
    ],
)  # fmt: skip
def test_wrong_type_or_impossible_value_names_its_field(server: Running, field: str, value: bytes) -> None:
    rest = b",".join(f'"{k}": "{v}"'.encode() for k, v in ORDER.items() if k != field)
    answer = server.post(b"{" + rest + b', "' + field.encode() + b'": ' + value + b"}")
    assert (answer.status, answer.problem, answer.fields) == (422, "invalid-order", {field})


def test_hostile_field_name_does_no_harm(server: Running) -> None:
    for name in (b"\\ud800", b"", b"a.b", b"x" * 60_000):
        answer = server.post(b'{"' + name + b'": 1}')
        assert (answer.status, answer.problem) == (422, "invalid-order")


def test_body_may_have_64_kilobytes_and_not_one_byte_more(server: Running) -> None:
    small = b'{"a": "' + b"x" * (MAX_BODY - 9) + b'"}'
    assert len(small) == MAX_BODY
    assert server.post(small).status == 422, "it is read"
    large = server.post(small + b" ")
    assert (large.status, large.problem) == (413, "too-large")


def test_announced_length_is_refused_before_it_is_sent(server: Running) -> None:
    head = b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"
    assert raw(server.port, head).startswith(b"HTTP/1.1 413 ")


def test_endless_body_is_refused(server: Running) -> None:
    head = b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    assert raw(server.port, head + chunk * 3).startswith(b"HTTP/1.1 413 ")


def test_body_that_does_not_come_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BODY_DEADLINE", 0.2)
    for head in (b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"):
        answer = raw(server.port, b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\n" + head)
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert server.post(ORDER).status == 201, "others are served"


# ---- methods and paths


def test_head_answers_like_get_without_a_body(server: Running) -> None:
    answer = ask(server.url, "HEAD", "/livez")
    assert (answer.status, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(server.get("/livez").content)


def test_options_names_the_methods(server: Running) -> None:
    assert ask(server.url, "OPTIONS", "/livez").headers["allow"] == "GET, HEAD, OPTIONS"
    answer = ask(server.url, "OPTIONS", "/api/v1/orders/X")
    assert (answer.status, answer.headers["allow"], answer.content) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PROPFIND"])
def test_method_that_is_not_served_is_refused_with_those_that_are(server: Running, method: str) -> None:
    answer = ask(server.url, method, "/api/v1/orders/X")
    assert (answer.status, answer.problem, answer.headers["allow"]) == (405, "method-not-allowed", "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    "path",
    ["/", "/api/v1/order", "/api/v1/orders/", "/api/v1/orders/a/b", "/api/v1/orders/%7B", "/%00", "/%0d%0aX: y", "/é"],
)
def test_path_that_is_not_there_is_a_problem_too(server: Running, path: str) -> None:
    answer = ask(server.url, "GET", quote(path, safe="/%"))
    assert (answer.status, answer.problem) == (404, "no-such-path")


def test_where_tokens_come_from_is_said(server: Running) -> None:
    answer = ask(server.url, "POST", "/api/v1/auth/token", {})
    assert (answer.status, "adapter token" in answer.json["detail"]) == (404, True)


def test_defect_is_an_answer_that_tells_nothing_but_its_correlation_id(server: Running) -> None:
    answer = server.get("/api/v1/broken")
    assert (answer.status, answer.problem) == (500, "internal")
    assert b"secret" not in answer.content


def test_labels_of_the_metrics_are_bounded(server: Running) -> None:
    ask(server.url, "PROPFIND", "/some/path/of/theirs")
    server.get("/api/v1/orders/ONE")
    assert server.seen[-2:] == [("other", "", 404), ("GET", "/api/v1/orders/{id}", 200)]


def test_busy_port_is_named(server: Running) -> None:
    second = Running()
    try:
        with pytest.raises(PortBusy, match=rf"Port {server.port} on 127\.0\.0\.1 .* HTTP_PORT"):
            second.run(server.port)
    finally:
        second.close()


# ---- correlation ids


def test_correlation_id_of_the_client_is_kept(server: Running) -> None:
    answer = server.get(**{"X-Correlation-ID": "run-7:42"})
    assert (answer.headers["x-correlation-id"], answer.json["correlation_id"]) == ("run-7:42", "run-7:42")


def test_correlation_id_stands_in_every_log_line_of_its_request(server: Running) -> None:
    said: list[tuple[str | None, str]] = []
    sink = logger.add(lambda m: said.append((m.record["extra"].get("correlation_id"), m.record["message"])), level=0)
    try:
        for i in range(3):
            server.get("/api/v1/broken", **{"X-Correlation-ID": f"run-{i}"})
        logger.info("of nobody's request")
    finally:
        logger.remove(sink)
    for i in range(3):
        mine = [message for correlation_id, message in said if correlation_id == f"run-{i}"]
        assert mine == ["about to break", "unhandled in GET /api/v1/broken"]
    assert said[-1] == (None, "of nobody's request")


@pytest.mark.parametrize("given", ["", "a b", "ä", "x" * 65, "a\tb", "<script>"])
def test_other_correlation_id_is_replaced(server: Running, given: str) -> None:
    made = server.get(**{"X-Correlation-ID": given}).headers["x-correlation-id"]
    assert made != given
    assert len(made) == 36


# ---- pages of others


def test_allowed_page_may_read_the_answer(server: Running) -> None:
    answer = server.get(Origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert server.post(ORDER, Origin=PAGE).status == 201
    asked = ask(server.url, "OPTIONS", "/api/v1/orders/X", None, {"Origin": PAGE})
    assert (asked.status, "Authorization" in asked.headers["access-control-allow-headers"]) == (204, True)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://desk.example.evil", "HTTPS://DESK.EXAMPLE", "*"]
)
def test_other_page_can_neither_read_nor_place(server: Running, origin: str) -> None:
    assert "access-control-allow-origin" not in server.get(Origin=origin).headers
    answer = server.post(ORDER, Origin=origin)
    assert (answer.status, answer.problem) == (403, "origin")
    assert "access-control-allow-origin" not in answer.headers


# ---- rate limits


def test_rate_limit_is_429_with_when_to_come_back() -> None:
    with running(Door(3)) as server:
        assert [server.post(ORDER).status for _ in range(4)] == [201, 201, 201, 429]
        refused = server.post(ORDER)
        assert (refused.problem, 1 <= int(refused.headers["retry-after"]) <= 60) == ("rate-limit", True)
        assert server.get("/livez").status == 200, "probes answer when everything else is refused"


def test_token_has_its_own_limit_beside_the_address() -> None:
    door = Door(2)
    for remote in ("10.0.0.1", "10.0.0.2"):
        door.check("GET", "/api/v1/orders", remote, {"Authorization": "Bearer t"}, 0.0)
    with pytest.raises(Problem) as caught:
        door.check("GET", "/api/v1/orders", "10.0.0.3", {"Authorization": "Bearer t"}, 1.0)
    assert (caught.value.status, caught.value.retry_after) == (429, 60)
    door.check("GET", "/api/v1/orders", "10.0.0.3", {"Authorization": "Bearer other"}, 1.0)


# ---- tokens


def token(secret: str = SECRET, **claims: object) -> str:
    return jwt.encode({"sub": "s1", "role": "trader", "exp": 4_000_000_000} | claims, secret, algorithm="HS256")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    with running(Door(10_000), SECRET, "o" * 32) as made:
        yield made


def test_token_names_the_subject(guarded: Running) -> None:
    assert guarded.get(Authorization=f"Bearer {token()}").json["subject"] == "s1"
    assert guarded.get(Authorization=f"bearer  {token(sub='s2', role='operator')}").json["subject"] == "s2"
    assert guarded.get(Authorization=f"Bearer {token('o' * 32)}").status == 200, (
        "the second key, while keys are rotated"
    )


def test_viewer_may_not_trade(guarded: Running) -> None:
    answer = guarded.get(Authorization=f"Bearer {token(role='viewer')}")
    assert (answer.status, answer.problem) == (403, "role")


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer x", "Bearer a.b.c", "Bearer " + "x" * 5000, "Bearer é",
        "Bearer \xff\xfe", "Bearer " + token("w" * 32), "Bearer " + token(exp=1), "Bearer " + token(exp="never"),
        "Bearer " + token(sub=""), "Bearer " + token(sub="x" * 65), "Bearer " + token(sub="a\x00b"), "Bearer " + token(sub="a b"),
        "Bearer " + token(role="admin"), "Bearer " + token(role=None), "Bearer " + token(role=["trader"]),
        "Bearer " + jwt.encode({"sub": "s1", "role": "trader", "exp": 4_000_000_000}, None, algorithm="none"),
        "Bearer " + jwt.encode({"sub": "s1", "role": "trader"}, SECRET, algorithm="HS256"),
        "Bearer " + jwt.encode({"sub": "s1", "role": "trader", "exp": 4_000_000_000}, SECRET * 2, algorithm="HS512"),
    ],
)  # fmt: skip
def test_anything_but_a_good_token_is_401(guarded: Running, header: str) -> None:
    request = (
        b"GET /api/v1/orders/X HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: "
        + header.encode("latin-1")
        + b"\r\n\r\n"
    )
    answer = raw(guarded.port, request)
    assert answer.startswith(b"HTTP/1.1 401 "), answer
    assert b"WWW-Authenticate: Bearer" in answer
    assert b"urn:adapter:unauthorized" in answer


def test_expired_token_says_so(guarded: Running) -> None:
    assert "expired" in guarded.get(Authorization=f"Bearer {token(exp=1)}").json["detail"]
