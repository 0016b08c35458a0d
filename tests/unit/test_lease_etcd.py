"""The door to etcd: failures of both kinds are classified by what they prove."""

from __future__ import annotations

from typing import Any

import pytest

from ha import lease_etcd
from ha.etcd_members import Verdict
from ha.lease_etcd import error_of

DOOR: Any = lease_etcd  # the only module that may import gRPC and etcd3


class Failure(DOOR.grpc.RpcError):  # type: ignore[misc]
    """A failed call, as gRPC raises it."""

    def __init__(self, code: str, details: str | None) -> None:
        super().__init__()
        self._code, self._details = getattr(DOOR.grpc.StatusCode, code), details

    def code(self) -> object:
        return self._code

    def details(self) -> str | None:
        return self._details


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (Failure("UNAVAILABLE", "no leader"), Verdict.LEAVE, "UNAVAILABLE: no leader"),
        (Failure("DEADLINE_EXCEEDED", None), Verdict.LEAVE, "DEADLINE_EXCEEDED"),
        (Failure("UNAUTHENTICATED", "invalid auth token"), Verdict.TOKEN, "UNAUTHENTICATED: invalid auth token"),
        (Failure("NOT_FOUND", "requested lease not found"), Verdict.NO_LEASE, "NOT_FOUND: requested lease not found"),
        (DOOR.grpc.RpcError("bare"), Verdict.LEAVE, "UNKNOWN: bare"),
        (DOOR.etcd_exceptions.ConnectionFailedError(), Verdict.LEAVE, "UNAVAILABLE"),
        (DOOR.etcd_exceptions.ConnectionTimeoutError(), Verdict.LEAVE, "DEADLINE_EXCEEDED"),
        (DOOR.etcd_exceptions.InternalServerError(), Verdict.LEAVE, "INTERNAL"),
        (DOOR.etcd_exceptions.PreconditionFailedError(), Verdict.REFUSED, "FAILED_PRECONDITION"),
        (DOOR.etcd_exceptions.Etcd3Exception("odd"), Verdict.LEAVE, "UNKNOWN: odd"),
    ],
)
def test_a_failure_proves_what_its_code_says_and_no_more(error: Exception, verdict: Verdict, reason: str) -> None:
    found = error_of(error)
    assert found.verdict is verdict
    assert found.reason.startswith(reason)


def test_pings_are_rarer_than_etcd_answers_with_goaway_and_a_dead_peer_is_noticed() -> None:
    options = dict(DOOR._OPTIONS)
    assert options["grpc.keepalive_time_ms"] >= 6000
    assert options["grpc.keepalive_permit_without_calls"] == 0
    assert options["grpc.http2.ping_timeout_ms"] == 3000
    assert DOOR.TOKEN_LIFE < 300
