"""Events as JSON, one object each. The only file that knows msgspec.

Fields of a flow event, which later versions may add to but not change: ``event`` ("started",
"established", "updated", "ended"), ``ts``, ``id``, ``proto``, ``orig`` and ``resp`` (each with
``addr`` and ``port``), ``vlans``, ``start``, ``last``, ``orig_packets``, ``orig_bytes``,
``resp_packets``, ``resp_bytes``, ``history``; ``icmp_id`` for ICMP; ``reason`` of an end. Times
are nanoseconds since the Unix epoch. The other events: "link_down" and "link_up" with
``interface``, "error" with ``message``, "lagged" with ``missed``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from netring_bpf.errors import SinkError
from netring_bpf.records import (
    CaptureError,
    Endpoint,
    Event,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    Lagged,
    LinkDown,
    LinkUp,
)

__all__ = ["encode_event", "topic_level"]

_encode = msgspec.json.Encoder().encode
_ICMP = {1, 58}


def encode_event(event: Event, *, capture: str | None = None, seq: int | None = None) -> bytes:
    """Return the event as one JSON object, on one line.

    ``capture`` and ``seq`` are put in where given: together they tell a consumer which records
    it has seen, as MQTT's QoS 1 may deliver one twice.
    """
    record = _record(event)
    if capture is not None:
        record["capture"] = capture
    if seq is not None:
        record["seq"] = seq
    return _encode(record)


def _record(event: Event) -> dict[str, Any]:
    match event:
        case LinkDown():
            return {"event": "link_down", "ts": event.ts, "interface": event.interface}
        case LinkUp():
            return {"event": "link_up", "ts": event.ts, "interface": event.interface}
        case CaptureError():
            return {"event": "error", "ts": event.ts, "message": str(event.error)}
        case Lagged():
            return {"event": "lagged", "ts": event.ts, "missed": event.missed}
        case _:
            return _flow_record(event)


def _flow_record(event: FlowEvent) -> dict[str, Any]:
    flow, key = event.flow, event.flow.key
    record: dict[str, Any] = {
        "event": _kind(event),
        "ts": event.ts,
        "id": flow.id,
        "proto": key.proto_name,
        "orig": _endpoint(key.orig),
        "resp": _endpoint(key.resp),
        "vlans": key.vlans,
        "start": flow.start,
        "last": flow.last,
        "orig_packets": flow.orig.packets,
        "orig_bytes": flow.orig.bytes,
        "resp_packets": flow.resp.packets,
        "resp_bytes": flow.resp.bytes,
        "history": flow.history,
    }
    if key.proto in _ICMP:
        record["icmp_id"] = key.icmp_id
    if isinstance(event, FlowEnded):
        record["reason"] = event.reason.value
    return record


def _kind(event: FlowEvent) -> str:
    match event:
        case FlowStarted():
            return "started"
        case FlowEstablished():
            return "established"
        case FlowEnded():
            return "ended"
        case _:
            return "updated"


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {"addr": str(endpoint.addr), "port": endpoint.port}


def topic_level(text: str) -> str:
    """Make one level of an MQTT topic of any text, reversibly (percent-encoding).

    Interface and host names may hold ``+``, ``#`` and ``/``, which mean something in a topic.
    Raises ``SinkError`` for an empty text and for NUL, which no topic may hold.
    """
    if not text or "\0" in text:
        raise SinkError(f"MQTT topic level {text!r}: must have a character, and no NUL")
    return quote(text, safe="")
