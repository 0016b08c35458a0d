"""The description says what is served: every registered path is in it, and what the views make fits its models."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import Mock

import pytest
import schemathesis
from pydantic import BaseModel

from engine import api_paths, openapi, view_models, views
from engine.account import Accounts
from engine.api import Api
from engine.audit import Audit
from engine.auth import Access
from engine.book import Book
from engine.event_stream import EventStream
from engine.events import Kind
from engine.http import Server
from engine.openapi import Description, Operation, describe
from engine.request import ChangeRequest, OrderRequest
from ha import paths
from ha.health import Health
from ha.operate import Operate, OperateRules
from ha.resolve import Resolve
from tests.unit.book_factory import Ledger

TABLES = (api_paths.OPERATIONS, paths.OPERATIONS, openapi.OPERATIONS)
EVERYTHING = {where: operation for table in TABLES for where, operation in table.items()}
DOCUMENT = describe(EVERYTHING, "1.2.3")


def registered() -> set[tuple[str, str]]:
    """What the rooms hang on the server, without a replica behind it."""
    server = Server()
    Api(Book(), Mock(), Mock(), Access(), Mock(), Mock()).register(server)
    Operate(Mock(), Mock(), Access(), Mock(), OperateRules()).register(server)
    Resolve(Mock(), Access(), Mock(), Mock()).register(server)
    Health(Mock(), Mock(), Mock(), Access(), Mock(), cluster="c", pid=1, lag_limit=1.0).register(server)
    EventStream(Book(), "", "a", Access()).register(server)
    Audit("", "a", Access()).register(server)
    Accounts(Mock(), Book(), Mock(), Access(), Mock()).register(server)
    Description("1").register(server)
    return set(server.served)


def test_every_registered_path_is_described_and_nothing_else() -> None:
    assert set(EVERYTHING) == registered()
    assert len(EVERYTHING) == sum(len(table) for table in TABLES), "two rooms describe the same path"


def test_document_is_a_valid_description() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(refs, value.values()))
    return set().union(*map(refs, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere() -> None:
    there = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert refs(DOCUMENT) <= there
    assert DOCUMENT["openapi"] == "3.1.0"


@pytest.mark.parametrize("where", EVERYTHING, ids=" ".join)
def test_operation_says_who_may_ask_and_what_a_refusal_looks_like(where: tuple[str, str]) -> None:
    operation, made = EVERYTHING[where], DOCUMENT["paths"][where[1]][where[0].lower()]
    assert made["security"] == ([] if operation.role is None else [{"token": [operation.role]}])
    assert {p["name"] for p in made["parameters"] if p["in"] == "path"} == set(re.findall(r"{(\w+)}", where[1]))
    statuses = {int(status) for status in made["responses"]}
    assert statuses & {200, 201, 202}
    if operation.role is not None:
        assert statuses >= {401, 403, 429}
    for status in statuses - set(operation.answers):
        assert list(made["responses"][str(status)]["content"]) == ["application/problem+json"]
    assert 500 not in statuses


def test_bodies_are_described_by_the_models_that_validate_them() -> None:
    assert EVERYTHING["POST", "/api/v1/orders"].body is OrderRequest
    assert EVERYTHING["PATCH", "/api/v1/orders/{id}"].body is ChangeRequest
    schema = DOCUMENT["components"]["schemas"]["OrderRequest"]
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"client_order_id", "side", "quantity", "order_type"}
    assert [kind["type"] for kind in schema["properties"]["quantity"]["anyOf"]] == ["string", "integer"], (
        "a float is refused"
    )


def test_views_answer_with_the_fields_that_are_described() -> None:
    ledger = Ledger()
    ledger.session(1)
    oid = ledger.working()
    ledger.fill(oid)
    opened = {"id": "b", "kind": "position", "symbol": "AAPL", "account": "", "holds": True, "ours": {}, "broker": {}}
    ledger.add(Kind.BREAK_OPENED, None, **opened)
    [execution], [position], [found] = (
        list(kept.values()) for kept in (ledger.book.executions, ledger.book.positions, ledger.book.breaks)
    )
    made: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (view_models.OrderAnswer, views.order(ledger.book.orders[oid])),
        (view_models.ExecutionAnswer, views.execution(execution, "k1")),
        (view_models.PositionAnswer, views.position(position, None, None)),
        (view_models.BreakAnswer, views.found_break(found)),
    ]
    for model, view in made:
        assert set(view) == {f.alias or name for name, f in model.model_fields.items()}, "describe what is answered"
        model.model_validate(view)


def test_an_operation_without_a_table_is_noticed() -> None:
    server = Server()
    server.route("GET", "/api/v1/new", Mock())
    assert not set(server.served) <= set(EVERYTHING)
    assert isinstance(EVERYTHING["GET", "/livez"], Operation)
