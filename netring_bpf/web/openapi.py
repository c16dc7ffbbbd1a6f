"""The server's API in the form of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import netring_bpf
from netring_bpf.web.clean import MAX_TEXT
from netring_bpf.web.records import COLUMNS
from netring_bpf.web.window import KINDS

__all__ = ["document"]

Schema = dict[str, Any]

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_YES: Final[Schema] = {"type": "boolean"}
_TEXT: Final[Schema] = {"type": "string", "maxLength": MAX_TEXT}
_MAYBE: Final[Schema] = {"type": ["string", "null"], "maxLength": MAX_TEXT}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_MAC: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"}
_VERSION: Final[Schema] = {"const": 1}
_STATUS: Final[Schema] = {"enum": ["running", "link_down", "ended", "failed"]}


def _object(fields: Schema, optional: Iterable[str] = ()) -> Schema:
    left_out = set(optional)
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in left_out],
        "additionalProperties": False,
    }


def _list(items: Schema, most: int | None = None) -> Schema:
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _all(fields: Iterable[str], kind: Schema) -> Schema:
    return dict.fromkeys(fields, kind)


def _schemas() -> Schema:
    rates = _all(("bits_per_second", "packets_per_second", "flows_per_second"), _NUMBER)
    counts = (
        "bytes", "bytes_sent", "bytes_received", "packets", "packets_sent", "packets_received",
        "flows", "error",
    )  # fmt: skip
    health: Schema = {
        **_all(("received", "lost", "flows_live", "flows_capacity", "flows_evicted"), _COUNT),
        **_all(("events_lost", "events_lagged", "memory", "restarts"), _COUNT),
        **_all(("devices", "devices_online"), _COUNT),
        **_all(("loss", "table_fill"), _SHARE),
        "not_keyed": {"type": "object", "additionalProperties": _COUNT},
        "balanced": _YES,
        "cpu": _NUMBER,
    }
    return {
        "Sums": _object(_all(("packets", "bytes", "flows"), _COUNT)),
        "Traffic": _object(_all(("total", "in", "out", "internal", "transit"), _ref("Sums"))),
        "Rates": _object(rates),
        "Health": _object(health, optional=["devices", "devices_online"]),
        "Stats": _object(
            {
                "event": {"const": "stats"},
                "ts": _TIME,
                "interface": _TEXT,
                "number": _COUNT,
                "start": _TIME,
                "seconds": _NUMBER,
                "rates": _object(_all(("total", "in", "out"), _ref("Rates"))),
                "traffic": _ref("Traffic"),
                "since_start": _ref("Traffic"),
                "health": _ref("Health"),
            }
        ),
        "TopRow": _object({"key": _TEXT, "name": _TEXT, **_all(counts, _COUNT)}, optional=["name"]),
        "Top": _object(_all(KINDS, _list(_ref("TopRow")))),
        "Device": _object(
            {
                "mac": _MAC,
                "name": _TEXT,
                "vendor": _TEXT,
                "random": _YES,
                "is_gateway": _YES,
                "first": _TIME,
                "last": _TIME,
                "addresses": _list(_TEXT, 8),
                "vlans": _list(_COUNT),
                **_all(("packets_sent", "packets_received"), _COUNT),
                **_all(("bytes_sent", "bytes_received", "flows"), _COUNT),
                "offers": _list(_TEXT),
                "uses": _list(_TEXT),
                "recent": _list(_COUNT, 30),
            },
            optional=["name", "vendor"],
        ),
        "Flow": _object(
            {
                "id": _COUNT,
                "ts": _TIME,
                "start": _TIME,
                "duration": _NUMBER,
                **_all(("proto", "service", "name", "orig_name"), _TEXT),
                **_all(("orig_addr", "resp_addr"), _TEXT),
                **_all(("orig_port", "resp_port"), _COUNT),
                **_all(("orig_mac", "resp_mac"), _MAC),
                **_all(("orig_bytes", "resp_bytes", "orig_packets", "resp_packets"), _COUNT),
                **_all(("conn_state", "history", "reason"), _TEXT),
            },
            optional=["service", "name", "orig_name", "orig_mac", "resp_mac"],
        ),
        "Info": _object(
            {
                "version": _TEXT,
                "interface": _TEXT,
                "backend": _TEXT,
                "attach": _MAYBE,
                "filter": _MAYBE,
                "since": _TIME,
                "options": {"type": "object", "additionalProperties": _TEXT},
                "notices": _list(_TEXT),
                "is_file": _YES,
            }
        ),
        "Error": _object({"version": _VERSION, "error": _TEXT}),
    }


def _answer(what: str, fields: Schema) -> Schema:
    schema = _object({"version": _VERSION, **fields})
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _plain(what: str, kind: str = "text/plain") -> Schema:
    return {"description": what, "content": {kind: {"schema": {"type": "string"}}}}


def _get(summary: str, answers: Schema, *parameters: Schema) -> Schema:
    refused = {
        "401": _plain("A token is needed, by a header or a session's cookie."),
        "403": _plain("The request comes from another site."),
        "421": _plain("The server does not go by the name in the header Host."),
    }
    operation: Schema = {"summary": summary, "responses": answers | refused}
    return {"get": operation | ({"parameters": list(parameters)} if parameters else {})}


def _limit(default: int, most: int) -> Schema:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"name": "limit", "in": "query", "description": "so many at most", "schema": schema}


def document() -> Schema:
    """Return the document."""
    search = {
        "name": "search",
        "in": "query",
        "description": "words, each of which a flow must hold in its addresses, ports, names, "
        "protocol, service, MAC addresses, state or reason",
        "schema": {"type": "string", "maxLength": 200},
    }
    health = {
        "healthy": _YES,
        "balanced": _YES,
        "status": _STATUS,
        "message": _MAYBE,
    }
    bad = {
        "description": "A parameter breaks its rule.",
        "content": {"application/json": {"schema": _ref("Error")}},
    }
    cell = {"type": ["number", "string"]}
    row = _list(cell, len(COLUMNS)) | {"minItems": len(COLUMNS)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "netring_bpf",
            "version": netring_bpf.__version__,
            "description": "A capture of network traffic: its sums, its health, and its flows.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"session": []}],
        "paths": {
            "/api/info": _get("The capture", {"200": _answer("It.", {"info": _ref("Info")})}),
            "/api/stats": _get(
                "The latest interval",
                {
                    "200": _answer(
                        "It; null before the first.",
                        {"stats": {"oneOf": [_ref("Stats"), {"type": "null"}]}},
                    )
                },
            ),
            "/api/history": _get(
                "The last intervals",
                {
                    "200": _answer(
                        "A row for each, the latest last. Bits, packets and flows are per second; "
                        "received and lost are frames of the interval.",
                        {
                            "columns": {"const": list(COLUMNS)},
                            "rows": _list(row, 900),
                        },
                    )
                },
            ),
            "/api/top": _get(
                "The largest of each kind",
                {
                    "200": _answer(
                        "Tables of the latest interval, of the last minute, and since the start.",
                        {
                            "seconds": _NUMBER,
                            **_all(("interval", "minute", "since_start"), _ref("Top")),
                        },
                    )
                },
                _limit(10, 50),
            ),
            "/api/devices": _get(
                "The devices behind the link",
                {
                    "200": _answer(
                        "The busiest first.",
                        {"watched": _YES, "known": _COUNT, "devices": _list(_ref("Device"), 4096)},
                    )
                },
                _limit(200, 4096),
            ),
            "/api/flows": _get(
                "The latest flows that have ended",
                {
                    "200": _answer(
                        "The latest first. Flows beyond what a second may bring are left out.",
                        {
                            "flows": _list(_ref("Flow"), 2000),
                            **_all(("kept", "ended", "left_out", "lagged"), _COUNT),
                        },
                    ),
                    "400": bad,
                },
                search,
                _limit(100, 2000),
            ),
            "/api/events": _get(
                "What happens, as server-sent events",
                {
                    "200": _plain("Events, the first a snapshot of all.", "text/event-stream"),
                    "503": _plain("There are too many viewers."),
                },
            ),
            "/healthz": _get(
                "Whether the capture runs and its books balance",
                {
                    "200": _answer("It is so.", health),
                    "503": _answer("It is not so.", health),
                },
            ),
            "/metrics": _get(
                "Metrics for Prometheus",
                {
                    "200": _plain("The metrics."),
                    "501": _plain("A package is missing."),
                },
            ),
            "/api/openapi.json": _get(
                "This document",
                {
                    "200": {
                        "description": "It.",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
            ),
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "netring_session"},
            },
        },
    }
