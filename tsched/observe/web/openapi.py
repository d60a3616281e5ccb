"""The OpenAPI document, made from the very table that is served."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tsched import __version__
from tsched.observe.status import Status
from tsched.observe.web.api import LOOKS, PREFIX, REVISION, Alive, Look, Parameter, Ready, Refusal, Taken, Wished
from tsched.observe.web.hooks import KINDS
from tsched.validate.schema import schema_of

Json = dict[str, Any]
_REF = "#/components/schemas/{name}"
_TYPES: tuple[object, ...] = (*(one.gives for one in LOOKS), Alive, Ready, Refusal, Taken, Wished)
READS: list[Json] = [{}, {"token": []}, {"password": []}]  # on loopback nothing has to be shown
WRITES: list[Json] = [{"token": []}]


def openapi() -> Json:
    """The whole API as OpenAPI 3.1."""
    schemas, components = msgspec.json.schema_components(
        [one for one in _TYPES if one not in (str, Status)], ref_template=_REF
    )
    named = dict(zip((repr(one) for one in _TYPES if one not in (str, Status)), schemas, strict=True))
    named[repr(Status)] = {"$ref": _REF.format(name="Status")}
    status = {key: value for key, value in schema_of("status").items() if key not in ("$schema", "$id")}
    paths: dict[str, Json] = {PREFIX + one.path: {"get": _look(one, named)} for one in LOOKS}
    paths |= _others(named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tsched", "version": __version__, "description": "The runner of a fleet of agents."},
        "paths": paths,
        "components": {
            "schemas": {**components, "Status": status},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "TSCHED_SERVE_TOKEN"},
                "password": {"type": "http", "scheme": "basic", "description": "the same as any user's password"},
            },
        },
    }


def _look(look: Look, named: Json) -> Json:
    content = {"text/plain": {"schema": {"type": "string"}}}
    if look.gives is not str:
        content = {"application/json": {"schema": named[repr(look.gives)]}}
    refusals = [*([400] if look.parameters else []), 401, *([404] if look.missing else []), 503]
    return {
        "summary": look.what,
        "operationId": look.path.strip("/").replace("/", "_").replace("{run_id}", "one"),
        "parameters": [_parameter(one) for one in look.parameters],
        "responses": {"200": {"description": "What was asked for", "content": content}, **_refused(refusals, named)},
        "security": READS,
    }


def _parameter(one: Parameter) -> Json:
    schema: Json = (
        {"type": "string", "pattern": one.pattern}
        if one.pattern
        else {"type": "integer", "minimum": one.least, "maximum": one.most}
    )
    if one.default is not None:
        schema["default"] = one.default
    where = "path" if one.in_path else "query"
    return {"name": one.name, "in": where, "required": one.in_path, "description": one.what, "schema": schema}


def _refused(statuses: Iterable[int], named: Json) -> Json:
    words = {400: "The request is wrong", 401: "A token is needed", 403: "Writing is off", 404: "It is not there",
             409: "It can't be done now", 413: "The body is too large", 503: "Not just now"}  # fmt: skip
    content = {"application/json": {"schema": named[repr(Refusal)]}}
    return {str(one): {"description": words[one], "content": content} for one in statuses}


def _others(named: Json) -> Json:
    """What is not an answer to a question: wishes, hooks, health, metrics, and this document."""

    def gives(kind: object, what: str) -> Json:
        return {"description": what, "content": {"application/json": {"schema": named[repr(kind)]}}}

    def operation(name: str, what: str, responses: Json, **more: object) -> Json:
        return {"operationId": name, "summary": what, "responses": responses, "security": [], **more}

    wished = {"202": gives(Wished, "A pass runs as soon as possible"), **_refused((401, 403, 503), named)}
    alive = {"200": gives(Alive, "It answers")}
    paths: Json = {
        f"{PREFIX}/sync": {"post": operation("sync", "Have a pass run at once.", wished, security=WRITES)},
        f"{PREFIX}/accept/{{revision}}": {
            "post": operation(
                "accept", "Agree to the held revision.", wished | _refused((404, 409), named), security=WRITES,
                parameters=[_parameter(REVISION)],
            )
        },
        "/health": {"get": operation("health", "Whether this server answers.", alive)},
        "/healthz": {"get": operation("healthz", "Whether this server answers.", alive)},
        "/readyz": {
            "get": operation(
                "readyz", "Whether the runner's passes are on time.",
                {"200": gives(Ready, "They are"), "503": gives(Ready, "They are not: `reason`")},
            )
        },
        "/metrics": {
            "get": operation(
                "metrics", "Prometheus metrics.",
                {"200": {"description": "The exposition", "content": {"text/plain": {"schema": {"type": "string"}}}},
                 **_refused((401, 503), named)},
                security=READS,
            )
        },
        "/openapi.json": {
            "get": operation(
                "openapi", "This document.",
                {"200": {"description": "OpenAPI", "content": {"application/json": {"schema": {"type": "object"}}}},
                 **_refused((401,), named)},
                security=READS,
            )
        },
    }  # fmt: skip
    for kind, hook in KINDS.items():
        taken = {"200": gives(Taken, "A ping"), "202": gives(Taken, "What became of it")}
        body = {"required": False, "content": {"application/json": {"schema": {}}}}
        paths[f"/hooks/{kind}"] = {
            "post": operation(
                f"hook_{kind}", hook.what, taken | _refused((400, 401, 413, 503), named), requestBody=body
            )
        }
    return paths
