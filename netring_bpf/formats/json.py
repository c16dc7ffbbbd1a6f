"""The wire format: events as JSON objects. No I/O.

C encodes the batches of a capture (``batch_text.py``). This file encodes flow events that somebody
else has made and published, and all events that are not of flows.

Every object has ``event`` and ``ts`` (nanoseconds since the Unix epoch). The flow events,
``started``, ``established``, ``updated`` and ``ended``, have besides, in this order:

- ``id``: the flow's, unique within the capture
- ``proto``: the protocol's name, or its number as text
- ``orig``, ``resp``: originator and responder, each ``{"addr": "10.0.0.1", "port": 1}``
- ``vlans``: the VLAN ids, outermost first
- ``icmp_id``: of ICMP only
- ``start``, ``last``: the times of the first and the latest packet, as ``ts``
- ``orig_packets``, ``orig_bytes``, ``resp_packets``, ``resp_bytes``: the frames of each side
- ``orig_ip_bytes``, ``orig_payload``, ``resp_ip_bytes``, ``resp_payload``: the IP packets and the
  transport's payload of each side
- ``history``, ``conn_state``: the flow's life in Zeek's words, as in ``Flow``
- ``community_id``: the flow's name in other tools; not of pairs of stations
- ``network``: the VNI, ``tunnel``: the kind of tunnel around it, ``icmp_errors``: the number that
  quoted it; each only if there is one
- ``reason``: of ``ended`` only, a value of ``FlowEnd``
- ``capture``, ``seq``: if the caller gives them; they tell one record from every other

``link_down`` and ``link_up`` have ``interface``, ``error`` has ``message``, ``lagged`` has
``missed``, the number of events. Fields may be added; these keep their names and meanings.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from netring_bpf.events.event import (
    CaptureError,
    Endpoint,
    Event,
    FlowEnded,
    FlowEstablished,
    FlowStarted,
    FlowUpdated,
    Lagged,
    LinkDown,
    LinkUp,
)

__all__ = ["encode_event"]

_ICMP: Final = (1, 58)
_MAC: Final = 6  # bytes of a station's address
_FLOW_EVENTS: Final = {
    FlowStarted: "started",
    FlowEstablished: "established",
    FlowUpdated: "updated",
    FlowEnded: "ended",
}


class _Endpoint(msgspec.Struct, gc=False):
    addr: str
    port: int


class _FlowRecord(msgspec.Struct, gc=False):
    event: str
    ts: int
    id: int
    proto: str
    orig: _Endpoint
    resp: _Endpoint
    vlans: tuple[int, ...]
    icmp_id: int | UnsetType
    start: int
    last: int
    orig_packets: int
    orig_bytes: int
    resp_packets: int
    resp_bytes: int
    orig_ip_bytes: int
    orig_payload: int
    resp_ip_bytes: int
    resp_payload: int
    history: str
    conn_state: str
    community_id: str | UnsetType
    network: int | UnsetType
    tunnel: str | UnsetType
    icmp_errors: int | UnsetType
    reason: str | UnsetType
    capture: str | UnsetType
    seq: int | UnsetType


_encode = msgspec.json.Encoder().encode


def encode_event(event: Event, *, capture: str | None = None, seq: int | None = None) -> bytes:
    """Return the event as one JSON object, without a newline."""
    match event:
        case LinkDown(ts=ts, interface=interface):
            fields = {"event": "link_down", "ts": ts, "interface": _text(interface)}
        case LinkUp(ts=ts, interface=interface):
            fields = {"event": "link_up", "ts": ts, "interface": _text(interface)}
        case CaptureError(ts=ts, error=error):
            fields = {"event": "error", "ts": ts, "message": _text(str(error))}
        case Lagged(ts=ts, missed=missed):
            fields = {"event": "lagged", "ts": ts, "missed": missed}
        case _:
            return _encode(_flow_record(event, capture, seq))
    if capture is not None:
        fields["capture"] = capture
    if seq is not None:
        fields["seq"] = seq
    return _encode(fields)


def _flow_record(
    event: FlowStarted | FlowEstablished | FlowUpdated | FlowEnded,
    capture: str | None,
    seq: int | None,
) -> _FlowRecord:
    flow = event.flow
    key = flow.key
    return _FlowRecord(
        _FLOW_EVENTS[type(event)],
        event.ts,
        flow.id,
        key.proto_name,
        _endpoint(key.orig),
        _endpoint(key.resp),
        key.vlans,
        key.icmp_id if key.proto in _ICMP else UNSET,
        flow.start,
        flow.last,
        flow.orig.packets,
        flow.orig.bytes,
        flow.resp.packets,
        flow.resp.bytes,
        flow.orig.ip_bytes,
        flow.orig.payload,
        flow.resp.ip_bytes,
        flow.resp.payload,
        flow.history,
        flow.conn_state,
        UNSET if len(key.orig.packed) == _MAC else key.community_id(),
        UNSET if key.network is None else key.network,
        UNSET if flow.tunnel is None else flow.tunnel.kind.value,
        flow.icmp_errors or UNSET,
        event.reason.value if isinstance(event, FlowEnded) else UNSET,
        UNSET if capture is None else capture,
        UNSET if seq is None else seq,
    )


def _endpoint(endpoint: Endpoint) -> _Endpoint:
    return _Endpoint(endpoint.text, endpoint.port)


def _text(text: str) -> str:
    """Return the text as JSON can hold it: an interface's name may have bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()
