"""The OpenAPI 3.1 description of what is served, made from the models that validate and from a table that each room hands over.

A room's table stands beside its handlers and knows nothing of the others; a test compares all tables with the registered paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from engine.http import Request, Response, Server

PATH = "/api/v1/openapi.json"
_REF = "#/components/schemas/{model}"

Schema = dict[str, Any]


class WrongField(BaseModel):
    """One wrong field of a request."""

    field: str
    message: str


class ProblemAnswer(BaseModel):
    """What every refusal looks like (RFC 9457)."""

    type: Annotated[str, Field(pattern="^urn:adapter:[a-z0-9-]+$", description="Stable; what a program goes by.")]
    title: str
    status: int
    detail: Annotated[str, Field(description="A sentence for people.")]
    errors: Annotated[
        list[WrongField], Field(default_factory=list, description="Which fields are wrong, where any is.")
    ]
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query or the head of a request."""

    name: str
    text: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    where: str = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `role` None = no token is asked for; a model of None = an answer without a body.

    `problems`: the statuses of refusals beside those that every operation may answer with.
    """

    summary: str
    role: str | None
    answers: Mapping[int, type[BaseModel] | None]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: tuple[Parameter, ...] = ()
    media: str = "application/json"


Operations = Mapping[tuple[str, str], Operation]
"""By method and path, as they are registered."""

WHOLE: Schema = {"type": "integer", "minimum": 0}
AFTER = Parameter("after", "Only what came after this event of the log.", {**WHOLE, "maximum": 1 << 62})
LIMIT = Parameter("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 1000})
HOP = Parameter("hop", "Set by a redirect: who does not lead answers 503 instead of another one.", {"const": "1"})


def describe(operations: Operations, version: str) -> Schema:
    """The whole document. Pure."""
    used = [(m, "validation") for o in operations.values() if (m := o.body) is not None]
    used += [(m, "serialization") for o in operations.values() for m in o.answers.values() if m is not None]
    used.append((ProblemAnswer, "serialization"))
    names, definitions = models_json_schema(list(dict.fromkeys(used)), ref_template=_REF)  # type: ignore[arg-type]
    paths: dict[str, Schema] = {}
    for (method, path), operation in operations.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Platform Adapter", "version": version,
            "description": "Orders for Interactive Brokers, through a fenced pair of replicas. GET serves HEAD and OPTIONS too.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }  # fmt: skip


def _operation(method: str, path: str, o: Operation, names: Mapping[Any, Schema]) -> Schema:
    made: Schema = {
        "operationId": f"{method.lower()} {path}", "summary": o.summary,
        "security": [] if o.role is None else [{"token": [o.role]}],
        "parameters": [*_path_parameters(path), *(_parameter(p) for p in o.query), _CORRELATION],
        "responses": {},
    }  # fmt: skip
    if o.body is not None:
        content = {"application/json": {"schema": names[o.body, "validation"]}}
        made["requestBody"] = {"required": o.body_required, "content": content}
    for status, model in o.answers.items():
        made["responses"][str(status)] = _answer(
            status, o.media, None if model is None else names[model, "serialization"]
        )
    for status in sorted({*o.problems, *_common(path, o)} - set(o.answers)):
        refusal = _answer(status, "application/problem+json", names[ProblemAnswer, "serialization"])
        if status in (429, 503, 504):
            refusal["headers"]["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
        made["responses"][str(status)] = refusal
    return made


def _common(path: str, o: Operation) -> Iterable[int]:
    """Refusals that are not the handler's: who asks, how often, from which page, with what a body."""
    if path.startswith("/api/"):
        yield 429
    if o.role is not None:
        yield from (401, 403)
    if o.body is not None:
        yield from (400, 403, 408, 413, 422)


_CORRELATION: Schema = {
    "name": "X-Correlation-ID", "in": "header", "required": False,
    "description": "Stands in every log line, event and refusal of this request; made where it is left out.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
}  # fmt: skip


def _path_parameters(path: str) -> list[Schema]:
    found = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in found
    ]


def _parameter(p: Parameter) -> Schema:
    return {"name": p.name, "in": p.where, "required": False, "description": p.text, "schema": p.schema}


def _answer(status: int, media: str, schema: Schema | None) -> Schema:
    made: Schema = {
        "description": HTTPStatus(status).phrase,
        "headers": {"X-Correlation-ID": {"schema": {"type": "string"}}},
    }
    if schema is not None:
        made["content"] = {media: {"schema": schema}}
    if status in (201, 307):
        made["headers"]["Location"] = {"schema": {"type": "string"}}
    return made


class Description:
    """`GET /api/v1/openapi.json`; made once, when somebody first asks."""

    def __init__(self, version: str, *tables: Operations) -> None:
        self._version, self._tables = version, (*tables, OPERATIONS)
        self._text: str | None = None

    def register(self, server: Server) -> None:
        """The one path."""
        server.route("GET", PATH, self.document)

    async def document(self, _request: Request) -> Response:
        """The description. Needs no token: it says nothing about anybody's orders."""
        if self._text is None:
            merged = {where: what for table in self._tables for where, what in table.items()}
            self._text = json.dumps(describe(merged, self._version), separators=(",", ":"))
        return Response(200, self._text)


class Document(BaseModel):
    """This description."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


OPERATIONS: Operations = {("GET", PATH): Operation("This description.", None, {200: Document})}
